//! `weir pub --producer` when another client takes its name: it ends, and says whose name was taken.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::{run, text};

type Served = WebSocketStream<TcpStream>;

fn fenced() -> Value {
    json!({
        "type": "about:blank", "title": "producer fenced", "status": 409, "temporary": false,
        "code": "producer-fenced", "detail": "another socket took `gate-1`",
    })
}

async fn say(socket: &mut Served, frame: Value) {
    socket.send(Message::text(frame.to_string())).await.unwrap();
}

async fn welcome(socket: &mut Served) {
    let credit = json!({ "messages": 8, "bytes": 65_536 });
    say(socket, json!({ "welcome": { "credit": credit, "resume_after": 4 } })).await;
}

/// The next message's id.
async fn id(socket: &mut Served) -> u64 {
    let frame = socket.next().await.unwrap().unwrap().into_text().unwrap();
    serde_json::from_str::<Value>(&frame).unwrap()["id"].as_u64().unwrap()
}

async fn close(socket: &mut Served, reason: &str) {
    let frame = CloseFrame { code: 1008.into(), reason: reason.into() };
    socket.close(Some(frame)).await.unwrap();
    // Until the client has closed, too.
    while let Some(Ok(_)) = socket.next().await {}
}

/// What a run of `weir pub` says against a broker that behaves so, after exit code 1; it connects once.
async fn said(arguments: &[&str], behave: impl AsyncFn(&mut Served)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let arguments: Vec<_> = ["pub", "t"].iter().chain(arguments).map(ToString::to_string).collect();
    let running = tokio::task::spawn_blocking(move || {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        run(&server, &arguments, "a\nb\nc\n")
    });
    let (stream, _) = listener.accept().await.unwrap();
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    behave(&mut socket).await;
    drop(socket);
    let output = running.await.unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    let again = listener.into_std().unwrap();
    assert!(again.accept().is_err(), "it does not come back");
    error
}

const NAMED: [&str; 2] = ["--producer", "gate-1"];
const TAKEN: &str = "weir: producer gate-1: another client publishes under this name now: ";

#[tokio::test]
async fn refused_messages_and_a_close_end_it_with_an_account() {
    let error = said(&NAMED, async |socket| {
        welcome(socket).await;
        let first = id(socket).await;
        assert_eq!(first, 5);
        let ack = json!({ "id": first, "offset": 0, "receipt": "r", "duplicate": false });
        say(socket, json!({ "acks": [ack] })).await;
        let second = id(socket).await;
        say(socket, json!({ "acks": [{ "id": second, "error": fenced() }] })).await;
        close(socket, "producer-fenced").await;
    })
    .await;
    assert!(error.starts_with(TAKEN), "{error}");
    assert!(error.contains("1 of ") && error.contains("1 refused"), "{error}");
    assert!(error.contains("message 2: producer-fenced: another socket took `gate-1`"), "{error}");
    assert!(error.contains("hint: give each producer"), "{error}");
}

#[tokio::test]
async fn a_close_alone_ends_it_whenever_it_comes() {
    let error = said(&NAMED, async |socket| {
        welcome(socket).await;
        for _ in 0..3 {
            id(socket).await;
        }
        close(socket, "producer-fenced").await;
    })
    .await;
    assert!(error.starts_with(TAKEN), "{error}");
    assert!(error.contains("0 of 3 messages acknowledged, 3 not answered"), "{error}");
    let error = said(&NAMED, async |socket| close(socket, "producer-fenced").await).await;
    assert!(error.starts_with(TAKEN) && error.contains("1008 producer-fenced"), "{error}");
}

#[tokio::test]
async fn so_does_an_error_that_is_about_no_message() {
    let error = said(&NAMED, async |socket| {
        welcome(socket).await;
        id(socket).await;
        say(socket, json!({ "error": fenced() })).await;
        close(socket, "producer-fenced").await;
    })
    .await;
    assert!(error.starts_with(TAKEN) && error.contains("producer-fenced: "), "{error}");
    let error = said(&NAMED, async |socket| {
        say(socket, json!({ "error": fenced() })).await;
        close(socket, "").await;
    })
    .await;
    assert!(error.starts_with(TAKEN), "{error}");
}

#[tokio::test]
async fn another_reason_for_1008_is_not_taken_for_that() {
    let behave = async |socket: &mut Served| {
        welcome(socket).await;
        id(socket).await;
        close(socket, "topic-not-found").await;
    };
    let error = said(&NAMED, behave).await;
    assert!(error.starts_with("weir: producer gate-1: 0 of "), "{error}");
    assert!(error.contains("closed the socket for good (1008 topic-not-found)"), "{error}");
    let error = said(&[], behave).await;
    assert!(error.starts_with("weir: 0 of ") && error.contains("1008"), "{error}");
}
