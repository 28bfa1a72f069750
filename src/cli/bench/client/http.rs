//! A keep-alive HTTP/1.1 connection.

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, HeaderMap};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// See the module.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    address: String,
}

/// A whole answer.
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Connection {
    pub(super) async fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with its sender; the sender gets its errors too.
        tokio::task::spawn_local(connection);
        Ok(Self { sender, address: address.to_owned() })
    }

    /// Sends a request and receives the whole answer, which must have this status.
    pub(super) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        header: (&'static str, &'static str),
        body: Bytes,
        status: StatusCode,
    ) -> anyhow::Result<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.address)
            .header(header.0, header.1)
            .body(Full::new(body))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        let text = || String::from_utf8_lossy(&body).into_owned();
        ensure!(head.status == status, "the broker answered {}: {}", head.status, text());
        Ok(Answer { headers: head.headers, body })
    }
}
