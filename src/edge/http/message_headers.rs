//! A message's headers in requests and answers: `Weir-Key`, `Weir-Attr-NAME`, `Weir-Ttl-Ms` and the
//! message id.
//!
//! A header holds printable ASCII, and loses spaces at its ends (RFC 9110 §5.5), so values are
//! percent-encoded. In answers that is every byte that is not printable ASCII, `%` itself, and the
//! spaces of a value that begins or ends with one. In requests `%` with two hexadecimal digits is
//! decoded and any other `%` is literal; bytes that are not ASCII are accepted as they are.
//!
//! Invariant: a header of an answer, sent again in a request, has the same value. (The message id
//! is `Weir-Message-Id` in answers and `Idempotency-Key` in requests.)

use std::borrow::Cow;

use actix_web::HttpRequest;
use actix_web::http::Method;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::parameters::header;
use crate::edge::error::Problem;
use crate::edge::wire::Attributes;

const ATTRIBUTE_PREFIX: &str = "weir-attr-";
const NOT_HELD: &AsciiSet = &CONTROLS.add(b'%');
const NOT_HELD_AT_ENDS: &AsciiSet = &NOT_HELD.add(b' ');
/// A quote would begin a quoted string.
const NOT_HELD_IN_ID: &AsciiSet = &NOT_HELD_AT_ENDS.add(b'"');

/// A value as a header holds it.
pub(super) fn encoded(value: &str) -> String {
    let at_ends = value.starts_with(' ') || value.ends_with(' ');
    let set = if at_ends { NOT_HELD_AT_ENDS } else { NOT_HELD };
    utf8_percent_encode(value, set).to_string()
}

/// A message id as a header holds it.
pub(super) fn encoded_id(id: &str) -> String {
    let quoted = id.starts_with('"');
    if quoted { utf8_percent_encode(id, NOT_HELD_IN_ID).to_string() } else { encoded(id) }
}

/// The value that a header holds.
fn decoded<'a>(name: &str, text: &'a str) -> Result<Cow<'a, str>, Problem> {
    percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| Problem::invalid(name, "must be UTF-8 once it is percent-decoded"))
}

/// `Weir-Key`
pub(super) fn key(request: &HttpRequest) -> Result<Option<Cow<'_, str>>, Problem> {
    const NAME: &str = "weir-key";
    header(request, NAME)?.map(|text| decoded(NAME, text)).transpose()
}

/// `Weir-Ttl-Ms`
pub(super) fn ttl_ms(request: &HttpRequest) -> Result<Option<u64>, Problem> {
    let number = |text: &str| {
        text.parse().map_err(|_| Problem::invalid("Weir-Ttl-Ms", "must be a whole number"))
    };
    header(request, "weir-ttl-ms")?.map(number).transpose()
}

/// `Idempotency-Key`: the message id, which may be quoted
/// (draft-ietf-httpapi-idempotency-key-header has it as a string of RFC 9651).
pub(super) fn message_id(request: &HttpRequest) -> Result<Option<Cow<'_, str>>, Problem> {
    const NAME: &str = "idempotency-key";
    let Some(text) = header(request, NAME)? else { return Ok(None) };
    let Some(begun) = text.strip_prefix('"') else { return decoded(NAME, text).map(Some) };
    let mut id = String::with_capacity(begun.len());
    let mut characters = begun.chars();
    loop {
        match characters.next() {
            Some('"') if characters.as_str().is_empty() => break,
            Some('\\') => match characters.next() {
                Some(escaped @ ('"' | '\\')) => id.push(escaped),
                _ => return Err(Problem::invalid(NAME, "has a `\\` before no quote and no `\\`")),
            },
            Some('"') | None => {
                let why = "begins with a quote, and is no quoted string with nothing behind it";
                return Err(Problem::invalid(NAME, why));
            }
            Some(other) => id.push(other),
        }
    }
    decoded(NAME, &id).map(|id| Some(Cow::Owned(id.into_owned())))
}

/// All `Weir-Attr-NAME`
pub(super) fn attributes(request: &HttpRequest) -> Result<Attributes<'_>, Problem> {
    let mut attributes = Attributes::default();
    for name in request.headers().keys() {
        let name = name.as_str();
        let Some(attribute) = name.strip_prefix(ATTRIBUTE_PREFIX) else { continue };
        let Some(text) = header(request, name)? else { continue };
        attributes.add(attribute.into(), decoded(name, text)?, |_| name.to_owned())?;
    }
    Ok(attributes)
}

/// The header of an attribute.
pub(super) fn of_attribute(name: &str) -> String {
    format!("{ATTRIBUTE_PREFIX}{name}")
}

/// The first header that applies to one message, and so not to a list of them.
pub(super) fn for_one_only(request: &HttpRequest) -> Option<&str> {
    let names = request.headers().keys().map(|name| name.as_str());
    let mut of_one = names.filter(|name| *name == "idempotency-key" || is_of_message(name));
    of_one.next()
}

fn is_of_message(name: &str) -> bool {
    matches!(name, "weir-key" | "weir-ttl-ms") || name.starts_with(ATTRIBUTE_PREFIX)
}

/// Checks that every `Weir-…` header is known for such a request, and not repeated.
pub(super) fn check_names(request: &HttpRequest) -> Result<(), Problem> {
    for name in request.headers().keys().filter(|name| name.as_str().starts_with("weir-")) {
        // Messages are published by POST alone.
        if request.method() != Method::POST || !is_of_message(name.as_str()) {
            let why = "no such header is known here; a publish takes `Weir-Key`, `Weir-Ttl-Ms` \
                       and `Weir-Attr-NAME`";
            return Err(Problem::invalid(name.as_str(), why));
        }
        // It is read as text later; here only that there is one.
        if request.headers().get_all(name).count() > 1 {
            return Err(Problem::invalid(name.as_str(), "the header must not be repeated"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn id_of(text: &str) -> Result<Option<String>, String> {
        let request = TestRequest::default().insert_header(("idempotency-key", text));
        let id = message_id(&request.to_http_request()).map(|id| id.map(Cow::into_owned));
        id.map_err(|problem| problem.to_string())
    }

    #[test]
    fn what_goes_out_in_a_header_comes_in_the_same() {
        for value in [
            "plain",
            "",
            "a b",
            " a",
            "a ",
            "  ",
            "%",
            "100%",
            "%41",
            "%zz",
            "kéy",
            "漢字",
            "\u{0}",
            "a\r\nb: c",
            "\t",
            "\u{7f}",
            "\"q\"",
            "a\"b",
            "\\",
            "😀%F0",
        ] {
            let held = encoded(value);
            assert!(held.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{held:?}");
            assert_eq!(held.trim(), held);
            assert_eq!(decoded("x", &held).unwrap(), value, "{held:?}");
            assert_eq!(id_of(&encoded_id(value)), Ok(Some(value.to_owned())), "{value:?}");
        }
        assert_eq!(encoded("a b%é"), "a b%25%C3%A9");
        assert_eq!(decoded("x", "50% %4g é%C3%A9").unwrap(), "50% %4g éé");
        assert!(decoded("x", "%ff").is_err());
    }

    #[test]
    fn an_id_may_stand_in_quotes() {
        for (text, id) in [
            ("k", "k"),
            ("\"k\"", "k"),
            ("\"a b\"", "a b"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            ("\"%C3%A9\"", "é"),
            ("\"\"", ""),
            ("a\"b\"", "a\"b\""),
        ] {
            assert_eq!(id_of(text), Ok(Some(id.to_owned())), "{text}");
        }
        for bad in ["\"", "\"k", "\"a\"b\"", "\"k\"; a=1", r#""a\x""#, r#""a\""#] {
            assert!(id_of(bad).unwrap_err().contains("`idempotency-key`"), "{bad}");
        }
    }
}
