//! `/v1/debug/faults`, in builds with the feature `faults` only.

use actix_web::HttpResponse;
use actix_web::web::Bytes;
use serde::Deserialize;

use crate::edge::error::Problem;
use crate::faults::{self, Seam};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    seam: Seam,
    nth: u64,
}

/// `{"seam":"ingest-received","nth":3}`: panic the third time from now; `nth` 0 takes it back.
pub(super) async fn plan_fault(body: Bytes) -> Result<HttpResponse, Problem> {
    let plan: Plan =
        serde_json::from_slice(&body).map_err(|error| Problem::invalid("body", error))?;
    faults::plan(plan.seam, plan.nth);
    Ok(HttpResponse::NoContent().finish())
}
