//! `POST /v1/topics/{topic}/oneway`: messages without an acknowledgement.
//!
//! Answered when they have been read, before they are stored.
//!
//! Invariant: every message sent is stored, a duplicate of a stored one, or counted as dropped with
//! the reason, even if the request is refused, its handler panics or the broker stops; a request
//! whose messages can't be counted counts as one.

use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::check_running;
use super::collect::{self, Collected, collect};
use crate::edge::Edge;
use crate::edge::error::{Code, Problem};
use crate::edge::http::body::{self, Wait};
use crate::edge::http::parameters::NoQuery;
use crate::edge::http::topic_name;
use crate::metrics::{self, Way};
use crate::model::{Block, TopicName};
use crate::patterns::one_way::{self, Sent};

/// What a block costs the byte budget beside its bytes: a task and a mailbox entry.
const OVERHEAD_BYTES: usize = 1024;

/// Messages to be stored.
struct Taken {
    name: TopicName,
    block: Block,
}

/// Messages whose result is not known yet. Those left when this is dropped were lost to a panic, or
/// to the end of the broker.
#[derive(Default)]
struct Account {
    left: u64,
    counted: bool,
}

impl Account {
    /// N messages were sent.
    fn open(&mut self, messages: u64) {
        *self = Self { left: messages, counted: true };
    }

    fn stored(&mut self, Sent { stored, bytes, duplicates, .. }: &Sent) {
        self.left = self.left.saturating_sub(stored + duplicates);
        metrics::passed(Way::OneWay, *stored, *bytes);
        metrics::one_way_taken(*stored, *duplicates);
    }

    fn dropped(&mut self, messages: u64, why: Code) {
        self.left = self.left.saturating_sub(messages);
        metrics::one_way_dropped(why.as_str(), messages);
    }

    /// The request was refused as a whole.
    fn refused(&mut self, why: Code) {
        let messages = if self.counted { self.left } else { 1 };
        self.dropped(messages, why);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        metrics::one_way_dropped(Code::Internal.as_str(), self.left);
    }
}

pub(in crate::edge::http) async fn one_way(
    edge: Data<Edge>,
    path: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let mut account = Account::default();
    match take(&edge, &path, &request, payload, &mut account).await {
        Ok(Some(collected)) => hand_over(edge, collected, account),
        Ok(None) => {}
        Err(problem) => {
            account.refused(problem.code());
            return Err(problem);
        }
    }
    Ok(HttpResponse::NoContent().finish())
}

/// Reads the request; `None` if it was dropped.
async fn take(
    edge: &Edge,
    path: &str,
    request: &HttpRequest,
    payload: Payload,
    account: &mut Account,
) -> Result<Option<Taken>, Problem> {
    NoQuery::check(request)?;
    let name = topic_name(path)?;
    let policy = edge.topics.policy();
    if !policy.auto_create && edge.topics.directory().topic(&name).is_none() {
        return Err(Problem::no_topic(&name));
    }
    let body = match body::read(edge, request, payload, Wait::none(edge)).await {
        // The budget is spent: one-way messages may be lost.
        Err(problem) if problem.code() == Code::Overloaded => {
            account.refused(problem.code());
            return Ok(None);
        }
        body => body?,
    };
    let Collected { block, checked, one } = collect(edge, request, &name, &body.bytes)?;
    drop(body);
    account.open(checked.len() as u64);
    check_running(edge)?;
    let mut first = None;
    for problem in checked.into_iter().filter_map(Result::err) {
        account.dropped(1, problem.code());
        first.get_or_insert(problem);
    }
    match (block, first) {
        (None, first) => Err(first.unwrap_or_else(collect::nothing)),
        (Some(_), Some(problem)) if one => Err(problem),
        (Some(block), _) => Ok(Some(Taken { name, block })),
    }
}

fn hand_over(edge: Data<Edge>, Taken { name, block }: Taken, mut account: Account) {
    let Some(permit) = edge.admission.try_admit(block.body().len() + OVERHEAD_BYTES) else {
        return account.refused(Code::Overloaded);
    };
    // Draining waits for it, as for a session.
    let open = edge.sessions.subscribe();
    actix_web::rt::spawn(async move {
        let sent = one_way::send(&edge.topics, &name, block).await;
        account.stored(&sent);
        account.dropped(sent.conflicts, Code::MessageIdConflict);
        if let Some(error) = sent.error {
            account.refused(Problem::from(error).code());
        }
        drop((permit, open));
    });
}
