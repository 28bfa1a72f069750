//! `/livez` and `/readyz`: for those who decide whether to restart us, and whether to send work.

use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, Responder};
use serde_json::json;

use super::parameters::NoQuery;
use crate::actors::directory::TopicState;
use crate::edge::Edge;

pub(super) async fn live(_: NoQuery) -> impl Responder {
    Json(json!({ "live": true }))
}

/// Ready unless draining, out of disk space or without a journal; topics that gave up don't take the node out.
pub(super) async fn ready(edge: Data<Edge>, _: NoQuery) -> HttpResponse {
    let in_state = |state| -> Vec<String> {
        let topics = edge.supervisor.directory().topics();
        let found = topics.iter().filter(|topic| edge.topic_state(topic) == state);
        found.map(|topic| topic.name().to_string()).collect()
    };
    if let Some(reason) = edge.not_ready() {
        let recovering = in_state(TopicState::Recovering);
        return HttpResponse::ServiceUnavailable()
            .json(json!({ "ready": false, "reason": reason, "recovering": recovering }));
    }
    let degraded = in_state(TopicState::Quarantined);
    HttpResponse::Ok().json(json!({ "ready": true, "degraded": degraded }))
}
