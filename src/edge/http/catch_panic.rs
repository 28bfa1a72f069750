//! A panic in a handler affects that request alone: it is answered with 500 and logged.

use std::panic::AssertUnwindSafe;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use futures_util::FutureExt;

use crate::edge::error::{Code, Problem};

/// Middleware around all handlers.
pub async fn catch_panic(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let path = request.path().to_owned();
    // Nothing that the handler held is used after its panic.
    match AssertUnwindSafe(next.call(request)).catch_unwind().await {
        Ok(answered) => answered,
        Err(_) => {
            tracing::error!(?path, "a handler panicked");
            Err(Problem::new(Code::Internal, "the broker failed at this request").into())
        }
    }
}
