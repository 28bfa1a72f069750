//! A WebSocket client of the test's own.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::broker::Broker;
use super::msgpack;

/// Long enough for anything the broker does, short enough to see that it doesn't.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Socket(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

/// What a socket gives.
#[derive(Debug)]
pub enum Event {
    Frame(Value),
    Closed(Option<CloseFrame>),
}

impl Socket {
    pub async fn open(broker: &Broker, path: &str) -> Self {
        Self::try_open(&broker.address, path).await.expect("the socket opens")
    }

    pub async fn try_open(address: &str, path: &str) -> Result<Self, Error> {
        let url = format!("ws://{address}{path}");
        tokio_tungstenite::connect_async(url).await.map(|(socket, _)| Self(socket))
    }

    /// A producer socket, after its welcome.
    pub async fn producer(broker: &Broker, topic: &str, query: &str) -> Self {
        let mut socket = Self::open(broker, &format!("/v1/topics/{topic}/producer{query}")).await;
        let welcome = socket.frame().await;
        assert_eq!(welcome["welcome"]["protocol"], "weir.v1", "{welcome}");
        socket
    }

    pub async fn tail(broker: &Broker, topic: &str, from: &str) -> Self {
        Self::open(broker, &format!("/v1/topics/{topic}/tail?from={from}")).await
    }

    /// The same with a subprotocol, after its welcome.
    pub async fn producer_of(broker: &Broker, path: &str, protocol: &str) -> Self {
        let url = format!("ws://{}{path}", broker.address);
        let mut request = url.into_client_request().expect("a good URL");
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol.parse().unwrap());
        let connected = tokio_tungstenite::connect_async(request).await;
        let mut socket = Self(connected.expect("the socket opens").0);
        assert_eq!(socket.frame().await["welcome"]["protocol"], protocol);
        socket
    }

    pub async fn send_binary(&mut self, frame: impl Into<Vec<u8>>) {
        self.0.send(Message::binary(frame.into())).await.expect("the frame is sent");
    }

    pub async fn send(&mut self, frame: impl ToString) {
        self.0.send(Message::text(frame.to_string())).await.expect("the frame is sent");
    }

    /// The next frame, or the end.
    pub async fn event(&mut self) -> Event {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.next()).await;
            match next.expect("something within 20 s") {
                Some(Ok(Message::Text(text))) => {
                    return Event::Frame(serde_json::from_str(&text).expect("a JSON frame"));
                }
                Some(Ok(Message::Binary(bytes))) => return Event::Frame(msgpack(&bytes)),
                Some(Ok(Message::Close(reason))) => return Event::Closed(reason),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Event::Closed(None),
            }
        }
    }

    pub async fn frame(&mut self) -> Value {
        match self.event().await {
            Event::Frame(frame) => frame,
            Event::Closed(reason) => panic!("closed instead of a frame: {reason:?}"),
        }
    }

    /// The close code the server ends with, passing over frames.
    pub async fn close_code(&mut self) -> Option<u16> {
        loop {
            if let Event::Closed(reason) = self.event().await {
                return reason.map(|reason| reason.code.into());
            }
        }
    }

    /// So many messages of a tail.
    pub async fn messages(&mut self, count: usize) -> Vec<Value> {
        let mut messages = Vec::new();
        while messages.len() < count {
            let frame = self.frame().await;
            let found = frame["messages"].as_array().unwrap_or_else(|| panic!("messages: {frame}"));
            messages.extend(found.iter().cloned());
        }
        messages
    }
}
