//! Clients take every file descriptor, in all forms, while the broker is published to.
//!
//! Must hold: connections beyond the limit on open files are refused, the store continues, earlier
//! connections are served, and there is room again when the others have closed. It never lowers a
//! limit but that of its own broker.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::broker::{Broker, Launch};
use crate::client::Client;
use crate::report::Row;
use crate::script::Script;
use crate::setting::Setting;

pub const NAME: &str = "descriptors";

const FILES: usize = 400;
const CLIENTS: usize = 600;

pub async fn run(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    if std::process::Command::new("prlimit").arg("--version").output().is_err() {
        return Ok(vec![Row::passed_over(NAME, "no prlimit (package util-linux)")]);
    }
    let mut row = Row::new(NAME);
    for _ in 0..setting.count(2, 20) {
        let scratch = setting.scratch(NAME)?;
        let limited = vec!["prlimit".into(), format!("--nofile={FILES}:{FILES}").into()];
        let launch = Launch::new(&setting.weir, &scratch.join("data"), &scratch)
            .small_store()
            .under(limited);
        let mut broker = launch.open()?;
        row.recovery.push(broker.started_in);
        row.cycles += 1;
        let mut script = Script::new(60, 300);
        // The script's own connection is open before the others.
        let (_, clients) = tokio::join!(script.run(&broker), take_descriptors(&broker));
        row.violations.extend(script.ended.take().map(|why| format!("publishing ended: {why}")));
        if broker.has_ended() {
            row.violations.push(format!("the broker ended: {}", broker.said().trim()));
            continue;
        }
        drop(clients);
        row.violations.extend(room_again(&broker).await.err().map(|error| format!("{error:#}")));
        row.violations.extend(script.check(&broker).await?);
        row.acknowledged += script.acknowledged();
    }
    Ok(vec![row])
}

/// Opens connections until there are more than allowed.
async fn take_descriptors(broker: &Broker) -> Vec<TcpStream> {
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let asks = [
        format!("GET /v1/topics/others/tail HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n"),
        "GET /v1/topics/others/events HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "GET /v1/topics/others/messages?from=latest&wait_ms=30000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
            .to_owned(),
        String::new(),
    ];
    let mut clients = Vec::new();
    let mut pace = tokio::time::interval(Duration::from_millis(1));
    for n in 0..CLIENTS {
        pace.tick().await;
        let Ok(mut client) = TcpStream::connect(&broker.address).await else { continue };
        // It may have been refused already.
        let _ = client.write_all(asks[n % asks.len()].as_bytes()).await;
        clients.push(client);
    }
    clients
}

async fn room_again(broker: &Broker) -> anyhow::Result<()> {
    let client = Client::new(&broker.address)?;
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..200 {
        pace.tick().await;
        if client.get("/v1/status").await.is_ok() {
            return Ok(());
        }
    }
    anyhow::bail!("there is no room though the clients have gone")
}
