//! `GET /v1/backup`: a consistent copy of everything, as one run of bytes, while work goes on.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::{Bytes, Data};
use futures_util::stream;
use tokio::sync::mpsc;

use super::parameters::NoQuery;
use crate::edge::Edge;
use crate::edge::error::Problem;
use crate::edge::patience::Patience;
use crate::journal::{Backup, JournalError};

/// Pieces that may wait for a slow reader.
const WAITING_MAX: usize = 16;

/// How long a reader may take nothing.
const STALL_MAX: Duration = Duration::from_secs(60);

pub(super) async fn backup(edge: Data<Edge>, _: NoQuery) -> Result<HttpResponse, Problem> {
    let backup = edge.supervisor.backup().await?;
    let (sender, receiver) = mpsc::channel::<Result<Bytes, JournalError>>(WAITING_MAX);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        // Who does not read holds nothing up for ever: retention waits for us.
        let give = |item| {
            let mut patience = Patience::new(STALL_MAX);
            runtime.block_on(patience.wait(sender.send(item))).is_some_and(|sent| sent.is_ok())
        };
        let written = backup.write(|bytes| give(Ok(bytes)));
        if let Err(error) = written {
            tracing::error!(%error, "a backup broke off");
            // The connection breaks off with it, and the client has no end.
            let _ = give(Err(error));
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
