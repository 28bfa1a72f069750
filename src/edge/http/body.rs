//! Request bodies, read within their limit and the byte budget.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt;

use super::parameters::header;
use crate::edge::Edge;
use crate::edge::admission::Permit;
use crate::edge::connections::Link;
use crate::edge::error::{Code, Problem};
use crate::edge::patience::Patience;

/// A body and the budget it takes up.
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) permit: Option<Permit>,
}

/// Reads the whole body. Bytes are admitted before they are kept.
///
/// # Errors
/// `body-too-large`, `overloaded`, `request-timeout`, an encoding, or the connection broke.
pub(super) async fn read(
    edge: &Edge,
    request: &HttpRequest,
    mut payload: Payload,
) -> Result<Body, Problem> {
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
    // What is stored is what came, so what came must be the payload itself.
    let encoding = header(request, CONTENT_ENCODING.as_str())?.unwrap_or("identity");
    if !encoding.eq_ignore_ascii_case("identity") {
        let why = format!("Content-Encoding `{encoding}` is not undone here; send it as it is");
        return Err(Problem::new(Code::UnsupportedMediaType, why));
    }
    let (mut coming, mut under_way): (Option<Permit>, Option<Permit>) = (None, None);
    let mut bytes = BytesMut::new();
    let mut patience = Patience::new(Duration::from_millis(edge.limits.body_timeout_ms));
    loop {
        let piece = patience.wait(payload.next()).await.ok_or_else(|| {
            let why = format!("the body was not whole within {} ms", edge.limits.body_timeout_ms);
            Problem::new(Code::RequestTimeout, why)
        })?;
        let Some(piece) = piece else { break };
        let piece =
            piece.map_err(|error| Problem::new(Code::InvalidRequest, format!("body: {error}")))?;
        if bytes.len() + piece.len() > limit {
            return Err(too_large());
        }
        // By what came, not by what was announced: an upload that stalls holds nothing back.
        let whole = declared.max(bytes.len() + piece.len());
        // Twice: what is still coming may take a part of the room only, so that uploads which
        // stall leave some to those that don't.
        let budgets = [(&edge.admission, &mut under_way), (&edge.unfinished, &mut coming)];
        // What comes in one piece is not coming any more.
        let needed = if piece.len() == declared { 1 } else { 2 };
        for (budget, held) in budgets.into_iter().take(needed) {
            let permit = budget.try_admit_part(piece.len(), whole);
            let permit = permit.ok_or_else(Problem::overloaded)?;
            match held {
                Some(held) => held.merge(permit),
                None => *held = Some(permit),
            }
        }
        if bytes.capacity() - bytes.len() < piece.len() {
            // As much again, but no more than was announced: a buffer that doubles past the end
            // would hold it for as long as the body lives.
            let announced = declared.saturating_sub(bytes.len());
            bytes.reserve(piece.len().max(announced.min(bytes.len())));
        }
        bytes.extend_from_slice(&piece);
    }
    Link::of(request).body_read();
    Ok(Body { bytes: bytes.freeze(), permit: under_way })
}
