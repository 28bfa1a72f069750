//! How long an answer may be held back, and for which stage: `?until=` and `Prefer: wait` (RFC
//! 7240).

use std::time::Duration;

use actix_web::http::header::HeaderName;
use actix_web::{HttpRequest, HttpResponseBuilder};

use super::parameters::list_header;
use crate::edge::error::Problem;
use crate::patterns::request_acknowledge::Until;

/// Longest time an answer is held back; a longer wish is cut to this.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// `until`: the stage that is waited for.
pub(super) fn until(given: Option<&str>) -> Result<Until, Problem> {
    match given {
        None | Some("logged") => Ok(Until::Logged),
        Some("queued") => Ok(Until::Queued),
        Some("delivered") => Ok(Until::Delivered),
        Some("acked") => Ok(Until::Acked),
        Some(_) => {
            let why = "must be `logged`, `queued`, `delivered` or `acked`";
            Err(Problem::invalid("until", why))
        }
    }
}

/// A client's preference, which need not be met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Preference {
    /// `wait`: how long the answer may be held back.
    pub(super) wait: Option<Duration>,
}

impl Preference {
    pub(super) fn of(request: &HttpRequest) -> Result<Self, Problem> {
        Ok(list_header(request, "prefer")?.map(|text| Self::parse(&text)).unwrap_or_default())
    }

    /// A malformed preference counts as no preference, as the standard has it.
    fn parse(text: &str) -> Self {
        let wait = text.split(',').find_map(|preference| {
            let (name, value) = preference.split(';').next()?.split_once('=')?;
            let seconds: u64 = value.trim().trim_matches('"').parse().ok()?;
            name.trim().eq_ignore_ascii_case("wait").then_some(seconds)
        });
        Self { wait: wait.map(|seconds| Duration::from_secs(seconds).min(WAIT_MAX)) }
    }

    /// Names the preference that was applied.
    pub(super) fn applied(&self, response: &mut HttpResponseBuilder) {
        if let Some(wait) = self.wait {
            let name = HeaderName::from_static("preference-applied");
            response.insert_header((name, format!("wait={}", wait.as_secs())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preference_to_wait_is_found_among_others_and_bounded() {
        let wait = |text| Preference::parse(text).wait.map(|wait| wait.as_secs());
        assert_eq!(wait("wait=5"), Some(5));
        assert_eq!(wait("respond-async, Wait = \"7\"; x=y"), Some(7));
        assert_eq!(wait("wait=86400"), Some(30));
        for none in ["", "respond-async", "wait", "wait=soon", "wait=-1", "awaits=5"] {
            assert_eq!(wait(none), None, "{none}");
        }
    }
}
