//! HTTP: the modules mirror the paths.
//!
//! Every answer that is not a success is a problem object, from wherever it comes: handlers,
//! extractors, unknown paths, wrong methods.

mod backup;
mod body;
mod catch_panic;
mod health;
pub(in crate::edge) mod parameters;
mod poll;
mod publish;
mod topics;

#[cfg(feature = "faults")]
mod debug;

pub use catch_panic::catch_panic;

use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{Resource, ResponseError, Route, web};

use super::error::{Code, Problem};
use super::ws;
use crate::model::TopicName;

/// All paths of API.md that this broker serves.
pub fn routes(config: &mut web::ServiceConfig) {
    let (get, put, post) = (web::get, web::put, web::post);
    resource(config, "/livez", "GET", [get().to(health::live)]);
    resource(config, "/readyz", "GET", [get().to(health::ready)]);
    resource(config, "/v1/topics", "GET", [get().to(topics::list)]);
    resource(config, "/v1/backup", "GET", [get().to(backup::backup)]);
    resource(
        config,
        "/v1/topics/{topic}",
        "DELETE, GET, PATCH, PUT",
        [
            get().to(topics::show),
            put().to(topics::replace),
            web::patch().to(topics::change),
            web::delete().to(topics::delete),
        ],
    );
    resource(config, "/v1/topics/{topic}/recover", "POST", [post().to(topics::recover)]);
    resource(
        config,
        "/v1/topics/{topic}/messages",
        "GET, POST",
        [get().to(poll::poll), post().to(publish::publish)],
    );
    resource(config, "/v1/topics/{topic}/producer", "GET", [get().to(ws::open_producer)]);
    resource(config, "/v1/topics/{topic}/tail", "GET", [get().to(ws::open_tail)]);
    #[cfg(feature = "faults")]
    resource(config, "/v1/debug/faults", "POST", [post().to(debug::plan_fault)]);
    config.default_service(web::to(|| async {
        Problem::new(Code::NotFound, "no such path").error_response()
    }));
}

/// A path, its handlers, and the answer to all other methods.
fn resource<const N: usize>(
    config: &mut web::ServiceConfig,
    path: &str,
    allowed: &'static str,
    routes: [Route; N],
) {
    let others = move || async move {
        let problem = Problem::new(Code::MethodNotAllowed, format!("allowed here: {allowed}"));
        let mut response = problem.error_response();
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        response
    };
    let resource = routes.into_iter().fold(web::resource(path), Resource::route);
    config.service(resource.default_service(web::to(others)));
}

/// The topic's name in the path.
pub(super) fn topic_name(path: &str) -> Result<TopicName, Problem> {
    Ok(TopicName::new(path)?)
}
