//! `/v1/debug/…`, in builds with the feature `faults` only.

use actix_web::HttpResponse;
use actix_web::web::Bytes;

use crate::edge::error::Problem;
use crate::edge::wire;
use crate::faults::{self, Action, Plan};

/// `POST /v1/debug/faults` with `{"seam":"ingest-received","nth":3}`: a panic the third time from
/// now; also `"action":"error"`, `"action":"delay","delay_ms":50`, `"times":7`.
pub(super) async fn plan_fault(body: Bytes) -> Result<HttpResponse, Problem> {
    let plan: Plan = wire::parse_object("body", &body)?;
    if plan.action == Action::Error && !plan.seam.can_fail() {
        return Err(Problem::invalid("action", "nothing can fail with an error at this seam"));
    }
    faults::plan(plan);
    Ok(HttpResponse::NoContent().finish())
}
