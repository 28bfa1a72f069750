//! Claims on producers' names: one socket at a time sends under a name.
//!
//! A newer claim fences the older: later blocks of the older are refused, whatever was in flight.
//! So an id always belongs to the same message, and nothing is acknowledged for it that is not
//! stored.
//!
//! Invariants: claims are in memory only, as the sockets are; blocks of an unknown claim are
//! refused if a later one may have been forgotten.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

/// Notifies a socket that another one took its name.
#[derive(Debug)]
pub struct Fenced;

/// A name that was claimed.
#[derive(Debug)]
pub struct Claimed {
    /// The last durable id under the name; `None` when the name is not known.
    pub last_id: Option<u64>,
    /// The claim's number; sent with each block.
    pub claim: u64,
    /// Resolves to [`Fenced`] when another claim takes the name, and to an error when the topic is
    /// deleted.
    pub fenced: oneshot::Receiver<Fenced>,
}

/// The claims on one topic's names.
#[derive(Debug, Default)]
pub(super) struct Claims {
    by_name: FxHashMap<Arc<str>, (u64, oneshot::Sender<Fenced>)>,
    /// Claims up to this one may have been forgotten.
    forgotten: u64,
    last: u64,
}

impl Claims {
    /// Claims a name, of at most `names_max` that are remembered.
    pub(super) fn claim(
        &mut self,
        name: &str,
        names_max: usize,
    ) -> (u64, oneshot::Receiver<Fenced>) {
        self.last += 1;
        let (fence, fenced) = oneshot::channel();
        if let Some((_, older)) = self.by_name.insert(name.into(), (self.last, fence)) {
            // Its socket may have gone.
            let _ = older.send(Fenced);
        }
        if self.by_name.len() > names_max {
            self.forget_closed();
        }
        (self.last, fenced)
    }

    /// Forgets claims whose sockets have gone, but for the newest of all: only their bound is kept.
    fn forget_closed(&mut self) {
        let (last, forgotten) = (self.last, &mut self.forgotten);
        self.by_name.retain(|_, (claim, fence)| {
            let kept = !fence.is_closed() || *claim == last;
            if !kept {
                *forgotten = (*forgotten).max(*claim);
            }
            kept
        });
    }

    /// The name is still that claim's.
    pub(super) fn holds(&self, name: &str, claim: u64) -> bool {
        match self.by_name.get(name) {
            Some((holder, _)) => *holder == claim,
            None => claim > self.forgotten,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_claim_fences_the_older_and_no_other_name() {
        let mut claims = Claims::default();
        let (a, mut fenced_a) = claims.claim("a", 10);
        let (b, mut fenced_b) = claims.claim("b", 10);
        let (again, _held) = claims.claim("a", 10);
        assert!(fenced_a.try_recv().is_ok() && fenced_b.try_recv().is_err());
        assert!(!claims.holds("a", a) && claims.holds("a", again) && claims.holds("b", b));
    }

    #[test]
    fn claims_are_bounded_by_sockets_and_a_forgotten_one_fences_those_before_it() {
        let mut claims = Claims::default();
        let (old, _) = claims.claim("a", 1);
        let (newer, _) = claims.claim("a", 1);
        let (b, _socket) = claims.claim("b", 1);
        assert_eq!(claims.by_name.len(), 1, "the socket of `a` has gone");
        assert!(!claims.holds("a", old) && !claims.holds("a", newer) && claims.holds("b", b));
        let (c, _other_socket) = claims.claim("c", 1);
        assert_eq!(claims.by_name.len(), 2, "as many as there are sockets");
        assert!(claims.holds("b", b) && claims.holds("c", c));
    }
}
