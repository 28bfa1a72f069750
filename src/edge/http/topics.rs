//! `/v1/topics` and `/v1/topics/{topic}`.

use std::sync::atomic::Ordering;

use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{self, Wait};
use super::parameters::{NoQuery, number, query};
use super::topic_name;
use crate::actors::directory::TopicHandle;
use crate::edge::Edge;
use crate::edge::error::{Code, Problem};
use crate::edge::wire;
use crate::model::{Gap, TopicName, TopicSettings, TopicSettingsChange};
use crate::queue::TopicExtent;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    prefix: Option<String>,
    limit: Option<String>,
    after: Option<String>,
}

/// Topics by name, a page at a time; `next` is the `after` of the following page.
pub(super) async fn list(edge: Data<Edge>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query: ListQuery = query(&request)?;
    let limit = number("limit", query.limit.as_deref(), 1..=1_000, 100)?;
    let prefix = query.prefix.unwrap_or_default();
    let after = query.after.unwrap_or_default();
    let topics = edge.topics.directory().topics();
    let mut matching = topics.iter().filter(|topic| {
        let name = topic.name().as_str();
        name.starts_with(&prefix) && (after.is_empty() || name > after.as_str())
    });
    let page: Vec<_> = matching.by_ref().take(limit).collect();
    let next = page.last().filter(|_| matching.next().is_some()).map(|topic| topic.name().as_str());
    let shown: Vec<Value> = page.iter().map(|topic| view(&edge, topic)).collect();
    Ok(HttpResponse::Ok().json(json!({ "topics": shown, "next": next })))
}

pub(super) async fn show(
    edge: Data<Edge>,
    path: Path<String>,
    _: NoQuery,
) -> Result<HttpResponse, Problem> {
    let topic = existing(&edge, &topic_name(&path)?)?;
    Ok(HttpResponse::Ok().json(view(&edge, &topic)))
}

pub(super) async fn replace(
    edge: Data<Edge>,
    path: Path<String>,
    request: HttpRequest,
    payload: Payload,
    _: NoQuery,
) -> Result<HttpResponse, Problem> {
    let name = topic_name(&path)?;
    let body = body::read(&edge, &request, payload, Wait::of(&edge)).await?;
    let change = settings_change(&body.bytes)?;
    // What is left out takes the broker's default for topics.
    let defaults = edge.topics.policy().defaults;
    let settings = change.apply_to(defaults, defaults);
    check(&edge, &settings)?;
    let must_be_new = request.headers().get("if-none-match").is_some_and(|value| value == "*");
    let (topic, created) = edge.topics.put(name, settings, must_be_new).await?;
    let mut response = if created { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(response.json(view(&edge, &topic)))
}

/// What is left out stays as it is.
pub(super) async fn change(
    edge: Data<Edge>,
    path: Path<String>,
    request: HttpRequest,
    payload: Payload,
    _: NoQuery,
) -> Result<HttpResponse, Problem> {
    let name = topic_name(&path)?;
    let body = body::read(&edge, &request, payload, Wait::of(&edge)).await?;
    let change = settings_change(&body.bytes)?;
    let defaults = edge.topics.policy().defaults;
    check(&edge, &change.apply_to(defaults, defaults))?;
    let topic = edge.topics.change(name, change).await?;
    Ok(HttpResponse::Ok().json(view(&edge, &topic)))
}

fn settings_change(body: &[u8]) -> Result<TopicSettingsChange, Problem> {
    match body.trim_ascii() {
        b"" => Ok(TopicSettingsChange::default()),
        given => wire::parse_object("body", given),
    }
}

/// Settings each have bounds of their own, so this holds for any change, too.
fn check(edge: &Edge, settings: &TopicSettings) -> Result<(), Problem> {
    settings.validate().map_err(|why| Problem::new(Code::InvalidRequest, why))?;
    let ceiling = edge.limits.message_bytes_max;
    if settings.message_bytes_max > ceiling {
        let why = format!("this broker allows at most {ceiling} (limits.message_bytes_max)");
        return Err(Problem::invalid("message_bytes_max", why));
    }
    Ok(())
}

pub(super) async fn delete(
    edge: Data<Edge>,
    path: Path<String>,
    _: NoQuery,
) -> Result<HttpResponse, Problem> {
    edge.topics.delete(topic_name(&path)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Recover {
    accept_gap: Option<Gap>,
}

/// Leaves quarantine with a fresh restart budget, and accepts a gap where messages are damaged.
pub(super) async fn recover(
    edge: Data<Edge>,
    path: Path<String>,
    request: HttpRequest,
    payload: Payload,
    _: NoQuery,
) -> Result<HttpResponse, Problem> {
    let topic = existing(&edge, &topic_name(&path)?)?;
    let body = body::read(&edge, &request, payload, Wait::of(&edge)).await?;
    let recover = match body.bytes.trim_ascii() {
        b"" => Recover::default(),
        given => wire::parse_object("body", given)?,
    };
    if let Some(gap) = recover.accept_gap {
        edge.topics.accept_gap(&topic, gap).await?;
    }
    edge.supervisor.recover_topic(&topic);
    Ok(HttpResponse::Ok().json(view(&edge, &topic)))
}

fn existing(edge: &Edge, name: &TopicName) -> Result<std::sync::Arc<TopicHandle>, Problem> {
    let found = edge.topics.directory().topic(name);
    found.ok_or_else(|| Problem::no_topic(name))
}

fn view(edge: &Edge, topic: &TopicHandle) -> Value {
    let record = topic.record();
    let extent = edge.queue.extent(topic.id());
    let gone = TopicExtent { first: 0, head: 0, messages: 0, bytes: 0, damaged: false };
    let TopicExtent { first, head, messages, bytes, damaged } = extent.unwrap_or(gone);
    let mut view = json!({
        "name": record.name,
        "state": edge.topic_state(topic),
        "epoch": record.epoch,
        "first": first,
        "head": head,
        "messages": messages,
        "bytes": bytes,
        "loss_bound_ms": record.settings.loss_bound_ms(),
        "producers": topic.producers.load(Ordering::Relaxed),
        "subscriptions": 0,
        "restarts": topic.restarts(),
        "gaps": edge.queue.gaps(topic.id()),
    });
    if damaged {
        view["damage"] = json!(edge.queue.damage(topic.id()));
    }
    if let (Some(view), Ok(Value::Object(settings))) =
        (view.as_object_mut(), serde_json::to_value(record.settings))
    {
        view.extend(settings);
    }
    view
}
