//! HTTP/1.1: requests with bodies on a connection that is kept, and single calls to set things up.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};

use super::{await_answer, lossy, number, put_number};

/// A response that has come whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Response<'a> {
    pub status: u16,
    pub head: &'a [u8],
    pub body: &'a [u8],
}

/// `head` is the request line and the headers that are always the same.
pub fn request(out: &mut Vec<u8>, head: &[u8], body: &[u8]) {
    out.extend_from_slice(head);
    out.extend_from_slice(b"content-length: ");
    put_number(out, body.len() as u64);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

/// The response at the start of `input` and how many bytes it has, if it has come whole. It has to
/// say its length.
pub fn response(input: &[u8]) -> Result<Option<(Response<'_>, usize)>> {
    let Some(end) = input.windows(4).position(|part| part == b"\r\n\r\n") else {
        ensure!(input.len() < 65_536, "a head without an end");
        return Ok(None);
    };
    let head = &input[..end];
    let status = match head {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', a, b, c, ..] => {
            number(&[*a, *b, *c])? as u16
        }
        _ => bail!("not a response: {:?}", lossy(head)),
    };
    let bodiless = status < 200 || status == 204;
    let length = match header(head, "content-length") {
        Some(length) => number(length)? as usize,
        None if bodiless => 0,
        None => bail!("a response that does not say its length: {:?}", lossy(head)),
    };
    let body = end + 4;
    match input.get(body..body + length) {
        None => Ok(None),
        Some(text) => Ok(Some((Response { status, head, body: text }, body + length))),
    }
}

/// A header's value.
pub fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (found, value) = line.split_at_checked(name.len())?;
        (found.eq_ignore_ascii_case(name.as_bytes()) && value.first() == Some(&b':'))
            .then(|| value[1..].trim_ascii())
    })
}

/// One request on a connection of its own; the status and the body.
pub fn call(at: SocketAddr, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let mut stream = crate::link::connect(at)?;
    let mut out = Vec::new();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {at}\r\naccept: application/json, text/plain\r\n\
         content-type: application/json\r\n"
    );
    request(&mut out, head.as_bytes(), body.as_bytes());
    stream.write_all(&out)?;
    answer(&mut stream).with_context(|| format!("{method} {path}"))
}

fn answer(stream: &mut TcpStream) -> Result<(u16, String)> {
    await_answer(stream, |came| {
        let Some((response, used)) = response(came)? else { return Ok(None) };
        Ok(Some(((response.status, lossy_whole(response.body)), used)))
    })
}

fn lossy_whole(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_comes_in_parts() {
        let input = b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\nx: y\r\n\r\nhello";
        for cut in 0..input.len() {
            assert_eq!(response(&input[..cut]).unwrap(), None, "{cut}");
        }
        let (whole, used) = response(input).unwrap().unwrap();
        assert_eq!((whole.status, whole.body, used), (202, &b"hello"[..], input.len()));
        assert_eq!(header(whole.head, "X"), Some(&b"y"[..]));
    }

    #[test]
    fn what_does_not_say_its_length_is_an_error() {
        assert!(response(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(response(b"HTTP/1.0 200 OK\r\n\r\n").is_err());
        assert!(response(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().is_some());
    }
}
