//! Request bodies, read within their limit and the byte budget.

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt;

use crate::edge::Edge;
use crate::edge::admission::Permit;
use crate::edge::error::{Code, Problem};

/// A body and the budget it takes up.
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) permit: Option<Permit>,
}

/// Reads the whole body. Bytes are admitted before they are kept.
///
/// # Errors
/// `body-too-large`, `overloaded`, or the connection broke.
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
    let mut body = Body { bytes: Bytes::new(), permit: None };
    let mut bytes = BytesMut::new();
    while let Some(piece) = payload.next().await {
        let piece =
            piece.map_err(|error| Problem::new(Code::InvalidRequest, format!("body: {error}")))?;
        if bytes.len() + piece.len() > limit {
            return Err(too_large());
        }
        // By what came, not by what was announced: an upload that stalls holds nothing back.
        let permit = edge.admission.try_admit(piece.len()).ok_or_else(Problem::overloaded)?;
        match &mut body.permit {
            Some(held) => held.merge(permit),
            None => body.permit = Some(permit),
        }
        bytes.extend_from_slice(&piece);
    }
    body.bytes = bytes.freeze();
    Ok(body)
}
