//! HTTP from clients that mean no good, or can't do better.
//!
//! What weir refuses it refuses with a problem object, and so is what its parser (actix-http's)
//! refuses before a handler sees it; there the connection ends, so that nothing behind it is taken
//! for a request.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use tokio::time::timeout;

use crate::support::broker::Broker;
use crate::support::eventually;
use crate::support::wire::{Answer, Wire, unharmed, upgrade_request};

fn start(environment: &[(&str, &str)]) -> (Broker, TempDir) {
    let directory = tempdir().unwrap();
    (Broker::start_with(&directory.path().join("data"), environment), directory)
}

/// A request with these headers, each ending with CR LF, and what follows the head.
fn request(broker: &Broker, line: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!("{line} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", broker.address);
    [head.as_bytes(), body.as_ref()].concat()
}

fn get(broker: &Broker, path: &str) -> Vec<u8> {
    request(broker, &format!("GET {path}"), "", "")
}

/// A publish of this payload.
fn publish(broker: &Broker, topic: &str, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let length = format!("Content-Length: {}\r\n", payload.as_ref().len());
    request(broker, &format!("POST /v1/topics/{topic}/messages"), &length, payload)
}

/// A publish whose body is these chunks, as they stand.
fn chunked(broker: &Broker, topic: &str, chunks: impl AsRef<[u8]>) -> Vec<u8> {
    let line = format!("POST /v1/topics/{topic}/messages");
    request(broker, &line, "Transfer-Encoding: chunked\r\n", chunks)
}

async fn ask(broker: &Broker, bytes: impl AsRef<[u8]>) -> Answer {
    Wire::sending(broker, bytes).await.answer().await
}

/// Checks that the parser refuses this, that the connection ends, and that a request behind it is
/// not answered.
async fn refused_by_parser(broker: &Broker, name: &str, bytes: impl AsRef<[u8]>, status: u16) {
    let mut wire = Wire::connect(broker).await;
    wire.offer([bytes.as_ref(), &get(broker, "/livez")].concat()).await;
    let answer = wire.answer().await;
    assert_eq!(answer.status, status, "{name}: {answer:?}");
    answer.problem(status, if status == 431 { "headers-too-large" } else { "invalid-request" });
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{name}");
    let rest = wire.rest().await;
    assert!(rest.is_empty(), "{name}, and then {:?}", String::from_utf8_lossy(&rest));
}

async fn head_of(broker: &Broker, topic: &str) -> u64 {
    let answer = ask(broker, get(broker, &format!("/v1/topics/{topic}"))).await;
    answer.json()["head"].as_u64().unwrap_or_else(|| panic!("{answer:?}"))
}

#[tokio::test]
async fn a_head_that_does_not_come_in_time_is_answered_408_and_the_connection_ends() {
    let (broker, _directory) = start(&[("WEIR__LIMITS__HEADER_TIMEOUT_MS", "300")]);
    let host = format!("GET /livez HTTP/1.1\r\nHost: {}\r\nA: ", broker.address);
    let begun = ["", "G", "GET /livez HTTP/1.1\r\n", &host];
    join_all(begun.map(async |begun| {
        let mut wire = Wire::sending(&broker, begun).await;
        let answer = wire.answer().await;
        answer.problem(408, "request-timeout");
        assert_eq!(answer.header("retry-after"), Some("1"), "{begun:?}");
        wire.ends().await;
    }))
    .await;
    // However steadily it comes.
    let mut wire = Wire::sending(&broker, &host).await;
    let answer = wire.dripping("a").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    assert_eq!(ask(&broker, get(&broker, "/livez")).await.status, 200);
}

#[tokio::test]
async fn a_second_request_whose_head_does_not_come_ends_the_connection_too() {
    let limits =
        [("WEIR__LIMITS__HEADER_TIMEOUT_MS", "300"), ("WEIR__LIMITS__IDLE_TIMEOUT_MS", "300")];
    let (broker, _directory) = start(&limits);
    for begun in ["", "G", "GET /livez HTTP/1.1\r\nHost: localhost\r\nA: "] {
        let mut wire = Wire::sending(&broker, get(&broker, "/livez")).await;
        assert_eq!(wire.answer().await.status, 200);
        wire.send(begun).await;
        if begun.is_empty() {
            // Nobody has asked anything.
            assert_eq!(wire.rest().await, b"");
            continue;
        }
        wire.answer().await.problem(408, "request-timeout");
        wire.ends().await;
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_in_time_is_answered_with_a_problem() {
    let (broker, _directory) = start(&[("WEIR__LIMITS__BODY_TIMEOUT_MS", "300")]);
    assert_eq!(ask(&broker, publish(&broker, "t", "1")).await.status, 202);
    let lines = [
        "POST /v1/topics/t/messages",
        "POST /v1/topics/t/oneway",
        "POST /v1/topics/new/messages",
        "PUT /v1/topics/new",
        "PATCH /v1/topics/t",
        "POST /v1/topics/t/recover",
    ];
    let bodies = [
        ("Content-Length: 100\r\n", ""),
        ("Content-Length: 100\r\n", "{\"mode\""),
        ("Transfer-Encoding: chunked\r\n", ""),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhe"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nTrailer: "),
    ];
    let cases = lines.iter().flat_map(|line| bodies.map(|(headers, begun)| (line, headers, begun)));
    join_all(cases.map(async |(line, headers, begun)| {
        let answer = ask(&broker, request(&broker, line, headers, begun)).await;
        let problem = answer.problem(408, "request-timeout");
        assert_eq!(problem["temporary"], true, "{line} {headers} {begun}");
        assert_eq!(answer.header("retry-after"), Some("1"), "{line} {headers} {begun}");
    }))
    .await;
    let mut wire = Wire::connect(&broker).await;
    wire.send(request(&broker, "POST /v1/topics/t/messages", "Content-Length: 9999\r\n", "")).await;
    let answer = wire.dripping("a").await;
    assert!(answer.contains("\"request-timeout\""), "however steadily it comes: {answer:?}");
    assert_eq!(head_of(&broker, "t").await, 1, "nothing of all that was stored");
    let topics = ask(&broker, get(&broker, "/v1/topics")).await.json();
    assert_eq!(topics["topics"].as_array().unwrap().len(), 1, "and nothing created");
}

#[tokio::test]
async fn a_connection_ends_when_its_request_is_refused_and_its_body_never_ends() {
    let (broker, _directory) = start(&[
        ("WEIR__LIMITS__BODY_TIMEOUT_MS", "300"),
        ("WEIR__LIMITS__HEADER_TIMEOUT_MS", "300"),
        ("WEIR__LIMITS__IDLE_TIMEOUT_MS", "300"),
        ("WEIR__LIMITS__BODY_BYTES_MAX", "2000"),
        ("WEIR__LIMITS__MESSAGE_BYTES_MAX", "1000"),
        ("WEIR__LIMITS__FRAME_BYTES_MAX", "1000"),
        ("WEIR__TOPIC_DEFAULTS__MESSAGE_BYTES_MAX", "1000"),
    ]);
    let endless = "1\r\na\r\n".repeat(3_000);
    let lines = [
        ("POST /v1/topics/t/messages", 413),
        ("POST /v1/topics/%00/messages", 400),
        ("POST /nowhere", 404),
        ("PUT /livez", 405),
        ("GET /livez", 200),
    ];
    let bodies = [
        ("counted", "Content-Length: 1000000000\r\n", "a"),
        ("chunked", "Transfer-Encoding: chunked\r\n", &endless),
    ];
    let cases = lines.iter().flat_map(|line| bodies.map(|body| (line, body)));
    join_all(cases.map(async |((line, status), (kind, headers, body))| {
        let mut wire = Wire::connect(&broker).await;
        wire.offer(request(&broker, line, headers, body)).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, *status, "{line}, {kind}: {answer:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{line}, {kind}: {answer:?}");
        let rest = wire.dripping("1\r\na\r\n").await;
        assert!(rest.is_empty(), "{line}, {kind}, and then {rest:?}");
    }))
    .await;
    // A body that came whole costs nobody the connection.
    let mut wire = Wire::connect(&broker).await;
    for _ in 0..2 {
        wire.send(chunked(&broker, "t", "1\r\na\r\n0\r\n\r\n")).await;
        assert_eq!(wire.answer().await.status, 202);
    }
}

#[tokio::test]
async fn headers_may_be_as_large_as_the_limit_and_no_larger() {
    let (broker, _directory) = start(&[("WEIR__LIMITS__HEADERS_BYTES_MAX", "4096")]);
    let sized = |bytes: usize| {
        let others = "/livez".len() + "Host".len() + broker.address.len() + 4;
        let filling = "a".repeat(bytes - others - "X-Filling".len() - 4);
        request(&broker, "GET /livez", &format!("X-Filling: {filling}\r\n"), "")
    };
    let mut wire = Wire::connect(&broker).await;
    wire.send([sized(4096), sized(4097), sized(4096)].concat()).await;
    assert_eq!(wire.answer().await.status, 200, "at the limit");
    let problem = wire.answer().await.problem(431, "headers-too-large");
    assert_eq!(problem["limit"], 4096);
    assert_eq!(wire.answer().await.status, 200, "the connection is none the worse");
    // The path and the query count, too.
    for target in [format!("/{}", "p".repeat(4096)), format!("/livez?{}", "q".repeat(4096))] {
        ask(&broker, get(&broker, &target)).await.problem(431, "headers-too-large");
    }
    let attributes: String =
        (0..90).map(|n| format!("Weir-Attr-{n}: {}\r\n", "v".repeat(50))).collect();
    let many = request(&broker, "POST /v1/topics/t/messages", &attributes, "");
    ask(&broker, many).await.problem(431, "headers-too-large");
    // A WebSocket's head is one like all others.
    let upgrade = upgrade_request(&broker, &format!("/v1/debug/echo?{}", "q".repeat(4096)));
    ask(&broker, upgrade).await.problem(431, "headers-too-large");
}

#[tokio::test]
async fn heads_beyond_what_the_parser_takes_end_the_connection() {
    let (broker, _directory) = start(&[("WEIR__LIMITS__HEADERS_BYTES_MAX", "131072")]);
    let before = broker.resident_bytes();
    let headers = |count: usize| (0..count).map(|n| format!("X-{n}: a\r\n")).collect::<String>();
    // `Host` is one of them.
    let most = request(&broker, "GET /livez", &headers(95), "");
    assert_eq!(ask(&broker, most).await.status, 200);
    for count in [96, 1_000] {
        let many = request(&broker, "GET /livez", &headers(count), "");
        refused_by_parser(&broker, &format!("{count} headers"), many, 431).await;
    }
    let endless = format!("X-Filling: {}", "a".repeat(200 << 10));
    let endless = request(&broker, "GET /livez", &endless, "");
    refused_by_parser(&broker, "a header of 200 KiB", endless, 431).await;
    // A URI is at most 65,534 bytes long.
    let long = get(&broker, &format!("/{}", "p".repeat(65_000)));
    ask(&broker, long).await.problem(404, "not-found");
    let too_long = get(&broker, &format!("/{}", "p".repeat(70_000)));
    refused_by_parser(&broker, "a path of 70,000 bytes", too_long, 400).await;
    unharmed(&broker, before).await;
}

#[tokio::test]
async fn bodies_may_be_as_large_as_the_limit_and_no_larger() {
    let (broker, _directory) = start(&[
        ("WEIR__LIMITS__BODY_BYTES_MAX", "2000"),
        ("WEIR__LIMITS__MESSAGE_BYTES_MAX", "2000"),
        ("WEIR__TOPIC_DEFAULTS__MESSAGE_BYTES_MAX", "2000"),
        ("WEIR__LIMITS__FRAME_BYTES_MAX", "2000"),
    ]);
    let chunks = |bytes: usize| {
        let whole = format!("3e8\r\n{}\r\n", "a".repeat(1000)).repeat(bytes / 1000);
        match bytes % 1000 {
            0 => format!("{whole}0\r\n\r\n"),
            rest => format!("{whole}{rest:x}\r\n{}\r\n0\r\n\r\n", "a".repeat(rest)),
        }
    };
    assert_eq!(ask(&broker, publish(&broker, "t", [0; 2000])).await.status, 202);
    assert_eq!(ask(&broker, chunked(&broker, "t", chunks(2000))).await.status, 202);
    let too_large = |answer: Answer| {
        assert_eq!(answer.problem(413, "body-too-large")["limit"], 2000);
    };
    too_large(ask(&broker, chunked(&broker, "t", chunks(2001))).await);
    // What is announced is refused before it comes.
    for announced in ["2001", "1000000000000", "18446744073709551615"] {
        for line in ["POST /v1/topics/t/messages", "POST /v1/topics/t/oneway", "PUT /v1/topics/u"] {
            let headers = format!("Content-Length: {announced}\r\n");
            let mut wire = Wire::sending(&broker, request(&broker, line, &headers, "")).await;
            too_large(wire.answer().await);
            wire.end().await;
            wire.ends().await;
        }
    }
    assert_eq!(head_of(&broker, "t").await, 2);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (broker, _directory) = start(&[]);
    let before = broker.resident_bytes();
    let mut wire = Wire::connect(&broker).await;
    // More than are read at once.
    for n in 0..100 {
        let all = [
            publish(&broker, "t", n.to_string()),
            get(&broker, &format!("/v1/topics/t/messages/{n}")),
            request(&broker, "HEAD /livez", "", ""),
            get(&broker, "/nowhere"),
            chunked(&broker, "u", "1\r\na\r\n0\r\n\r\n"),
        ];
        wire.send(all.concat()).await;
    }
    for n in 0..100 {
        assert_eq!(wire.answer().await.json()["offset"], n);
        assert_eq!(wire.answer().await.body, n.to_string().as_bytes());
        assert_eq!(wire.head().await.status, 200);
        wire.answer().await.problem(404, "not-found");
        assert_eq!(wire.answer().await.json()["offset"], n);
    }
    unharmed(&broker, before).await;
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let (broker, _directory) = start(&[]);
    let line = "POST /v1/topics/t/messages";
    for body in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        let headers = format!("Expect: 100-continue\r\n{body}");
        let mut wire = Wire::sending(&broker, request(&broker, line, &headers, "")).await;
        assert_eq!(wire.head().await.status, 100);
        let body = if body.starts_with('C') { "hello" } else { "5\r\nhello\r\n0\r\n\r\n" };
        wire.send(body).await;
        assert_eq!(wire.answer().await.status, 202);
    }
    assert_eq!(head_of(&broker, "t").await, 2);
    // Who is refused is told so, whether or not it was told to go on.
    let headers = "Expect: 100-continue\r\nContent-Length: 1000000000\r\n";
    let mut wire = Wire::sending(&broker, request(&broker, line, headers, "")).await;
    let mut answer = wire.answer().await;
    if answer.status == 100 {
        answer = wire.answer().await;
    }
    answer.problem(413, "body-too-large");
}

#[tokio::test]
async fn head_is_get_without_a_body_and_options_say_what_is_allowed() {
    let (broker, _directory) = start(&[]);
    assert_eq!(ask(&broker, publish(&broker, "t", "payload")).await.status, 202);
    let receipt = ask(&broker, publish(&broker, "t", "x")).await.json()["receipt"].clone();
    let receipt = format!("/v1/receipts/{}", receipt.as_str().unwrap());
    for path in [
        "/livez",
        "/readyz",
        "/v1/topics",
        "/v1/topics/t",
        "/v1/topics/none",
        "/v1/topics/%00",
        "/v1/topics/t/messages",
        "/v1/topics/t/messages/0",
        "/v1/topics/t/messages/7",
        "/v1/topics/t/messages?from=x",
        "/nowhere",
        &receipt,
    ] {
        let mut wire = Wire::connect(&broker).await;
        wire.send(get(&broker, path)).await;
        let full = wire.answer().await;
        wire.send(request(&broker, &format!("HEAD {path}"), "", "")).await;
        let head = wire.head().await;
        assert_eq!(head.status, full.status, "{path}");
        for header in ["content-length", "content-type"] {
            assert_eq!(head.header(header), full.header(header), "{path}");
        }
        wire.send(request(&broker, &format!("OPTIONS {path}"), "", "")).await;
        let options = wire.answer().await;
        if path == "/nowhere" {
            options.problem(404, "not-found");
            continue;
        }
        assert_eq!((options.status, options.body.len()), (204, 0), "{path}: {options:?}");
        let allowed = options.header("allow").expect("Allow").to_owned();
        assert!(allowed.contains("get") && allowed.contains("head"), "{path}: {allowed}");
        // Methods are told from another by case (RFC 9110 §9.1), and may be any token.
        for method in ["get", "TRACE", "PROPFIND", "WEIR-TEST", "!"] {
            wire.send(request(&broker, &format!("{method} {path}"), "", "")).await;
            let answer = wire.answer().await;
            answer.problem(405, "method-not-allowed");
            assert_eq!(answer.header("allow"), Some(allowed.as_str()), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn chunks_of_any_size_with_extensions_and_trailers_make_one_payload() {
    let (broker, _directory) = start(&[]);
    let large = format!("{:x}\r\n{}\r\n0\r\n\r\n", 100_000, "a".repeat(100_000));
    for (offset, (chunks, payload)) in [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("1\r\nh\r\n1\r\ne\r\n3\r\nllo\r\n0\r\n\r\n", "hello"),
        ("0000000000000005\r\nhello\r\n0000\r\n\r\n", "hello"),
        ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
        ("5;name=value\r\nhello\r\n0;last\r\n\r\n", "hello"),
        ("5;name=\"quoted; \\\" text\"\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5 \r\nhello\r\n0\t \r\n\r\n", "hello"),
        ("5\r\nhello\r\n0\r\nTrailer: value\r\nAnother: one\r\n\r\n", "hello"),
        ("5\r\n\r\n0\r\n\r\n0\r\n\r\n", "\r\n0\r\n"),
        (&large, &"a".repeat(100_000)),
    ]
    .into_iter()
    .enumerate()
    {
        let mut wire = Wire::connect(&broker).await;
        wire.send([chunked(&broker, "t", chunks), get(&broker, "/livez")].concat()).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, 202, "{chunks:.40}: {answer:?}");
        assert_eq!(wire.answer().await.status, 200, "{chunks:.40}: the next request");
        let stored = get(&broker, &format!("/v1/topics/t/messages/{offset}"));
        assert_eq!(ask(&broker, stored).await.body, payload.as_bytes(), "{chunks:.40}");
    }
    // Octet by octet.
    let mut wire = Wire::connect(&broker).await;
    for octet in chunked(&broker, "u", "5;x=y\r\nhello\r\n0\r\nTrailer: value\r\n\r\n") {
        wire.send([octet]).await;
    }
    assert_eq!(wire.answer().await.status, 202);
    assert_eq!(ask(&broker, get(&broker, "/v1/topics/u/messages/0")).await.body, b"hello");
}

#[tokio::test]
async fn chunks_that_are_none_are_refused_and_the_connection_ends() {
    let (broker, _directory) = start(&[("WEIR__LIMITS__BODY_TIMEOUT_MS", "300")]);
    assert_eq!(ask(&broker, publish(&broker, "t", "1")).await.status, 202);
    for chunks in [
        "g\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        ";name=value\r\nhello\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello, world\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\rX",
    ] {
        let mut wire = Wire::connect(&broker).await;
        wire.offer([chunked(&broker, "t", chunks), get(&broker, "/livez")].concat()).await;
        wire.answer().await.problem(400, "invalid-request");
        let rest = String::from_utf8(wire.rest().await).unwrap();
        assert!(!rest.contains(" 200 "), "{chunks:?}, and then {rest}");
    }
    // Chunks that never end, though each is as it should be.
    for chunks in ["ffffffffffffffff\r\n", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n"] {
        let answer = ask(&broker, chunked(&broker, "t", chunks)).await;
        answer.problem(408, "request-timeout");
    }
    assert_eq!(head_of(&broker, "t").await, 1, "nothing of all that was stored");
}

#[tokio::test]
async fn bodies_of_unclear_length_are_refused_and_what_follows_is_no_request() {
    let (broker, _directory) = start(&[]);
    assert_eq!(ask(&broker, publish(&broker, "t", "1")).await.status, 202);
    let line = "POST /v1/topics/t/messages";
    for headers in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5a\r\n",
        "Content-Length: \r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 99999999999999999999999999\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length : 5\r\n",
        "Content-Length: 5\r\n Content-Length: 6\r\n",
        "Bad Header: 5\r\n",
        ": 5\r\n",
        "Content-Length\r\n",
        "A: a\rContent-Length: 5\r\n",
        "A: \0\r\n",
    ] {
        let bytes = request(&broker, line, headers, "");
        refused_by_parser(&broker, headers, bytes, 400).await;
    }
    let old = "POST /v1/topics/t/messages HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    refused_by_parser(&broker, "chunks in HTTP/1.0", old, 400).await;
    // A body that nobody reads is no request either.
    let inner = get(&broker, "/v1/status");
    let length = format!("Content-Length: {}\r\n", inner.len());
    let mut wire = Wire::sending(&broker, request(&broker, "GET /livez", &length, &inner)).await;
    assert_eq!(wire.answer().await.status, 200);
    wire.ends().await;
    let inner = format!("{:x}\r\n{}\r\n0\r\n\r\n", inner.len(), String::from_utf8(inner).unwrap());
    let coding = "Transfer-Encoding: chunked\r\nConnection: close\r\n";
    let mut wire = Wire::sending(&broker, request(&broker, "GET /livez", coding, &inner)).await;
    assert_eq!(wire.answer().await.status, 200);
    wire.ends().await;
    assert_eq!(head_of(&broker, "t").await, 1, "nothing of all that was stored");
}

#[tokio::test]
async fn a_post_that_asks_for_a_websocket_does_not_swallow_the_next_request() {
    let (broker, _directory) = start(&[("WEIR__LIMITS__BODY_TIMEOUT_MS", "300")]);
    let headers = "Content-Length: 1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    let first = request(&broker, "POST /v1/topics/t/messages", headers, "1");
    let mut wire = Wire::sending(&broker, [first, publish(&broker, "t", "secret")].concat()).await;
    wire.answer().await;
    wire.rest().await;
    let topics = ask(&broker, get(&broker, "/v1/topics")).await.json();
    if topics["topics"] != json!([]) {
        let stored = ask(&broker, get(&broker, "/v1/topics/t/messages")).await;
        let stored = String::from_utf8(stored.body).unwrap();
        assert!(!stored.contains("HTTP/1.1"), "{stored}");
    }
}

#[tokio::test]
async fn names_are_decoded_once_and_then_are_names_or_refused() {
    let (broker, _directory) = start(&[]);
    let longest = "n".repeat(200);
    for (name, means) in
        [("a%2Eb", "a.b"), ("%61%2d%5F", "a-_"), ("a.b-c", "a.b-c"), (&longest, &longest)]
    {
        let answer =
            ask(&broker, request(&broker, &format!("PUT /v1/topics/{name}"), "", "")).await;
        assert!(matches!(answer.status, 200 | 201), "{name}: {answer:?}");
        assert_eq!(answer.json()["name"], means);
    }
    let too_long = "n".repeat(201);
    for name in [
        "%2e",
        "%2E%2e",
        "..",
        ".",
        "a..b",
        ".a",
        "a.",
        "%2F",
        "a%2Fb",
        "a%2fb",
        "a%5Cb",
        "%252F",
        "%252e",
        "%25",
        "%",
        "%2",
        "%zz",
        "a%00",
        "%00",
        "a%0d%0ab",
        "%ff",
        "%c0%ae",
        "%c0%af",
        "%e0%80%af",
        "%ed%a0%80",
        "%c3",
        "%C3%A4",
        "a%20b",
        "a+b",
        "a*",
        "a,b",
        "a;b",
        "a:b",
        "%3C",
        "a%E2%80%AEb",
        "~",
        &too_long,
    ] {
        for path in [
            format!("PUT /v1/topics/{name}"),
            format!("GET /v1/topics/{name}"),
            format!("POST /v1/topics/{name}/messages"),
            format!("GET /v1/topics/{name}/messages"),
            format!("GET /v1/topics/{name}/messages/0"),
            format!("GET /v1/topics/{name}/events"),
        ] {
            let answer = ask(&broker, request(&broker, &path, "", "")).await;
            answer.problem(400, "invalid-name");
        }
        let upgrade = upgrade_request(&broker, &format!("/v1/topics/{name}/producer"));
        ask(&broker, upgrade).await.problem(400, "invalid-name");
    }
    // Paths are taken as they stand.
    for path in [
        "/v1/topics/",
        "/v1/topics/a.b/",
        "/v1//topics",
        "//v1/topics",
        "/v1/topics/../topics",
        "/v1/./topics",
        "/V1/topics",
        "/v1/topics/a.b/messages/",
        "/livez/",
        "/",
    ] {
        ask(&broker, get(&broker, path)).await.problem(404, "not-found");
    }
    let topics = ask(&broker, get(&broker, "/v1/topics")).await.json();
    assert_eq!(topics["topics"].as_array().unwrap().len(), 4, "{topics}");
}

#[tokio::test]
async fn bytes_that_are_no_text_are_refused_by_the_field() {
    let (broker, _directory) = start(&[]);
    assert_eq!(ask(&broker, publish(&broker, "t", "1")).await.status, 202);
    for bad in [b'\0', b'\x01', b'\x7f', b' ', b'\t'] {
        for (before, after) in [("GET /v1/topics/", "t"), ("GET /v1/topics?prefix=", "t")] {
            let head = format!(" HTTP/1.1\r\nHost: {}\r\n\r\n", broker.address);
            let bytes = [before.as_bytes(), &[bad], after.as_bytes(), head.as_bytes()].concat();
            let name = format!("{bad:#x} behind {before}");
            refused_by_parser(&broker, &name, bytes, 400).await;
        }
    }
    let invalid = |answer: Answer, field: &str| {
        let problem = answer.problem(400, "invalid-request");
        let detail = problem["detail"].as_str().unwrap().to_lowercase();
        assert!(detail.contains(&format!("`{field}`")), "{field}: {problem}");
    };
    for header in [
        "weir-key",
        "idempotency-key",
        "weir-attr-a",
        "weir-ttl-ms",
        "content-type",
        "content-encoding",
        "prefer",
        "traceparent",
        "origin",
    ] {
        let head = format!("POST /v1/topics/t/messages HTTP/1.1\r\nHost: {}\r\n", broker.address);
        let bytes =
            [head.as_bytes(), header.as_bytes(), b": a\xff\xfe\r\nContent-Length: 1\r\n\r\n1"];
        invalid(ask(&broker, bytes.concat()).await, header);
    }
    for query in
        ["from=%ff", "from=%00", "max=%ff", "max=%00", "colour=%00", "%ff=1", "max=1&max=1"]
    {
        let answer = ask(&broker, get(&broker, &format!("/v1/topics/t/messages?{query}"))).await;
        answer.problem(400, "invalid-request");
    }
    let json = |line: &str, content_type: &str, body: &[u8]| {
        let headers = format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len());
        request(&broker, line, &headers, body)
    };
    let deep = "[".repeat(200_000);
    for body in [
        &b"\xff"[..],
        b"\0",
        b"{",
        b"{\"mode\":\"\xff\"}",
        b"{}{}",
        b"null",
        b"[]",
        b"1",
        b"\"\"",
        b"{\"mode\":null,}",
        b"{\"\\ud800\":1}",
        b"\xef\xbb\xbf{}",
        deep.as_bytes(),
    ] {
        for line in ["PUT /v1/topics/t", "PATCH /v1/topics/t", "POST /v1/topics/t/recover"] {
            let answer = ask(&broker, json(line, "application/json", body)).await;
            answer.problem(400, "invalid-request");
        }
        let line = "POST /v1/topics/t/messages";
        for batch in ["application/vnd.weir.messages+json", "application/vnd.weir.messages+msgpack"]
        {
            let answer = ask(&broker, json(line, batch, body)).await;
            assert_eq!(answer.status, 400, "{batch} {body:.40?}: {answer:?}");
        }
    }
    for body in [&b"\xff"[..], b"", b"{", b"{}{}", b"\0", deep.as_bytes()] {
        let line = "POST /v1/topics/t/messages";
        ask(&broker, json(line, "application/json", body)).await.problem(400, "invalid-request");
        let answer = ask(&broker, json(line, "application/x-ndjson", body)).await;
        assert_eq!(answer.status, 400, "{body:.40?}: {answer:?}");
    }
    assert_eq!(head_of(&broker, "t").await, 1);
    // Any bytes are a payload where they are not declared as something else.
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(ask(&broker, publish(&broker, "t", &bytes)).await.status, 202);
    assert_eq!(ask(&broker, get(&broker, "/v1/topics/t/messages/1")).await.body, bytes);
}

/// Publishes JSON nested so deep, as a payload and in a batch; how many of them were taken.
async fn publish_nested(broker: &Broker, depth: usize) -> usize {
    let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let map = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let mut taken = 0;
    for (content_type, body) in [
        ("application/json", deep),
        ("application/vnd.weir.messages+json", format!("{{\"messages\":[{{\"data\":{map}}}]}}")),
    ] {
        let answer = broker.publish("t", content_type, body).await;
        assert!(matches!(answer.status().as_u16(), 202 | 400), "{depth}: {answer:?}");
        taken += usize::from(answer.status() == 202);
    }
    taken
}

#[tokio::test]
async fn json_nested_to_any_depth_is_refused_or_comes_back_byte_by_byte() {
    let (broker, _directory) = start(&[]);
    for (depth, taken) in [(100, 2), (101, 0), (127, 0), (1_000, 0), (100_000, 0)] {
        assert_eq!(publish_nested(&broker, depth).await, taken, "{depth}");
    }
    let stored = head_of(&broker, "t").await;
    assert_eq!(stored, 2);
    for accept in ["application/json", "application/x-ndjson", "application/msgpack"] {
        let headers = format!("Accept: {accept}\r\n");
        let poll = request(&broker, "GET /v1/topics/t/messages?max_bytes=67108864", &headers, "");
        assert_eq!(ask(&broker, poll).await.status, 200, "{accept}");
    }
    let mut tail = Wire::upgraded(&broker, "/v1/topics/t/tail?from=earliest").await;
    let mut frames = String::new();
    while frames.matches("\"offset\"").count() < stored as usize {
        frames += str::from_utf8(&tail.frame().await.unwrap().payload).unwrap();
    }
    assert!(frames.contains(&format!("{}{}", "[".repeat(100), "]".repeat(100))));
}

#[tokio::test]
async fn one_message_does_not_keep_readers_from_those_around_it() {
    let (broker, _directory) = start(&[]);
    for depth in [100, 101, 127, 1_000, 100_000] {
        publish_nested(&broker, depth).await;
    }
    // serde_json's limit is 128, with what stands around a payload; Python's is about 1,000.
    assert_eq!(broker.read_all("t").await.len(), 2);
}

#[tokio::test]
async fn request_targets_come_in_four_forms() {
    let (broker, _directory) = start(&[]);
    let address = &broker.address;
    let absolute =
        |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let answer = ask(&broker, absolute(&format!("http://{address}/livez"), address)).await;
    assert_eq!(answer.status, 200);
    // The target says where it is meant to go, whatever `Host` says (RFC 9112 §3.2.2).
    let answer = ask(&broker, absolute("http://evil.example/livez", address)).await;
    answer.problem(403, "forbidden");
    let answer = ask(&broker, absolute(&format!("http://{address}/livez"), "evil.example")).await;
    assert_eq!(answer.status, 200);
    ask(&broker, request(&broker, "GET *", "", "")).await.problem(404, "not-found");
    let all = ask(&broker, request(&broker, "OPTIONS *", "", "")).await;
    assert!(matches!(all.status, 200 | 204 | 404), "{all:?}");
    for line in ["CONNECT example.com:443", "CONNECT 127.0.0.1:80"] {
        let mut wire = Wire::sending(&broker, request(&broker, line, "", "")).await;
        let answer = wire.answer().await;
        assert!((400..500).contains(&answer.status), "{line}: {answer:?}");
        wire.end().await;
        wire.ends().await;
    }
    for line in ["GET livez", "GET http:///livez", "GET http://", "GET", "GET ", " GET /livez", ""]
    {
        let bytes = request(&broker, line, "", "");
        let mut wire = Wire::connect(&broker).await;
        wire.offer(bytes).await;
        let answer = wire.answer().await;
        assert!((400..500).contains(&answer.status), "{line:?}: {answer:?}");
    }
    assert_eq!(ask(&broker, get(&broker, "/v1/topics?limit=1")).await.status, 200);
}

#[tokio::test]
async fn versions_of_http_that_are_not_spoken_are_refused() {
    let (broker, _directory) = start(&[]);
    let host = format!("Host: {}\r\n\r\n", broker.address);
    let mut wire = Wire::sending(&broker, "GET /livez HTTP/1.0\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, 200, "HTTP/1.0 knows no Host");
    wire.ends().await;
    let kept = format!("GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n{host}");
    let mut wire = Wire::sending(&broker, kept.repeat(2)).await;
    assert_eq!(wire.answer().await.status, 200);
    assert_eq!(wire.answer().await.status, 200);
    for (name, bytes) in [
        ("HTTP/2 without being asked", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("HTTP/0.9", "GET /livez\r\n".to_owned()),
        ("HTTP/1.2", format!("GET /livez HTTP/1.2\r\n{host}")),
        ("HTTP/3", format!("GET /livez HTTP/3\r\n{host}")),
        ("HTTP in small letters", format!("GET /livez http/1.1\r\n{host}")),
        ("no version", format!("GET /livez \r\n{host}")),
        ("something else", "EHLO example.com\r\n".to_owned()),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03".to_owned()),
    ] {
        let mut wire = Wire::connect(&broker).await;
        wire.offer(bytes).await;
        let answer = wire.answer().await;
        let problem = answer.problem(400, "invalid-request");
        assert!(problem["detail"].as_str().unwrap().starts_with('`'), "{name}: {problem}");
        wire.ends().await;
    }
    // An offer of HTTP/2 need not be taken up.
    let offer =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    assert_eq!(ask(&broker, request(&broker, "GET /livez", offer, "")).await.status, 200);
}

/// Every way in that a page could try.
fn ways_in(headers: &str) -> Vec<(String, String)> {
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    [
        ("GET /livez", ""),
        ("GET /v1/topics", ""),
        ("POST /v1/topics/t/messages", "Content-Length: 0\r\n"),
        ("POST /v1/topics/t/oneway", "Content-Length: 0\r\n"),
        ("PUT /v1/topics/u", ""),
        ("DELETE /v1/topics/t", ""),
        ("OPTIONS /v1/topics/t", "Access-Control-Request-Method: DELETE\r\n"),
        ("GET /v1/topics/t/events", ""),
        ("GET /v1/topics/t/tail", upgrade),
        ("GET /v1/topics/t/producer", upgrade),
        ("GET /v1/debug/echo", upgrade),
        ("GET /nowhere", ""),
    ]
    .into_iter()
    .map(|(line, more)| (line.to_owned(), format!("{line} HTTP/1.1\r\n{headers}{more}\r\n")))
    .collect()
}

#[tokio::test]
async fn hosts_that_are_neither_addresses_nor_listed_are_refused_everywhere() {
    let (broker, _directory) = start(&[("WEIR__SERVER__ALLOWED_HOSTS", r#"["broker.example"]"#)]);
    let port = broker.address.rsplit(':').next().unwrap().to_owned();
    assert_eq!(ask(&broker, publish(&broker, "t", "1")).await.status, 202);
    let answers = async |host: &str| {
        ask(&broker, format!("GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n")).await
    };
    for host in [
        "broker.example",
        "BROKER.example:1",
        "127.0.0.1",
        "[::1]:7077",
        "192.0.2.1",
        "[2001:db8::1]",
    ] {
        assert_eq!(answers(host).await.status, 200, "{host}");
    }
    for host in [
        "localhost",
        "evil.example",
        "broker.example.evil.example",
        "evil.example.broker.example",
        "xbroker.example",
        "broker.example.",
        "127.0.0.1.nip.io",
        "127.0.0.1.evil.example",
        "evil.example@127.0.0.1",
        "127.0.0.1@evil.example",
        "a:b@127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "[::1].evil.example",
        "[::1",
        "::1",
        "127.0.0.1,evil.example",
        "127.0.0.1 evil.example",
        "127.0.0.1/evil.example",
        "127.0.0.1#evil.example",
        "127.0.0.1?evil.example",
        "http://127.0.0.1",
        "",
        "*",
        "null",
        "%31%32%37.0.0.1",
        "[fe80::1%25eth0]",
        "broker_example",
        "127.0.0.1\\evil.example",
    ] {
        answers(host).await.problem(403, "forbidden");
    }
    let rebound = format!("Host: evil.example:{port}\r\nOrigin: http://evil.example:{port}\r\n");
    for (name, bytes) in ways_in(&rebound).into_iter().chain(ways_in("Host: evil.example\r\n")) {
        let mut wire = Wire::sending(&broker, bytes).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, 403, "{name}: {answer:?}");
        answer.problem(403, "forbidden");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{name}");
    }
    for (name, bytes) in ways_in("Host: 127.0.0.1\r\nHost: evil.example\r\n") {
        refused_by_parser(&broker, &format!("two hosts, {name}"), bytes, 400).await;
    }
    for (name, bytes) in ways_in("") {
        refused_by_parser(&broker, &format!("no host, {name}"), bytes, 400).await;
    }
    let topics = ask(&broker, get(&broker, "/v1/topics")).await.json();
    assert_eq!(topics["topics"][0]["name"], "t", "nothing was deleted or created: {topics}");
    assert_eq!((head_of(&broker, "t").await, topics["topics"].as_array().unwrap().len()), (1, 1));
}

#[tokio::test]
async fn pages_from_elsewhere_are_refused_everywhere() {
    let (broker, _directory) =
        start(&[("WEIR__SERVER__ALLOWED_ORIGINS", r#"["https://app.example"]"#)]);
    assert_eq!(ask(&broker, publish(&broker, "t", "1")).await.status, 202);
    let address = &broker.address;
    let port = address.rsplit(':').next().unwrap();
    for origin in [
        "null".to_owned(),
        "http://evil.example".to_owned(),
        "https://evil.example".to_owned(),
        "http://app.example".to_owned(),
        "https://app.example.evil.example".to_owned(),
        "https://evilapp.example".to_owned(),
        "https://app.example:8443".to_owned(),
        "https://app.example/".to_owned(),
        "https://app.example@evil.example".to_owned(),
        "https://app.example, https://evil.example".to_owned(),
        "*".to_owned(),
        String::new(),
        "file://".to_owned(),
        "http://127.0.0.1".to_owned(),
        format!("http://localhost:{port}"),
        format!("http://{address}.evil.example"),
        format!("http://evil.example@{address}"),
        format!("http://{address}/"),
        format!("http://evil.example/?{address}"),
        format!("http://evil.example://{address}"),
        address.clone(),
    ] {
        let headers = format!("Host: {address}\r\nOrigin: {origin}\r\n");
        for (name, bytes) in ways_in(&headers) {
            let answer = ask(&broker, bytes).await;
            assert_eq!(answer.status, 403, "{origin:?}, {name}: {answer:?}");
            answer.problem(403, "origin-not-allowed");
            assert_eq!(answer.header("access-control-allow-origin"), None, "{origin:?}, {name}");
        }
    }
    for (name, bytes) in ways_in(&format!(
        "Host: {address}\r\nOrigin: https://app.example\r\nOrigin: http://evil.example\r\n"
    )) {
        let answer = ask(&broker, bytes).await;
        assert!((400..500).contains(&answer.status), "two origins, {name}: {answer:?}");
    }
    for origin in [format!("http://{address}"), "https://app.example".to_owned()] {
        let headers = format!("Host: {address}\r\nOrigin: {origin}\r\n");
        let head = format!("GET /v1/topics HTTP/1.1\r\n{headers}\r\n");
        assert_eq!(ask(&broker, head).await.status, 200, "{origin}");
        let mut echo = Wire::connect(&broker).await;
        let (_, upgrade) = ways_in(&headers).into_iter().find(|(n, _)| n.contains("echo")).unwrap();
        echo.send(upgrade).await;
        assert_eq!(echo.answer().await.status, 101, "{origin}");
    }
    let preflight = |headers: &str| {
        format!(
            "OPTIONS /v1/topics/t HTTP/1.1\r\nHost: {address}\r\nOrigin: https://app.example\r\n\
             {headers}\r\n"
        )
    };
    let answer = ask(&broker, preflight("Access-Control-Request-Method: DELETE\r\n")).await;
    assert!(matches!(answer.status, 200 | 204), "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    for headers in [
        "Access-Control-Request-Method: \r\n",
        "Access-Control-Request-Method: NO METHOD\r\n",
        "Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: \x7f, b@d\r\n",
    ] {
        let answer = ask(&broker, preflight(headers)).await;
        if answer.status >= 400 && !answer.body.is_empty() {
            answer.problem(answer.status, "invalid-request");
        }
    }
    let topics = ask(&broker, get(&broker, "/v1/topics")).await.json();
    assert_eq!((head_of(&broker, "t").await, topics["topics"].as_array().unwrap().len()), (1, 1));
}

#[tokio::test]
async fn heads_and_bodies_left_half_sent_by_many_cost_little() {
    let (broker, _directory) = start(&[]);
    let before = broker.resident_bytes();
    let half_head = format!("GET /livez HTTP/1.1\r\nA: {}", "a".repeat(100_000));
    let headers = "Content-Length: 16000000\r\n";
    let half_body = request(&broker, "POST /v1/topics/t/messages", headers, [b'a'; 100_000]);
    let mut wires = Vec::new();
    for _ in 0..100 {
        wires.push(Wire::sending(&broker, &half_head).await);
        wires.push(Wire::sending(&broker, &half_body).await);
    }
    eventually("the bodies are read", async || {
        let status = ask(&broker, get(&broker, "/v1/status")).await.json();
        status["in_flight_bytes"].as_u64().unwrap() >= 100 * 90_000
    })
    .await;
    unharmed(&broker, before).await;
    drop(wires);
    eventually("they are forgotten", async || {
        let status: Value = ask(&broker, get(&broker, "/v1/status")).await.json();
        status["in_flight_bytes"] == 0 && status["connections"].as_u64().unwrap() < 10
    })
    .await;
}

/// How much is admitted.
async fn in_flight(broker: &Broker) -> u64 {
    broker.json("/v1/status").await["in_flight_bytes"].as_u64().unwrap()
}

const BUDGET: u64 = 48 << 20;
const UPLOADS: (&str, &str) = ("WEIR__LIMITS__IN_FLIGHT_BYTES_MAX", "50331648");

/// What of the budget all that has not come whole may have.
const UNFINISHED: u64 = BUDGET / 8 * 5;

/// Uploads without end, which take up all of the byte budget that they can get.
async fn stalled_uploads(broker: &Broker) -> Vec<Wire> {
    let mut wires = Vec::new();
    let stalled = |announced: usize, sent: usize| {
        let headers = format!("Content-Length: {announced}\r\n");
        request(broker, "POST /v1/topics/t/messages", &headers, vec![b'a'; sent])
    };
    for (announced, sent) in [(16_000_000, 15_900_000), (1_000_000, 950_000)] {
        let uploads_before = in_flight(broker).await;
        // An eighth of the budget is for small pieces.
        for n in 1..=(UNFINISHED / 8 * 7 - uploads_before) / sent as u64 {
            wires.push(Wire::sending(broker, stalled(announced, sent)).await);
            let expected = uploads_before + n * sent as u64;
            eventually("it is read", async || in_flight(broker).await == expected).await;
        }
    }
    wires
}

#[tokio::test]
async fn uploads_that_stall_leave_room_for_small_messages() {
    let (broker, _directory) = start(&[UPLOADS]);
    let before = broker.resident_bytes();
    let wires = stalled_uploads(&broker).await;
    for _ in 0..20 {
        let answer = ask(&broker, publish(&broker, "t", [b'a'; 10_000])).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    eprintln!("stalled uploads: grown by {} KiB", grown >> 10);
    // What is admitted, and as much again for buffers that grew.
    assert!(grown < 2 * BUDGET, "it grew by {grown} bytes");
    drop(wires);
    eventually("the budget is there again", async || in_flight(&broker).await == 0).await;
    let answer = ask(&broker, publish(&broker, "t", [b'a'; 1_000_000])).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[tokio::test]
async fn uploads_that_stall_do_not_keep_others_from_publishing() {
    let (broker, _directory) = start(&[UPLOADS]);
    let mut wires = stalled_uploads(&broker).await;
    let headers = "Content-Length: 16000\r\n";
    let small = request(&broker, "POST /v1/topics/t/messages", headers, [b'a'; 15_000]);
    for _ in 0..600 {
        wires.push(Wire::sending(&broker, &small).await);
    }
    eventually("the budget is spent", async || in_flight(&broker).await > UNFINISHED - 20_000)
        .await;
    let answer = ask(&broker, publish(&broker, "t", [b'a'; 100])).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[tokio::test]
async fn answers_that_nobody_reads_wait_one_by_one() {
    let (broker, _directory) = start(&[]);
    for _ in 0..20 {
        assert_eq!(ask(&broker, publish(&broker, "t", [b'a'; 100_000])).await.status, 202);
    }
    let paths = ["/metrics", "/v1/topics/t/messages", "/v1/topics/t/messages/0"];
    for path in paths {
        ask(&broker, get(&broker, path)).await;
    }
    let before = broker.resident_bytes();
    let mut wires = Vec::new();
    for n in 0..60 {
        let mut wire = Wire::narrow(&broker).await;
        wire.send(get(&broker, paths[n % 3]).repeat(3)).await;
        wires.push(wire);
    }
    eventually("they are being answered", async || {
        broker.json("/v1/status").await["connections"].as_u64().unwrap() >= 60
    })
    .await;
    unharmed(&broker, before).await;
    for mut wire in wires {
        for _ in 0..3 {
            assert_eq!(wire.answer().await.status, 200);
        }
    }
}

#[tokio::test]
async fn pipelined_requests_whose_answers_nobody_reads_cost_little() {
    let (broker, _directory) = start(&[]);
    let before = broker.resident_bytes();
    let many = get(&broker, "/v1/status").repeat(6_000);
    let floods = (0..40).map(async |_| {
        let mut wire = Wire::narrow(&broker).await;
        let _ = timeout(Duration::from_millis(500), wire.offer(&many)).await;
        wire
    });
    let wires = join_all(floods).await;
    unharmed(&broker, before).await;
    drop(wires);
}

#[tokio::test]
async fn what_the_parser_refuses_says_what_is_wrong_behind_other_answers_too() {
    let (broker, _directory) = start(&[]);
    let address = &broker.address;
    let both = "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n";
    for (bad, named) in [
        ("GET /livez HTTP/1.1\r\n\r\n".to_owned(), "`Host`"),
        (format!("GET /livez HTTP/1.1\r\nHost: {address}\r\nHost: {address}\r\n\r\n"), "`Host`"),
        (format!("POST /livez HTTP/1.1\r\nHost: {address}\r\n{both}\r\n0\r\n\r\n"), "`Transfer-"),
        (format!("GET /livez HTTP/1.2\r\nHost: {address}\r\n\r\n"), "`version`"),
        (format!("G(T /livez HTTP/1.1\r\nHost: {address}\r\n\r\n"), "`request line`"),
        (format!("GET /livez HTTP/1.1\r\nHost: {address}\r\nA b: c\r\n\r\n"), "`headers`"),
    ] {
        // On a connection of its own, on one that was used before, and in one piece with others.
        ask(&broker, &bad).await.problem(400, "invalid-request");
        let mut used = Wire::sending(&broker, get(&broker, "/livez")).await;
        assert_eq!(used.answer().await.status, 200);
        used.offer(&bad).await;
        let problem = used.answer().await.problem(400, "invalid-request");
        assert!(problem["detail"].as_str().unwrap().contains(named), "{bad:?}: {problem}");
        used.ends().await;
        let good = [get(&broker, "/livez"), get(&broker, "/v1/topics")].concat();
        let mut wire = Wire::connect(&broker).await;
        wire.offer([good, bad.clone().into_bytes()].concat()).await;
        assert_eq!(wire.answer().await.status, 200, "{bad:?}");
        assert_eq!(wire.answer().await.status, 200, "{bad:?}");
        wire.answer().await.problem(400, "invalid-request");
        wire.ends().await;
    }
    let counted = broker.counted(r#"weir_problems_total{code="invalid-request"}"#).await;
    assert!(counted >= 18, "they are counted as all others: {counted}");
}

#[tokio::test]
async fn a_payload_that_looks_like_a_refusal_of_the_parser_comes_back_as_it_was() {
    let (broker, _directory) = start(&[]);
    let bare = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\
                date: Sat, 28 Nov 2026 18:45:18 GMT\r\n\r\n";
    let around = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n{bare}");
    for (offset, payload) in [bare, &around].into_iter().enumerate() {
        assert_eq!(ask(&broker, publish(&broker, "t", payload)).await.status, 202);
        let path = format!("/v1/topics/t/messages/{offset}");
        for _ in 0..2 {
            let answer = ask(&broker, get(&broker, &path)).await;
            assert_eq!((answer.status, answer.body), (200, payload.as_bytes().to_vec()));
        }
    }
}
