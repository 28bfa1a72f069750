//! What the client commands share: the server's address, and a socket to it.

use anyhow::{Context, bail};
use clap::Args;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::Usage;

/// A connected socket.
pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

#[derive(Args)]
pub(super) struct Server {
    /// The broker
    #[arg(long, env = "WEIR_SERVER", default_value = "http://127.0.0.1:7077", value_name = "URL")]
    server: String,
}

impl Server {
    /// A successful answer to a GET.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        let url = format!("{}{path}", self.server.trim_end_matches('/'));
        let answer = reqwest::get(&url)
            .await
            .with_context(|| format!("can't reach {} (is `weir serve` running?)", self.server))?;
        if !answer.status().is_success() {
            let status = answer.status();
            bail!("{status}: {}", answer.text().await.unwrap_or_default());
        }
        Ok(answer)
    }

    /// Opens the socket at `path` (with its query).
    pub(super) async fn socket(&self, path: &str) -> anyhow::Result<Socket> {
        let address = self.server.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let Some(address) = address.filter(|address| !address.is_empty()) else {
            return Err(Usage(format!("--server {}: must be http://ADDR:PORT", self.server)).into());
        };
        let url = format!("ws://{address}{path}");
        // The broker decides how large a frame may be.
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let connected =
            tokio_tungstenite::connect_async_with_config(&url, Some(config), true).await;
        match connected {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                bail!("{}: {}", response.status(), String::from_utf8_lossy(body))
            }
            Err(error) => Err(error)
                .with_context(|| format!("can't reach {} (is `weir serve` running?)", self.server)),
        }
    }
}
