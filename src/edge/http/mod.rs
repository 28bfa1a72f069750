//! HTTP: the modules mirror the paths.
//!
//! Every answer that is not a success is a problem object, whatever its origin: handlers,
//! extractors, unknown paths, wrong methods.

mod backup;
mod body;
mod catch_panic;
mod events;
mod health;
mod message;
mod message_headers;
mod metrics;
mod pages;
pub(in crate::edge) mod parameters;
mod pieces;
mod poll;
mod publish;
mod receipts;
mod request_guard;
mod rest;
mod topics;
mod waiting;

#[cfg(feature = "faults")]
mod debug;

pub use catch_panic::catch_panic;
pub use request_guard::guard_request;

use actix_cors::Cors;
use actix_web::http::Method;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{HttpResponse, Resource, ResponseError, Route, guard, web};

use super::error::{Code, Problem};
use super::ws;
use crate::model::TopicName;

/// All paths of API.md that this broker serves.
pub fn routes(config: &mut web::ServiceConfig) {
    let (get, post) = (web::get, web::post);
    let of_topic = |path: &str| format!("/v1/topics/{{topic}}/{path}");
    // Paths are tried in this order: the most frequent first.
    resource(
        config,
        &of_topic("messages"),
        "GET, HEAD, POST",
        [read().to(poll::poll), post().to(publish::publish)],
    );
    resource(config, "/livez", "GET, HEAD", [read().to(health::live)]);
    resource(config, "/readyz", "GET, HEAD", [read().to(health::ready)]);
    resource(config, "/metrics", "GET, HEAD", [read().to(metrics::metrics)]);
    resource(config, "/v1/status", "GET, HEAD", [read().to(metrics::status)]);
    resource(config, "/v1/topics", "GET, HEAD", [read().to(topics::list)]);
    resource(config, "/v1/backup", "GET", [get().to(backup::backup)]);
    resource(
        config,
        "/v1/topics/{topic}",
        "DELETE, GET, HEAD, PATCH, PUT",
        [
            read().to(topics::show),
            web::put().to(topics::replace),
            web::patch().to(topics::change),
            web::delete().to(topics::delete),
        ],
    );
    resource(config, &of_topic("recover"), "POST", [post().to(topics::recover)]);
    let one_message = of_topic("messages/{offset}");
    resource(config, &one_message, "GET, HEAD", [read().to(message::message)]);
    resource(config, &of_topic("oneway"), "POST", [post().to(publish::one_way)]);
    resource(config, &of_topic("events"), "GET", [get().to(events::events)]);
    resource(config, &of_topic("producer"), "GET", [get().to(ws::open_producer)]);
    resource(config, &of_topic("tail"), "GET", [get().to(ws::open_tail)]);
    resource(config, "/v1/receipts/{receipt}", "GET, HEAD", [read().to(receipts::show)]);
    #[cfg(feature = "faults")]
    {
        resource(config, "/v1/debug/faults", "POST", [post().to(debug::plan_fault)]);
        resource(config, "/v1/debug/echo", "GET", [get().to(ws::open_echo)]);
    }
    config.default_service(web::to(|| async {
        Problem::new(Code::NotFound, "no such path").error_response()
    }));
}

/// GET, and HEAD, which is the same without a body.
fn read() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// A path, its handlers, and the answer to all other methods.
fn resource<const N: usize>(
    config: &mut web::ServiceConfig,
    path: &str,
    allowed: &'static str,
    routes: [Route; N],
) {
    let others = move |method: Method| async move {
        let mut response = match method {
            Method::OPTIONS => HttpResponse::NoContent().finish(),
            _ => {
                let why = format!("allowed here: {allowed}");
                Problem::new(Code::MethodNotAllowed, why).error_response()
            }
        };
        if let Ok(allow) = HeaderValue::from_str(&format!("{allowed}, OPTIONS")) {
            response.headers_mut().insert(ALLOW, allow);
        }
        response
    };
    let resource = routes.into_iter().fold(web::resource(path), Resource::route);
    config.service(resource.default_service(web::to(others)));
}

/// CORS for pages of listed origins: everything (the guard has refused the others).
pub fn cors(allowed_origins: Vec<String>) -> Cors {
    Cors::default()
        .allowed_origin_fn(move |origin, _| {
            origin.to_str().is_ok_and(|origin| request_guard::is_listed(origin, &allowed_origins))
        })
        .allowed_methods(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
        .allow_any_header()
        .expose_any_header()
        .max_age(CORS_SECONDS)
}

/// How long a browser may cache these permissions.
const CORS_SECONDS: usize = 3_600;

/// The topic's name in the path.
pub(super) fn topic_name(path: &str) -> Result<TopicName, Problem> {
    Ok(TopicName::new(path)?)
}
