//! `GET /v1/backup`: a consistent copy of everything, as one run of bytes, while work goes on.

use actix_web::HttpResponse;
use actix_web::web::{Bytes, Data};
use futures_util::stream;
use tokio::sync::mpsc;

use crate::edge::Edge;
use crate::edge::error::Problem;
use crate::journal::{Backup, JournalError};

/// Pieces that may wait for a slow reader.
const WAITING_MAX: usize = 16;

pub(super) async fn backup(edge: Data<Edge>) -> Result<HttpResponse, Problem> {
    let backup = edge.supervisor.backup().await?;
    let (sender, receiver) = mpsc::channel::<Result<Bytes, JournalError>>(WAITING_MAX);
    tokio::task::spawn_blocking(move || {
        let written = backup.write(|bytes| sender.blocking_send(Ok(bytes)).is_ok());
        if let Err(error) = written {
            tracing::error!(%error, "a backup broke off");
            // The connection breaks off with it, and the client has no end.
            let _ = sender.blocking_send(Err(error));
        }
    });
    let first = stream::once(async { Ok(Backup::beginning()) });
    let rest = stream::unfold(receiver, |mut receiver| async {
        let item = receiver.recv().await?;
        Some((item.map_err(Problem::from), receiver))
    });
    let body = futures_util::StreamExt::chain(first, rest);
    Ok(HttpResponse::Ok().content_type("application/octet-stream").streaming(Box::pin(body)))
}
