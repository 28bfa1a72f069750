//! `GET /v1/backup`: a consistent copy of everything, as a stream of bytes, while work goes on.
//!
//! Data that a slow reader has not taken is charged to the output budget, and goes out in pieces.

use std::time::Duration;

use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::parameters::NoQuery;
use crate::edge::Edge;
use crate::edge::admission::{Line, Permit};
use crate::edge::connections::Connection;
use crate::edge::error::{Code, Problem};
use crate::edge::outgoing::Taker;
use crate::edge::patience::Patience;
use crate::topics::{Backup, BackupError};

/// Parts, of up to 4 MiB each, that may wait for a slow reader.
const WAITING_MAX: usize = 2;

/// How long a reader may read nothing.
const STALL_MAX: Duration = Duration::from_secs(60);

/// A part of the copy, with its room.
type Part = Result<(Bytes, Option<Permit>), BackupError>;

pub(super) async fn backup(
    edge: Data<Edge>,
    request: HttpRequest,
    _: NoQuery,
) -> Result<HttpResponse, Problem> {
    let backup = edge.topics.backup().await?;
    let (sender, receiver) = mpsc::channel::<Part>(WAITING_MAX);
    let runtime = tokio::runtime::Handle::current();
    let outgoing = edge.outgoing.clone();
    let write = move || {
        // A client that does not read delays others for a bounded time only: retention waits for
        // the copy.
        let send = |part: Part| {
            let mut patience = Patience::new(STALL_MAX);
            runtime.block_on(patience.wait(sender.send(part))).is_some_and(|sent| sent.is_ok())
        };
        let written = backup.write(|bytes| {
            let room = outgoing.room(Line::Requests, bytes.len());
            let mut patience = Patience::new(STALL_MAX);
            let room = runtime.block_on(patience.wait(room));
            room.is_some_and(|room| send(Ok((bytes, Some(room)))))
        });
        if let Err(error) = written {
            tracing::error!(%error, "a backup broke off");
            // The connection breaks off with it, so the client sees no end marker.
            send(Err(error));
        }
    };
    std::thread::Builder::new().name("backup".into()).spawn(write).map_err(|error| {
        Problem::new(Code::Overloaded, format!("there is no thread for a backup: {error}"))
    })?;
    let connection = request.conn_data::<Connection>().and_then(Connection::reading_end);
    let taker = edge.outgoing.taker(connection, Line::Requests);
    let parts = Parts { receiver, part: (Bytes::new(), None), taker };
    let first = stream::once(async { Ok(Backup::beginning()) });
    let rest = stream::unfold(parts, |mut parts| async move {
        let bit = parts.bit().await?;
        Some((bit.map_err(Problem::from), parts))
    });
    let body = first.chain(rest);
    Ok(HttpResponse::Ok().content_type("application/octet-stream").streaming(Box::pin(body)))
}

/// The reader's end.
struct Parts {
    receiver: mpsc::Receiver<Part>,
    /// What is left of a part, and its room.
    part: (Bytes, Option<Permit>),
    taker: Taker,
}

impl Parts {
    async fn bit(&mut self) -> Option<Result<Bytes, BackupError>> {
        self.taker.took();
        if self.part.0.is_empty() {
            let part = match self.receiver.try_recv() {
                Ok(part) => part,
                Err(_) => {
                    // The time that the copy takes is not the reader's fault.
                    self.taker.idle();
                    self.receiver.recv().await?
                }
            };
            match part {
                Ok(part) => self.part = part,
                Err(error) => return Some(Err(error)),
            }
        }
        let size = self.taker.outgoing().piece_bytes();
        let (rest, _) = &mut self.part;
        let bit = rest.split_to(size.min(rest.len()));
        self.taker.gave_charged(bit.len());
        Some(Ok(bit))
    }
}
