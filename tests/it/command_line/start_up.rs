//! `weir serve`: settings that can't be what was meant are refused, with their place.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, Output};

use reqwest::StatusCode;
use tempfile::tempdir;

use super::text;
use crate::support::broker::Broker;

/// Runs it to its end; it is meant to be refused.
fn serve(config: &str, environment: &[(&str, OsString)], arguments: &[&str]) -> Output {
    let directory = tempdir().unwrap();
    let file = directory.path().join("broker.toml");
    std::fs::write(&file, config).unwrap();
    let output = Command::new("timeout")
        .args(["20", env!("CARGO_BIN_EXE_weir"), "serve", "--listen", "127.0.0.1:0"])
        .args(arguments)
        .envs(environment.iter().cloned())
        .current_dir(directory.path())
        .output()
        .unwrap();
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "nothing but the file is there");
    output
}

fn refused(output: &Output, said: &str) {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}: {error}");
    assert!(error.contains(said), "{said}: {error}");
    assert!(output.stdout.is_empty(), "{said}");
}

#[test]
fn a_variable_that_is_empty_or_no_text_is_refused_by_its_name() {
    for name in [
        "WEIR__STORAGE__PATH",
        "WEIR__SERVER__LISTEN",
        "WEIR__SERVER__ALLOWED_ORIGINS",
        "WEIR__LIMITS__TOPICS_MAX",
        "WEIR__AUTO_CREATE_TOPICS",
        "WEIR_LOG",
    ] {
        for value in ["", " "] {
            let output = serve("", &[(name, value.into())], &[]);
            refused(&output, &format!("environment variable {name}: is empty"));
        }
        let output = serve("", &[(name, OsString::from_vec(vec![0xff]))], &[]);
        refused(&output, &format!("environment variable {name}: is not UTF-8"));
    }
    let output = serve("", &[("WEIR_LOG", "weir=loud=x".into())], &[]);
    refused(&output, "environment variable WEIR_LOG: `weir=loud=x`");
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["topics", "list"])
        .env("WEIR_SERVER", OsStr::new(""))
        .output()
        .unwrap();
    refused(&output, "WEIR_SERVER");
}

#[test]
fn what_is_empty_in_the_file_or_an_argument_is_refused_with_its_place() {
    refused(&serve("[storage]\npath = \"\"\n", &[], &[]), "broker.toml:2: path: is empty");
    let hosts = "[server]\nallowed_hosts = [\"\"]\n";
    refused(&serve(hosts, &[], &[]), "broker.toml:2: allowed_hosts: ``: is empty");
    let origins = "[server]\n\nallowed_origins = [\"https://a.example\", \" \"]\n";
    refused(&serve(origins, &[], &[]), "broker.toml:3: allowed_origins: ` `: is empty");
    for flag in ["--data", "--config", "--listen", "--log-format"] {
        refused(&serve("", &[], &[&format!("{flag}=")]), flag);
    }
}

#[test]
fn origins_and_hosts_that_never_match_are_refused_with_what_would() {
    for (line, said) in [
        ("allowed_origins = [\"app.example\"]", "`app.example`: must be SCHEME://HOST[:PORT]"),
        ("allowed_origins = [\"*\"]", "`*`: has a wildcard"),
        ("allowed_origins = [\"https://app.example/app\"]", "goes on behind HOST[:PORT]"),
        ("allowed_origins = [\"wss://app.example\"]", "no page has an origin of this scheme"),
        ("allowed_hosts = [\"https://broker.example\"]", "is a URL"),
        ("allowed_hosts = [\"broker.example:7077\"]", "names a port"),
        ("allowed_hosts = [\"*.example\"]", "has a wildcard"),
    ] {
        let output = serve(&format!("[server]\n{line}\n"), &[], &[]);
        refused(&output, "broker.toml:2: allowed_");
        refused(&output, said);
    }
}

#[tokio::test]
async fn origins_and_hosts_that_mean_one_are_that_one() {
    let directory = tempdir().unwrap();
    let origins = r#"["HTTPS://App.example:443/", "http://bücher.example:80"]"#;
    let broker = Broker::start_with(
        &directory.path().join("data"),
        &[
            ("WEIR__SERVER__ALLOWED_ORIGINS", origins),
            ("WEIR__SERVER__ALLOWED_HOSTS", r#"["Broker.Example/", "my_broker"]"#),
        ],
    );
    let status = async |header: &str, value: &str| {
        let request = broker.http.get(broker.url("/v1/topics")).header(header, value);
        request.send().await.unwrap().status()
    };
    for origin in ["https://app.example", "http://xn--bcher-kva.example"] {
        assert_eq!(status("origin", origin).await, StatusCode::OK, "{origin}");
    }
    for origin in ["http://app.example", "https://app.example:80", "null"] {
        assert_eq!(status("origin", origin).await, StatusCode::FORBIDDEN, "{origin}");
    }
    for host in ["broker.example:7077", "my_broker"] {
        assert_eq!(status("host", host).await, StatusCode::OK, "{host}");
    }
    assert_eq!(status("host", "localhost").await, StatusCode::FORBIDDEN);
}
