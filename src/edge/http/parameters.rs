//! Query parameters and headers: accepted as text, then parsed one by one, so that an error can
//! name the one at fault.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::{Accept, Header, Quality};
use actix_web::{FromRequest, HttpRequest};
use serde::de::DeserializeOwned;

use crate::edge::error::Problem;
use crate::model::NoPosition;
use crate::patterns::publish_subscribe::Start;

/// The query as a struct of optional strings that denies unknown fields.
pub(in crate::edge) fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Problem> {
    let query = serde_urlencoded::from_str(request.query_string());
    query.map_err(|error| Problem::invalid("query", error))
}

/// A request without query parameters: an argument of its handler.
pub(super) struct NoQuery;

impl FromRequest for NoQuery {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::check(request).map(|()| Self))
    }
}

impl NoQuery {
    /// The request has none.
    pub(super) fn check(request: &HttpRequest) -> Result<(), Problem> {
        let first = request.query_string().split('&').find(|parameter| !parameter.is_empty());
        match first.map(|first| first.split('=').next().unwrap_or_default()) {
            None => Ok(()),
            Some(name) => Err(Problem::invalid(name, "there are no parameters here")),
        }
    }
}

/// A number within its range.
pub(super) fn number<T>(
    name: &str,
    given: Option<&str>,
    range: RangeInclusive<T>,
    default: T,
) -> Result<T, Problem>
where
    T: FromStr + PartialOrd + Display,
{
    let Some(text) = given else { return Ok(default) };
    match text.parse::<T>() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => {
            let (low, high) = range.into_inner();
            Err(Problem::invalid(name, format!("must be a whole number from {low} to {high}")))
        }
    }
}

/// A header as text.
pub(in crate::edge) fn header<'a>(
    request: &'a HttpRequest,
    name: &str,
) -> Result<Option<&'a str>, Problem> {
    let mut values = request.headers().get_all(name);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::invalid(name, "the header must not be repeated"));
    }
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(Problem::invalid(name, "the header must be UTF-8")),
    }
}

/// A header that is a list, which may span several lines.
pub(in crate::edge) fn list_header(
    request: &HttpRequest,
    name: &str,
) -> Result<Option<String>, Problem> {
    let values: Result<Vec<&str>, _> = request
        .headers()
        .get_all(name)
        .map(|value| std::str::from_utf8(value.as_bytes()))
        .collect();
    let values = values.map_err(|_| Problem::invalid(name, "the header must be UTF-8"))?;
    Ok((!values.is_empty()).then(|| values.join(",")))
}

/// The client's most preferred media type that `known` supports; `any` if the client names none.
/// (RFC 9110 §12.5.1; types refused with `q=0` are left out.)
pub(super) fn accepted<T>(
    request: &HttpRequest,
    any: T,
    known: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let accept = Accept::parse(request).ok()?;
    if accept.is_empty() {
        return Some(any);
    }
    let mut ranges: Vec<_> = accept.iter().filter(|range| range.quality > Quality::ZERO).collect();
    ranges.sort_by_key(|range| std::cmp::Reverse(range.quality));
    ranges.into_iter().find_map(|range| known(range.item.essence_str()))
}

/// `from`: an offset, a position, `earliest`, `latest` or a time.
pub(in crate::edge) fn start(given: Option<&str>, default: Start) -> Result<Start, Problem> {
    let Some(text) = given else { return Ok(default) };
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        _ if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() => text
            .parse()
            .ok()
            .filter(|offset| *offset < u64::MAX)
            .map(Start::Offset)
            .ok_or_else(|| Problem::invalid("from", "this offset is beyond any possible one")),
        _ => match text.parse() {
            Ok(position) => Ok(Start::Position(position)),
            Err(NoPosition) => text.parse().map(Start::Time).map_err(|_| {
                let why = "must be an offset, a position (`{epoch}-{offset}`), `earliest`, \
                           `latest` or an RFC 3339 time";
                Problem::invalid("from", why)
            }),
        },
    }
}
