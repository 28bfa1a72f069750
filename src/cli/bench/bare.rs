//! A bare server: reads a request's body, counts it, answers as briefly as a broker could. It shows
//! the cost of HTTP on this machine without a broker.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpResponse, HttpServer};

use crate::cli::output::print;

async fn take(body: Bytes, messages: Data<AtomicU64>) -> HttpResponse {
    std::hint::black_box(body.len());
    let offset = messages.fetch_add(1, Ordering::Relaxed);
    let answer = format!(r#"{{"offset":{offset},"duplicate":false}}"#);
    HttpResponse::Accepted().content_type("application/json").body(answer)
}

/// Serves until it is stopped.
pub(super) async fn run() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let messages = Data::new(AtomicU64::new(0));
    let server = HttpServer::new(move || {
        let path = "/v1/topics/{topic}/messages";
        App::new().app_data(messages.clone()).route(path, web::post().to(take))
    });
    let server = server.tcp_nodelay(true).listen(listener)?.run();
    print([format!("weir listening on http://{address}")])?;
    Ok(server.await?)
}
