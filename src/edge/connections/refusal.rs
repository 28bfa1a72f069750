//! What actix-http refuses by itself: found in its output, and replaced by a problem object.
//!
//! Its answers have a status, a date and nothing else; no answer of the broker's own is like that,
//! since they all have `Cache-Control`. Which field is wrong is found by parsing the head once
//! more.

use std::time::SystemTime;

use actix_web::http::header::HttpDate;
use httparse::{EMPTY_HEADER, Error, Request, Status, parse_chunk_size};

use super::link::Link;
use crate::edge::error::{Code, Problem};

/// Most headers that actix-http reads (`MAX_HEADERS` of its h1).
const HEADERS_MAX: usize = 96;
/// More than any answer of actix-http's own has.
const BARE_BYTES_MAX: usize = 192;

/// An answer without a body of actix-http's own.
#[derive(Debug)]
pub(super) struct Bare<'a> {
    /// Where it begins.
    pub(super) at: usize,
    /// The answer before it was the connection's last one, so this one is superfluous.
    pub(super) behind_last: bool,
    status: u16,
    date: &'a str,
}

/// Finds such an answer at the end of what is written at once.
pub(super) fn find(written: &[u8]) -> Option<Bare<'_>> {
    if !written.ends_with(b"\r\n\r\n") {
        return None;
    }
    let from = written.len().saturating_sub(BARE_BYTES_MAX);
    let at = from + written[from..].windows(7).rposition(|window| window == b"HTTP/1.")?;
    let (status, date) = bare(&written[at..])?;
    let behind_last = whole_answers(&written[..at])?;
    Some(Bare { at, behind_last, status, date })
}

/// Status and date of an answer that has nothing else.
fn bare(answer: &[u8]) -> Option<(u16, &str)> {
    let mut headers = [EMPTY_HEADER; 4];
    let mut parsed = httparse::Response::new(&mut headers);
    if parsed.parse(answer) != Ok(Status::Complete(answer.len())) {
        return None;
    }
    let status = parsed.code.filter(|status| *status >= 400)?;
    let (mut empty, mut date) = (false, "");
    for header in parsed.headers {
        match header.name {
            "content-length" => empty = header.value == b"0",
            "connection" => {}
            "date" => date = std::str::from_utf8(header.value).ok()?,
            _ => return None,
        }
    }
    (empty && !date.is_empty()).then_some((status, date))
}

/// Whether the last of these answers is the connection's last; `None` if they are incomplete.
fn whole_answers(mut written: &[u8]) -> Option<bool> {
    let mut last = false;
    while !written.is_empty() {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut headers);
        let Ok(Status::Complete(head)) = parsed.parse(written) else { return None };
        let value = |name: &str| {
            let header = parsed.headers.iter().find(|header| header.name == name);
            header.and_then(|header| std::str::from_utf8(header.value).ok())
        };
        last = value("connection") == Some("close");
        let body = &written[head..];
        written = match (value("transfer-encoding"), value("content-length")) {
            (Some(_), _) => behind_chunks(body)?,
            (None, Some(length)) => body.get(length.parse::<usize>().ok()?..)?,
            (None, None) => body,
        };
    }
    Some(last)
}

fn behind_chunks(mut body: &[u8]) -> Option<&[u8]> {
    loop {
        let Ok(Status::Complete((begin, size))) = parse_chunk_size(body) else { return None };
        // Each chunk ends with CR LF.
        body = body.get(begin.checked_add(usize::try_from(size).ok()?)?.checked_add(2)?..)?;
        if size == 0 {
            return Some(body);
        }
    }
}

/// The answer to a head that did not come in time.
pub(super) fn too_slow(link: &Link) -> Vec<u8> {
    let date = HttpDate::from(SystemTime::now()).to_string();
    Bare { at: 0, behind_last: false, status: 408, date: &date }.problem(link)
}

impl Bare<'_> {
    /// The answer with the same status, and the reason.
    pub(super) fn problem(&self, link: &Link) -> Vec<u8> {
        let problem = match self.status {
            408 => Problem::new(Code::RequestTimeout, "the request's head did not come in time"),
            431 => {
                let why = format!(
                    "the head is longer than is read, or has more than {HEADERS_MAX} headers"
                );
                Problem::new(Code::HeadersTooLarge, why)
            }
            400..=499 => what_is_wrong(&link.head()),
            _ => Problem::new(Code::Internal, "the broker failed at this request"),
        };
        let (status, body) = (problem.status(), problem.to_json());
        let retry_after = problem.retry_after_seconds().map(|s| format!("retry-after: {s}\r\n"));
        format!(
            "HTTP/1.1 {} {}\r\ncontent-length: {}\r\ncontent-type: application/problem+json\r\n\
             cache-control: no-store\r\n{}connection: close\r\ndate: {}\r\n\r\n{body}",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default(),
            body.len(),
            retry_after.unwrap_or_default(),
            self.date
        )
        .into_bytes()
    }
}

/// Why a head was refused, as far as its beginning tells.
fn what_is_wrong(head: &[u8]) -> Problem {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    match request.parse(head) {
        Err(Error::Version) => {
            let why = "HTTP/1.1 and HTTP/1.0 are supported";
            Problem::invalid("version", why)
        }
        Err(Error::Token | Error::Status) => {
            Problem::invalid("request line", "must be `METHOD TARGET HTTP/1.1`")
        }
        Err(Error::HeaderName | Error::HeaderValue | Error::NewLine) => {
            Problem::invalid("headers", "a line is no `Name: value` of RFC 9112")
        }
        Err(Error::TooManyHeaders) => {
            let why = format!("the head has more than {HEADERS_MAX} headers");
            Problem::new(Code::HeadersTooLarge, why)
        }
        Ok(_) => of_headers(&request),
    }
}

fn of_headers(request: &Request<'_, '_>) -> Problem {
    let count =
        |name: &str| request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name)).count();
    let has = |name: &str| count(name) > 0;
    if count("host") > 1 {
        return Problem::invalid("Host", "must not be repeated");
    }
    match (has("content-length"), has("transfer-encoding")) {
        (true, true) => {
            Problem::invalid("Transfer-Encoding", "must not be combined with `Content-Length`")
        }
        (true, false) => Problem::invalid("Content-Length", "must be one whole number"),
        (false, true) => {
            Problem::invalid("Transfer-Encoding", "must be `chunked`, once, and in HTTP/1.1")
        }
        (false, false) if request.version == Some(1) && !has("host") => {
            Problem::invalid("Host", "is missing")
        }
        (false, false) => Problem::invalid("request", "is not a valid HTTP/1.1 request"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\
                        date: Sat, 28 Nov 2026 18:45:18 GMT\r\n\r\n";

    fn found(written: &str) -> Option<(usize, bool)> {
        find(written.as_bytes()).map(|bare| (bare.at, bare.behind_last))
    }

    #[test]
    fn an_answer_without_a_body_is_found_behind_whole_answers_only() {
        assert_eq!(found(BARE), Some((0, false)));
        let sized = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        let none = "HTTP/1.1 204 No Content\r\ncache-control: no-store\r\n\r\n";
        let last = "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
        for before in [sized, chunked, none, &format!("{sized}{chunked}{none}")] {
            assert_eq!(found(&format!("{before}{BARE}")), Some((before.len(), false)));
        }
        assert_eq!(found(&format!("{sized}{last}{BARE}")), Some((sized.len() + last.len(), true)));
    }

    #[test]
    fn a_payload_that_looks_like_an_answer_is_left_alone() {
        let sized =
            |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        assert_eq!(found(&sized(BARE)), None);
        assert_eq!(found(&sized(&sized(BARE))), None);
        let chunked = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{BARE}\r\n",
            BARE.len()
        );
        assert_eq!(found(&chunked), None);
        assert_eq!(found(&format!("the rest of a payload{BARE}")), None);
        assert_eq!(found(&BARE.replace("400 Bad Request", "204 No Content")), None);
        assert_eq!(found(&BARE.replace("date", "cache-control: no-store\r\ndate")), None);
    }

    #[test]
    fn the_field_that_is_wrong_is_named() {
        for (head, named) in [
            ("GET / HTTP/1.2\r\n", "`version`"),
            ("GET / HTTP/1.1\r\n\r\n", "`Host`"),
            ("G@T / HTTP/1.1\r\n\r\n", "`request line`"),
            ("GET / HTTP/1.1\r\nHost: a\r\nB b: c\r\n\r\n", "`headers`"),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "`Content-Length`"),
            (
                "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                "combined",
            ),
            ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "`Transfer-Encoding`"),
            ("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", "`Host`"),
            ("", "`request`"),
        ] {
            let problem = what_is_wrong(head.as_bytes()).to_string();
            assert!(problem.contains(named), "{head:?}: {problem}");
        }
    }
}
