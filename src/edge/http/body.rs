//! Request bodies, read within their limit and the byte budget.
//!
//! A body that finds no room waits for it a while, in line with other requests and in turn with
//! sockets, so that sockets' traffic does not cause its refusal: first for room to be read, piece
//! by piece, then for room in flight to the journal, as a whole.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::SemaphorePermit;

use super::parameters::header;
use crate::edge::Edge;
use crate::edge::admission::{Admission, Permit};
use crate::edge::error::{Code, Problem};
use crate::edge::patience::Patience;
use crate::model::Block;

/// A body that arrives complete in one piece no longer than this needs no room to be read.
const ONE_PIECE_BYTES: usize = 16 * 1024;
/// A large body may wait a second longer for each N bytes, since they take that long.
const BYTES_PER_WAIT_SECOND: usize = 8 * 1024 * 1024;

/// A body and the budget it takes up until it is in flight.
pub(super) struct Body<'e> {
    pub(super) bytes: Bytes,
    coming: Coming<'e>,
    wait: Wait<'e>,
}

/// How long a request waits for room.
#[derive(Clone, Copy)]
pub(super) struct Wait<'e> {
    edge: &'e Edge,
    ms: u64,
}

/// The room of a body that is arriving.
struct Coming<'e> {
    edge: &'e Edge,
    permit: Option<Permit>,
    /// One body at a time needs no room: bodies that each have some and wait for more would wait
    /// for each other.
    turn: Option<SemaphorePermit<'e>>,
}

impl<'e> Wait<'e> {
    /// As long as the settings say.
    pub(super) fn of(edge: &'e Edge) -> Self {
        Self { edge, ms: edge.limits.room_wait_ms }
    }

    /// Not at all.
    pub(super) fn none(edge: &'e Edge) -> Self {
        Self { edge, ms: 0 }
    }

    /// Waits for room for a part of something that has, or will have, `whole` bytes.
    async fn room(self, of: &Admission, bytes: usize, whole: usize) -> Result<Permit, Problem> {
        if let Some(room) = of.try_admit_part(bytes, whole) {
            return Ok(room);
        }
        let more_ms = if self.ms > 0 { whole * 1_000 / BYTES_PER_WAIT_SECOND } else { 0 };
        let wait = Duration::from_millis(self.ms + more_ms as u64);
        let mut draining = self.edge.draining.clone();
        tokio::select! {
            biased;
            room = of.admit_within(bytes, whole, wait) => room.ok_or_else(Problem::overloaded),
            // The sender of `draining` lives as long as the edge.
            _ = draining.wait_for(|draining| *draining) => {
                Err(Problem::new(Code::Draining, "take your message to another node"))
            }
        }
    }
}

impl Coming<'_> {
    async fn add(&mut self, piece: usize, whole: usize, wait: Wait<'_>) -> Result<(), Problem> {
        if self.turn.is_some() {
            return Ok(());
        }
        let room = wait.room(&self.edge.unfinished, piece, whole);
        let turn = async {
            match self.permit {
                Some(_) => self.edge.last_upload.acquire().await.ok(),
                // It holds no room that others wait for, and can wait like them.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            more = room => match (&mut self.permit, more?) {
                (Some(held), more) => held.merge(more),
                (held, more) => *held = Some(more),
            },
            turn = turn => self.turn = turn,
        }
        Ok(())
    }
}

impl Body<'_> {
    /// Sends the block made of the body on, once there is room for it.
    ///
    /// # Errors
    /// `overloaded` or `draining`: there was none in time.
    pub(super) async fn admit(self, block: Option<Block>) -> Result<Option<Block>, Problem> {
        let Some(block) = block else { return Ok(None) };
        let Self { bytes, coming, wait } = self;
        let needed = block.body().len();
        drop(bytes);
        let permit = wait.room(&wait.edge.admission, needed, needed).await?;
        drop(coming);
        Ok(Some(block.charged(Some(permit))))
    }
}

/// Reads the whole body. Bytes are admitted before they are kept.
///
/// # Errors
/// `body-too-large`, `overloaded`, `request-timeout`, an encoding, or the connection broke.
pub(super) async fn read<'e>(
    edge: &'e Edge,
    request: &HttpRequest,
    mut payload: Payload,
    wait: Wait<'e>,
) -> Result<Body<'e>, Problem> {
    let limit = edge.limits.body_bytes_max;
    let too_large = || Problem::body_too_large(limit);
    let declared = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    if declared > limit {
        return Err(too_large());
    }
    // The received bytes are stored, so they must be the payload itself.
    let encoding = header(request, CONTENT_ENCODING.as_str())?.unwrap_or("identity");
    if !encoding.eq_ignore_ascii_case("identity") {
        let why =
            format!("Content-Encoding `{encoding}` is not supported; send the body unencoded");
        return Err(Problem::new(Code::UnsupportedMediaType, why));
    }
    let mut coming = Coming { edge, permit: None, turn: None };
    let mut bytes = BytesMut::new();
    let mut patience = Patience::new(Duration::from_millis(edge.limits.body_timeout_ms));
    loop {
        // A body that has arrived needs no timer.
        let piece = match payload.next().now_or_never() {
            Some(piece) => Some(piece),
            None => patience.wait(payload.next()).await,
        };
        let piece = piece.ok_or_else(|| {
            let why = format!(
                "the body did not arrive completely within {} ms",
                edge.limits.body_timeout_ms
            );
            Problem::new(Code::RequestTimeout, why)
        })?;
        let Some(piece) = piece else { break };
        let piece =
            piece.map_err(|error| Problem::new(Code::InvalidRequest, format!("body: {error}")))?;
        if bytes.len() + piece.len() > limit {
            return Err(too_large());
        }
        // Charged by what arrived, not by what was announced: a stalled upload delays no others.
        let whole = declared.max(bytes.len() + piece.len());
        if piece.len() != declared || piece.len() > ONE_PIECE_BYTES {
            coming.add(piece.len(), whole, wait).await?;
        }
        if bytes.capacity() - bytes.len() < piece.len() {
            // As much again, but no more than was announced: a buffer that doubles past the end
            // would hold it for as long as the body lives.
            let announced = declared.saturating_sub(bytes.len());
            bytes.reserve(piece.len().max(announced.min(bytes.len())));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(Body { bytes: bytes.freeze(), coming, wait })
}
