//! Query parameters and headers: taken as text, then read one by one, so that an error can name
//! the one.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use actix_web::HttpRequest;
use actix_web::web::Query;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::edge::error::Problem;
use crate::patterns::publish_subscribe::Start;

/// The query as a struct of optional strings that denies unknown fields.
pub(in crate::edge) fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Problem> {
    let query = Query::<T>::from_query(request.query_string());
    query.map(Query::into_inner).map_err(|error| Problem::invalid("query", error))
}

/// What takes no query.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoQuery {}

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
    let Some(value) = request.headers().get(name) else { return Ok(None) };
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(Problem::invalid(name, "the header must be UTF-8")),
    }
}

/// `from`: an offset, `earliest`, `latest` or a time.
pub(in crate::edge) fn start(given: Option<&str>, default: Start) -> Result<Start, Problem> {
    let Some(text) = given else { return Ok(default) };
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        _ if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() => text
            .parse()
            .map(Start::Offset)
            .map_err(|_| Problem::invalid("from", "this offset is beyond any there can be")),
        _ => text.parse().map(Start::Time).map_err(|_| {
            Problem::invalid("from", "must be an offset, `earliest`, `latest` or an RFC 3339 time")
        }),
    }
}
