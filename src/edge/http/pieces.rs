//! Bodies that are sent in several pieces, as the connection's [`Link`] has to know.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, EitherBody, MessageBody};
use actix_web::http::StatusCode;
use actix_web::web::Bytes;

use crate::edge::connections::{InPieces, Link};

/// A body up to this long is written at once with its head.
const AT_ONCE_BYTES: u64 = 4 * 1024;

/// See the module.
pub(super) struct Pieces {
    body: BoxBody,
    link: Link,
    /// From the first piece on.
    mark: Option<InPieces>,
}

impl MessageBody for Pieces {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.mark.is_none() {
            self.mark = Some(self.link.in_pieces());
        }
        Pin::new(&mut self.body).poll_next(context)
    }
}

/// A body, marked if it may go out in several pieces. A WebSocket's is no answer any more.
pub(super) fn marked<B: MessageBody + 'static>(
    status: StatusCode,
    body: B,
    link: &Link,
) -> EitherBody<B, Pieces> {
    match body.size() {
        BodySize::None | BodySize::Sized(0..=AT_ONCE_BYTES) => EitherBody::left(body),
        _ if status == StatusCode::SWITCHING_PROTOCOLS => EitherBody::left(body),
        BodySize::Sized(_) | BodySize::Stream => {
            EitherBody::right(Pieces { body: body.boxed(), link: link.clone(), mark: None })
        }
    }
}
