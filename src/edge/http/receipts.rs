//! `GET /v1/receipts/{receipt}`: the state of a message.

use std::time::Duration;

use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::parameters::{number, query};
use super::waiting::until;
use crate::edge::Edge;
use crate::edge::connections::Link;
use crate::edge::error::{Code, Problem};
use crate::model::{Receipt, Stage, Timestamp};
use crate::patterns::request_acknowledge::receipt::{self, Story};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiptQuery {
    until: Option<String>,
    wait_ms: Option<String>,
}

pub(super) async fn show(
    edge: Data<Edge>,
    path: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let query: ReceiptQuery = query(&request)?;
    let until = until(query.until.as_deref())?;
    let wait_ms = number("wait_ms", query.wait_ms.as_deref(), 0..=30_000, 0)?;
    let address = request.peer_addr().map(|address| address.ip());
    // Only a receipt that was never issued counts as a guess: a valid one is always answered.
    let guessed = |code, why: &str| {
        let Some(address) = address else { return Problem::new(code, why) };
        if let Some(wait) = edge.guesses.blocked(address) {
            let why = "too many receipts that don't exist were asked for from this address";
            return Problem::new(Code::RateLimited, why).retry_after(wait);
        }
        edge.guesses.missed(address);
        Problem::new(code, why)
    };
    const UNKNOWN: &str = "there is no message with this receipt";
    let unknown = || Problem::new(Code::ReceiptNotFound, UNKNOWN);
    let token = Uuid::try_parse(&path).ok().filter(|_| path.len() == Hyphenated::LENGTH);
    let token = token
        .ok_or_else(|| guessed(Code::InvalidReceipt, "a receipt is a UUID, as it was issued"))?;
    let Receipt { topic, sequence } =
        edge.receipts.open(token).ok_or_else(|| guessed(Code::ReceiptNotFound, UNKNOWN))?;
    let topic = edge.topics.directory().topic_with_id(topic).ok_or_else(unknown)?;
    if receipt::story(&edge.queue, &topic, sequence).await?.is_none() {
        let damaged = edge.queue.extent(topic.id()).is_some_and(|extent| extent.damaged);
        let why = "the topic is damaged, and the loss has not been accepted yet";
        return Err(if damaged { Problem::new(Code::Quarantined, why) } else { unknown() });
    }
    let wait = Duration::from_millis(wait_ms);
    let (queue, draining) = (&edge.queue, edge.draining.clone());
    let wait_for = |wait| receipt::reached(queue, &topic, sequence, until, wait, draining.clone());
    let story = match Link::of(&request).unless_ended(wait_for(wait)).await {
        Some(story) => story,
        // A half-closed client gets what is known.
        None => wait_for(Duration::ZERO).await,
    };
    let Story { stage, history, .. } = story?;
    let moment = |(stage, at): &(Stage, Option<Timestamp>)| -> Value {
        match at {
            Some(at) => json!({ "stage": stage, "at": at.to_string() }),
            None => json!({ "stage": stage }),
        }
    };
    Ok(HttpResponse::Ok().json(json!({
        "receipt": token,
        "topic": topic.name(),
        "stage": stage,
        "offset": sequence,
        "loss_bound_ms": topic.settings().loss_bound_ms(),
        "subscriptions": [],
        "history": history.iter().map(moment).collect::<Vec<_>>(),
    })))
}
