//! `allowed_origins` and `allowed_hosts` of broker.toml, in the form in which browsers send them.
//!
//! Invariant: every entry kept can match. An entry that means one origin or name only (case, a
//! default port, a slash at the end) is kept in the browsers' form; one that no browser ever sends
//! is refused.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer};
use url::{Host, Url};

/// Schemes that have origins of scheme, host and port in every browser.
const WEB: [&str; 2] = ["http", "https"];
/// Schemes that no page has.
const PAGELESS: [&str; 5] = ["ws", "wss", "ftp", "file", "data"];

/// Reads a list of origins.
pub(super) fn origins<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<String>, D::Error> {
    Ok(Vec::<Origin>::deserialize(list)?.into_iter().map(|origin| origin.0).collect())
}

/// Reads a list of host names.
pub(super) fn hosts<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<String>, D::Error> {
    Ok(Vec::<HostName>::deserialize(list)?.into_iter().map(|host| host.0).collect())
}

/// An origin as a browser writes it (RFC 6454, section 6.2).
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Origin(String);

/// A host as a browser sends it in `Host`, without its port.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct HostName(String);

impl TryFrom<String> for Origin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let refused = |why: &str| Err(format!("`{text}`: {why}"));
        let trimmed = text.trim();
        match trimmed {
            "" => return refused("is empty; an origin is SCHEME://HOST[:PORT]"),
            "null" => {
                return refused("is sent by every sandboxed page, and identifies none");
            }
            _ if trimmed.contains('*') => return refused("has a wildcard; list each origin"),
            _ => {}
        }
        let url = match Url::parse(trimmed) {
            Ok(url) if url.has_host() => url,
            _ => return refused("must be SCHEME://HOST[:PORT], say https://app.example"),
        };
        if PAGELESS.contains(&url.scheme()) {
            return refused("no page has an origin of this scheme; pages have http:// or https://");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refused("names a user, which no origin does");
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return refused("goes on behind HOST[:PORT], where an origin ends");
        }
        if let Some(Host::Domain(name)) = url.host()
            && !is_name(name)
        {
            return refused("its host name is invalid");
        }
        if WEB.contains(&url.scheme()) {
            return Ok(Self(url.origin().ascii_serialization()));
        }
        // Of extensions and apps, say chrome-extension://ID: these have no default port.
        Ok(Self(trimmed.trim_end_matches('/').to_owned()))
    }
}

impl TryFrom<String> for HostName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let refused = |why: &str| Err(format!("`{text}`: {why}"));
        let trimmed = text.trim();
        // Addresses always may be used; listing one is harmless.
        if let Ok(address) = trimmed.parse::<IpAddr>() {
            return Ok(Self(address.to_string()));
        }
        if trimmed.is_empty() {
            return refused("is empty; a host is a name, say broker.example");
        }
        if trimmed.contains('*') {
            return refused("has a wildcard; list each name");
        }
        if trimmed.contains("://") {
            return refused("is a URL; give the host name alone");
        }
        let name = trimmed.strip_suffix('/').unwrap_or(trimmed);
        let name = name.strip_suffix('.').unwrap_or(name);
        if let Some((_, port)) = name.rsplit_once(':')
            && !port.is_empty()
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && !name.starts_with('[')
        {
            return refused("names a port; give the host name alone, any port may be used");
        }
        match Host::parse(name) {
            Ok(Host::Domain(name)) if is_name(&name) => Ok(Self(name)),
            Ok(Host::Ipv4(address)) => Ok(Self(address.to_string())),
            Ok(Host::Ipv6(address)) => Ok(Self(format!("[{address}]"))),
            _ => refused("is no host name; give a name alone, say broker.example"),
        }
    }
}

/// What `Host` can hold, in the ASCII form; many names of containers have `_`.
fn is_name(name: &str) -> bool {
    let in_names = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(in_names);
    name.strip_suffix('.').unwrap_or(name).split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Result<String, String> {
        Origin::try_from(text.to_owned()).map(|origin| origin.0)
    }

    fn host(text: &str) -> Result<String, String> {
        HostName::try_from(text.to_owned()).map(|host| host.0)
    }

    #[test]
    fn origins_that_mean_one_are_kept_as_browsers_send_it() {
        for (given, sent) in [
            ("https://app.example", "https://app.example"),
            ("HTTPS://App.Example/", "https://app.example"),
            (" https://app.example:443 ", "https://app.example"),
            ("http://app.example:80/", "http://app.example"),
            ("http://app.example:443", "http://app.example:443"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("http://localhost:3000/", "http://localhost:3000"),
            ("http://[0:0::1]:8080", "http://[::1]:8080"),
            ("http://my_page:81", "http://my_page:81"),
            ("chrome-extension://abcdef/", "chrome-extension://abcdef"),
            ("capacitor://localhost", "capacitor://localhost"),
        ] {
            assert_eq!(origin(given), Ok(sent.to_owned()), "{given}");
        }
    }

    #[test]
    fn origins_that_no_browser_sends_are_refused() {
        for given in [
            "",
            "  ",
            "*",
            "null",
            "app.example",
            "app.example:8080",
            "localhost:3000",
            "//app.example",
            "/",
            "https://",
            "https://*.example",
            "https://app.example/page",
            "https://app.example?x",
            "https://app.example/#x",
            "https://user@app.example",
            "https://a.example,https://b.example",
            "https://a.example https://b.example",
            "https://app..example",
            "https://app.example:99999",
            "wss://app.example",
            "file:///",
            "data:text/html,x",
        ] {
            let refused = origin(given).unwrap_err();
            assert!(refused.starts_with(&format!("`{given}`: ")), "{refused}");
        }
    }

    #[test]
    fn host_names_are_kept_as_browsers_send_them_or_refused() {
        for (given, sent) in [
            ("broker.example", "broker.example"),
            ("Broker.EXAMPLE", "broker.example"),
            ("broker.example/", "broker.example"),
            ("broker.example.", "broker.example"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("my_broker", "my_broker"),
            ("192.0.2.1", "192.0.2.1"),
            ("::1", "::1"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(host(given), Ok(sent.to_owned()), "{given}");
        }
        for given in [
            "",
            " ",
            "*",
            "*.example",
            ".example",
            "https://broker.example",
            "broker.example:7077",
            "[::1]:7077",
            "broker.example/path",
            "a@broker.example",
            "a.example,b.example",
            "a.example b.example",
        ] {
            let refused = host(given).unwrap_err();
            assert!(refused.starts_with(&format!("`{given}`: ")), "{refused}");
        }
    }
}
