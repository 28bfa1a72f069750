//! `/livez` and `/readyz`: for supervisors that restart the broker, and balancers that send it
//! work.

use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, Responder};
use serde_json::{Value, json};

use super::parameters::NoQuery;
use crate::actors::directory::TopicState;
use crate::edge::Edge;

pub(super) async fn live(_: NoQuery) -> impl Responder {
    Json(json!({ "live": true }))
}

/// Ready unless draining, out of disk space or without a journal; a topic that does not work does
/// not take the node out of service.
pub(super) async fn ready(edge: Data<Edge>, _: NoQuery) -> HttpResponse {
    let topics = edge.topics.directory().topics();
    if let Some(reason) = edge.not_ready() {
        let recovering =
            topics.iter().filter(|topic| edge.topic_state(topic) == TopicState::Recovering);
        let recovering: Vec<_> = recovering.map(|topic| topic.name().as_str()).collect();
        return HttpResponse::ServiceUnavailable()
            .json(json!({ "ready": false, "reason": reason, "recovering": recovering }));
    }
    let degraded = topics.iter().filter_map(|topic| {
        let reason = match edge.topic_state(topic) {
            TopicState::Running => return None,
            TopicState::Recovering => "recovering",
            TopicState::Quarantined if edge.is_damaged(topic) => "damaged",
            TopicState::Quarantined => "quarantined",
        };
        Some(json!({ "reason": reason, "topic": topic.name().as_str() }))
    });
    let degraded: Vec<Value> = degraded.collect();
    HttpResponse::Ok().json(json!({ "ready": true, "degraded": degraded }))
}
