//! What the client commands share: the server's address, requests and sockets to it.
//!
//! Every answer that is not a success is returned as an error with the broker's text.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use reqwest::{Client, Method, Request, Response, Url};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::problem;
use crate::model::TopicName;

/// A connected socket.
pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// An address without an answer would otherwise block for minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(super) struct Server {
    /// The broker
    #[arg(
        long = "server",
        env = "WEIR_SERVER",
        default_value = "http://127.0.0.1:7077",
        value_name = "URL",
        value_parser = base
    )]
    base: Url,
}

fn base(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "http" && url.has_host());
    url.ok_or("must be http://ADDR:PORT, be it in --server or in WEIR_SERVER")
}

/// A path at the broker, and the topic it belongs to, for errors.
#[derive(Clone)]
pub(super) struct Place {
    url: Url,
    topic: Option<TopicName>,
}

impl Place {
    /// The same with one more query parameter.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.url.query_pairs_mut().append_pair(name, value);
        self
    }
}

impl Server {
    /// The URL with these path segments.
    pub(super) fn place(&self, segments: &[&str]) -> Place {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        Place { url, topic: None }
    }

    /// The topic's path, or one below it.
    pub(super) fn topic(&self, topic: &TopicName, below: &[&str]) -> Place {
        let segments = [&["v1", "topics", topic.as_str()], below].concat();
        Place { topic: Some(topic.clone()), ..self.place(&segments) }
    }

    /// A successful answer to a GET.
    pub(super) async fn get(&self, place: Place) -> anyhow::Result<Response> {
        self.send(Method::GET, place, |_| {}).await
    }

    /// A successful answer to a request, which `dress` may give headers and a body.
    pub(super) async fn send(
        &self,
        method: Method,
        place: Place,
        dress: impl FnOnce(&mut Request),
    ) -> anyhow::Result<Response> {
        // Sockets use no proxy, so requests must not reach another broker through one.
        let client = Client::builder().no_proxy().connect_timeout(CONNECT_TIMEOUT).build()?;
        let mut request = Request::new(method, place.url);
        dress(&mut request);
        let answer = client.execute(request).await.with_context(|| self.unreachable())?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.bytes().await.unwrap_or_default();
        Err(problem::refusal(status, &body, place.topic))
    }

    /// Opens the socket at a path.
    pub(super) async fn socket(&self, mut place: Place) -> anyhow::Result<Socket> {
        // It can't fail: a special scheme may change to another one.
        let _ = place.url.set_scheme("ws");
        // The broker limits the size of frames.
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let connecting =
            tokio_tungstenite::connect_async_with_config(place.url.as_str(), Some(config), true);
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting);
        match connected.await.with_context(|| self.unreachable())? {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                Err(problem::refusal(response.status(), body, place.topic))
            }
            Err(error) => Err(error).with_context(|| self.unreachable()),
        }
    }

    fn unreachable(&self) -> String {
        let base = self.base.as_str().trim_end_matches('/');
        format!("can't reach {base} (is `weir serve` running?)")
    }
}
