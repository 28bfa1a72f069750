//! What a publisher receives.

use std::fmt::Write;

use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_TYPE, LOCATION};
use actix_web::web::Data;
use serde::Serialize;
use uuid::Uuid;

use super::collect::nothing;
use super::{Part, Stored};
use crate::edge::Edge;
use crate::edge::connections::Link;
use crate::edge::error::Problem;
use crate::edge::http::waiting::Preference;
use crate::model::{AckLevel, Durability, NotStored, Outcome, Receipt, Stage, TopicName};
use crate::patterns::request_acknowledge::{Until, receipt};

/// The answer to one message, held back until it has reached the requested stage.
pub(super) async fn one(
    edge: &Data<Edge>,
    Part { topic, appended, .. }: &Part,
    until: Until,
    (preference, link): (Preference, Link),
) -> Result<HttpResponse, Problem> {
    let outcome = appended.outcomes().next();
    let (offset, duplicate) = match outcome {
        Some(Outcome::Stored(offset)) => (offset, false),
        Some(Outcome::Not(NotStored::Duplicate(Some(offset)))) => (offset, true),
        _ => return Err(Problem::message_id_conflict()),
    };
    let stage = match (until, preference.wait) {
        (Until::Logged, _) | (_, None) => Stage::Logged,
        (until, Some(wait)) => {
            let (queue, draining) = (&edge.queue, edge.draining.clone());
            let reached = receipt::reached(queue, topic, offset, until, wait, draining);
            // It is stored, whatever has happened since to the message, its sender or the broker.
            let reached = link.unless_ended(reached).await;
            reached.and_then(Result::ok).map_or(Stage::Logged, |story| story.stage)
        }
    };
    let receipt = edge.receipts.seal(Receipt { topic: topic.id(), sequence: offset });
    let mut response = HttpResponse::Accepted();
    response.insert_header((LOCATION, format!("/v1/receipts/{receipt}")));
    preference.applied(&mut response);
    let Durability { ack_level, loss_bound_ms } = appended.durability;
    let topic = topic.name();
    Ok(response.json(Answer { receipt, topic, stage, ack_level, loss_bound_ms, offset, duplicate }))
}

/// API.md's answer for a stored message.
#[derive(Serialize)]
struct Answer<'a> {
    receipt: Uuid,
    topic: &'a TopicName,
    stage: Stage,
    ack_level: AckLevel,
    loss_bound_ms: u64,
    offset: u64,
    duplicate: bool,
}

/// One result a message, in the order sent: its own fault, or the result of its block. As the
/// messages of a block go together, a temporary error applies to all of them.
pub(super) fn many(
    edge: &Edge,
    checked: Vec<Result<(), Problem>>,
    stored: Option<Result<Stored, Problem>>,
) -> HttpResponse {
    let (mut accepted, mut rejected) = (0u64, 0u64);
    let mut first_error = None;
    // Written directly: a tree of all results would cost many times their text.
    let mut results = String::new();
    let parts = stored.iter().flatten().flat_map(|stored| &stored.parts);
    let mut outcomes = parts.flat_map(|part| {
        let outcomes = part.appended.outcomes().take(part.count as usize);
        outcomes.map(|outcome| (part.topic.id(), outcome))
    });
    for fault in checked {
        results.push_str(if results.is_empty() { "" } else { "," });
        let problem = match (fault, &stored) {
            (Ok(()), Some(Ok(Stored { refused, .. }))) => {
                let (topic, outcome) = outcomes.next().unzip();
                let (offset, duplicate) = match outcome {
                    Some(Outcome::Stored(offset)) => (Some(offset), false),
                    Some(Outcome::Not(NotStored::Duplicate(offset))) => (offset, true),
                    _ => (None, false),
                };
                if let (Some(topic), Some(sequence)) = (topic, offset) {
                    let receipt = edge.receipts.seal(Receipt { topic, sequence });
                    accepted += 1;
                    // Writing to a String does not fail.
                    let _ = write!(
                        results,
                        r#"{{"receipt":"{receipt}","offset":{sequence},"duplicate":{duplicate}}}"#
                    );
                    continue;
                }
                match (outcome, refused) {
                    (None, Some(problem)) => problem.clone(),
                    _ => Problem::message_id_conflict(),
                }
            }
            (Ok(()), Some(Err(problem))) => problem.clone(),
            (Ok(()), None) => nothing(),
            (Err(problem), _) => problem,
        };
        rejected += 1;
        let _ = write!(results, r#"{{"error":{}}}"#, problem.to_json());
        first_error.get_or_insert(problem);
    }
    let mut response = match first_error {
        Some(problem) if accepted == 0 => {
            let mut response = HttpResponse::build(problem.status());
            problem.add_retry_after(&mut response);
            response
        }
        _ => HttpResponse::Accepted(),
    };
    response
        .insert_header((CONTENT_TYPE, "application/json"))
        .body(format!(r#"{{"accepted":{accepted},"rejected":{rejected},"results":[{results}]}}"#))
}
