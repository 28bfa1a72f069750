//! The server: listens, and gives every connection a [`ClientStream`] and a place in the count.
//!
//! It sets up what `actix_web::HttpServer` does, but for the stream, which cannot be replaced
//! there.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::{Extensions, HttpService, Request, Response};
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, fn_factory, fn_service, map_config,
};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{AppConfig, Server};
use actix_web::rt::net::TcpStream;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::stream::ClientStream;
use super::{Connections, ReadingEnd, set_up};
use crate::edge::LimitSettings;
use crate::edge::outgoing::UNCHARGED_BYTES;

/// Period of actix-http's clock; its timeouts begin by that clock, so up to this much ago.
const HTTP_CLOCK_TICK: Duration = Duration::from_millis(500);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// A listening server that runs on N threads, and the address it listens on. `spare` connections
/// over the limits may be open, each until its client has received the refusal.
///
/// # Errors
/// The address can't be had.
pub fn serve<F, I, S, B>(
    listen: SocketAddr,
    workers: usize,
    limits: LimitSettings,
    spare: usize,
    connections: Arc<Connections>,
    app: F,
) -> io::Result<(Server, SocketAddr)>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Response<BoxBody>>,
    S::InitError: std::fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    B: MessageBody + 'static,
{
    let listener = bind(listen)?;
    let address = listener.local_addr()?;
    let builder = Server::build();
    let stopping = builder.graceful_shutdown_signal();
    let (stall_timeout_ms, connections_max) = (limits.stall_timeout_ms, limits.connections_max);
    let of_connection = move |stream: &ClientStream, data: &mut Extensions| {
        let tcp = stream.tcp();
        set_up(SockRef::from(tcp), stall_timeout_ms);
        data.insert(stream.link().clone());
        let Ok(peer) = tcp.peer_addr() else { return };
        data.insert(connections.open(peer.ip(), ReadingEnd::of(tcp)));
    };
    let head_timeout = Duration::from_millis(limits.header_timeout_ms);
    let service = move || {
        let (stopping, app) = (stopping.clone(), app().into_factory());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .client_request_timeout(HTTP_CLOCK_TICK + head_timeout)
            .h1_write_buffer_size(UNCHARGED_BYTES)
            .client_disconnect_timeout(Duration::from_secs(1))
            .keep_alive(HTTP_CLOCK_TICK + Duration::from_millis(limits.idle_timeout_ms))
            .local_addr(address)
            .on_connect_ext(of_connection.clone())
            .h1(map_config(app, |()| AppConfig::default()));
        let http = Rc::new(http);
        fn_factory(move || {
            let http = http.clone();
            async move {
                let http = Rc::new(http.new_service(()).await?);
                Ok::<_, ()>(fn_service(move |tcp: TcpStream| {
                    // Without this a small answer can wait 44 ms for the client's delayed ack.
                    let _ = tcp.set_nodelay(true);
                    let peer = tcp.peer_addr().ok();
                    http.call((ClientStream::new(tcp, head_timeout), peer))
                }))
            }
        })
    };
    let server = builder
        // Connections within `spare` get a refusal; this is the backstop for those that send no
        // request.
        .max_concurrent_connections((connections_max + spare).div_ceil(workers))
        .workers(workers)
        .disable_signals()
        .shutdown_timeout(1)
        .listen("http", listener, service)?;
    Ok((server.run(), address))
}

/// Listens where a broker that has just ended did, but on no port that is in use.
fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&listen.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
