//! The checks on every request before any work is done for it: is there room for its connection, is
//! its head within bounds, is it meant for this broker, does it come from an allowed page, and are
//! its `Weir-…` headers known.
//!
//! Host and origin keep foreign web pages out. A page can make its own name resolve to a loopback
//! address (DNS rebinding), which `Host` reveals, and it can send requests and open sockets across
//! sites, which `Origin` reveals. Programs send no `Origin`.

use std::net::{IpAddr, Ipv6Addr};

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, HOST, HeaderValue, ORIGIN, TRANSFER_ENCODING,
};
use actix_web::http::{ConnectionType, Method, StatusCode, Version, uri::Authority};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, ResponseError};

use super::message_headers;
use super::parameters::header;
use super::pieces;
use crate::edge::Edge;
use crate::edge::connections::{Connection, Link, ReadingEnd};
use crate::edge::error::{Code, Problem};

/// Middleware around all handlers.
pub async fn guard_request(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let refused = request.conn_data::<Connection>().and_then(Connection::refused);
    if let Some(why) = refused {
        let mut response = Problem::new(Code::TooManyConnections, why).error_response();
        response.head_mut().set_connection_type(ConnectionType::Close);
        return Ok(request.into_response(response).map_into_right_body().map_into_left_body());
    }
    let link = Link::of(request.request());
    link.begin(body_length(&request));
    let chunks = Chunks::of(&request);
    let version = request.version();
    let checked = match request.app_data::<Data<Edge>>() {
        Some(edge) => check(edge, request.request()),
        None => Ok(()),
    };
    let mut answered = match checked {
        Ok(()) => next.call(request).await?.map_into_left_body(),
        Err(problem) => request.into_response(problem.error_response()).map_into_right_body(),
    };
    if let Some(chunks) = chunks {
        chunks.end_after(answered.response_mut());
    }
    finish(answered.response_mut(), version);
    match answered.status() {
        StatusCode::SWITCHING_PROTOCOLS => link.upgraded(),
        _ => link.answered(),
    }
    Ok(answered.map_body(|head, body| pieces::marked(head.status, body, &link)))
}

/// The length of a request's body; `None` for a body in chunks. actix-http has refused malformed
/// values.
fn body_length(request: &ServiceRequest) -> Option<u64> {
    if request.headers().contains_key(TRANSFER_ENCODING) {
        return None;
    }
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    Some(length.and_then(|length| length.trim().parse().ok()).unwrap_or(0))
}

/// Headers of every answer.
fn finish<B: MessageBody>(response: &mut HttpResponse<B>, version: Version) {
    if !response.headers().contains_key(CACHE_CONTROL) {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    // HTTP/1.0 has no chunks (RFC 9112 §6.1): the end of the connection ends a body
    // whose length is not known.
    if version < Version::HTTP_11 && response.body().size() == BodySize::Stream {
        response.head_mut().no_chunking(true);
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
}

/// A body in chunks. actix-http continues to read one that no handler consumed, so that the
/// connection can be used again, and it may never end.
struct Chunks {
    /// The body of such a request is never consumed.
    untaken: bool,
    reading_end: Option<ReadingEnd>,
}

impl Chunks {
    fn of(request: &ServiceRequest) -> Option<Self> {
        request.headers().contains_key(TRANSFER_ENCODING).then(|| Self {
            untaken: !matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH),
            reading_end: request.conn_data::<Connection>().and_then(Connection::reading_end),
        })
    }

    /// The connection ends with this answer, if the body may not have been consumed.
    fn end_after<B>(self, response: &mut HttpResponse<B>) {
        if self.untaken || !response.status().is_success() {
            response.head_mut().set_connection_type(ConnectionType::Close);
            if let Some(reading_end) = self.reading_end {
                reading_end.end();
            }
        }
    }
}

fn check(edge: &Edge, request: &HttpRequest) -> Result<(), Problem> {
    let head = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let uri = request.uri();
    let bytes = uri.path_and_query().map_or(0, |path| path.as_str().len()) + head.sum::<usize>();
    if bytes > edge.limits.headers_bytes_max {
        return Err(Problem::headers_too_large(bytes, edge.limits.headers_bytes_max));
    }
    // Where the target names its host, that one counts (RFC 9112 §3.2.2).
    let host = match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => header(request, HOST.as_str())?,
    };
    match host {
        Some(host) if is_ours(host, &edge.hosts.allowed_hosts) => {}
        // HTTP/1.0 has no Host, and no browser speaks it.
        None if request.version() < Version::HTTP_11 => {}
        None => return Err(Problem::invalid("Host", "is missing")),
        Some(_) => {
            let why = "`Host` is neither an address nor one of `server.allowed_hosts`";
            return Err(Problem::new(Code::Forbidden, why));
        }
    }
    if request.headers().get_all(ORIGIN).count() > 1 {
        return Err(Problem::invalid("Origin", "must not be repeated"));
    }
    match header(request, ORIGIN.as_str())? {
        Some(origin) if !may_ask(origin, host, &edge.hosts.allowed_origins) => {
            let why = "the page's `Origin` is neither the broker's own nor one of \
                       `server.allowed_origins`";
            return Err(Problem::new(Code::OriginNotAllowed, why));
        }
        _ => {}
    }
    message_headers::check_names(request)
}

/// The host is an address or a listed name; the port may be any.
fn is_ours(host: &str, allowed: &[String]) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host();
    // Behind a bracket the parser accepts anything.
    let rest = authority.as_str().strip_prefix(name).unwrap_or_default();
    let port = rest.strip_prefix(':').unwrap_or(rest);
    if port.bytes().any(|byte| !byte.is_ascii_digit()) {
        return false;
    }
    let in_brackets = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let address = match in_brackets {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => name.parse::<IpAddr>().is_ok(),
    };
    address || allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
}

/// The origin is the one the request was sent to, or a listed one.
fn may_ask(origin: &str, host: Option<&str>, allowed: &[String]) -> bool {
    let own = origin.split_once("://").is_some_and(|(_, authority)| {
        host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
    });
    own || is_listed(origin, allowed)
}

/// The origin is one of those that were listed.
pub(super) fn is_listed(origin: &str, allowed: &[String]) -> bool {
    allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_or_listed_names() {
        let allowed = ["localhost".to_owned(), "broker.example".to_owned()];
        for good in ["127.0.0.1", "127.0.0.1:7077", "[::1]:7077", "LOCALHOST:1", "broker.example"] {
            assert!(is_ours(good, &allowed), "{good}");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "a@127.0.0.1",
            "::1",
            "[::1].evil.example",
            "a b",
        ] {
            assert!(!is_ours(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn origins_are_our_own_or_listed() {
        let allowed = ["https://app.example".to_owned()];
        let host = Some("127.0.0.1:7077");
        for good in ["http://127.0.0.1:7077", "https://app.example", "https://APP.example"] {
            assert!(may_ask(good, host, &allowed), "{good}");
        }
        for bad in [
            "null",
            "",
            "http://127.0.0.1:7078",
            "http://app.example",
            "https://app.example.evil",
            "https://evil.example",
        ] {
            assert!(!may_ask(bad, host, &allowed), "{bad}");
        }
        assert!(!may_ask("http://a", None, &[]));
    }
}
