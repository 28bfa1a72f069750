//! When to restart, and when to give up.
//!
//! The restart intensity of Erlang/OTP's supervisors (System Documentation, "Supervisor Behaviour",
//! maximum restart intensity): N restarts within a window, then no more. Within it each restart
//! waits twice as long as the one before.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often and how fast one actor is restarted.
#[derive(Clone, Copy, Debug)]
pub struct RestartPolicy {
    /// Restarts allowed within the window.
    pub restarts_max: u32,
    /// The window.
    pub window: Duration,
    /// Pause before the first restart in a window.
    pub backoff: Duration,
    /// Longest pause.
    pub backoff_max: Duration,
}

/// What to do about a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    RestartAfter(Duration),
    GiveUp,
}

/// The restarts of one actor.
#[derive(Debug)]
pub(super) struct RestartBudget {
    policy: RestartPolicy,
    restarts: VecDeque<Instant>,
}

impl RestartBudget {
    pub(super) fn new(policy: RestartPolicy) -> Self {
        Self { policy, restarts: VecDeque::new() }
    }

    /// The actor has died.
    pub(super) fn died(&mut self, now: Instant) -> Verdict {
        let window = self.policy.window;
        self.restarts.retain(|at| now.duration_since(*at) < window);
        let recent = self.restarts.len() as u32;
        if recent >= self.policy.restarts_max {
            return Verdict::GiveUp;
        }
        self.restarts.push_back(now);
        let doubled = self.policy.backoff.saturating_mul(1 << recent.min(20));
        Verdict::RestartAfter(doubled.min(self.policy.backoff_max))
    }

    /// An operator has intervened: begin anew.
    pub(super) fn reset(&mut self) {
        self.restarts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn budget() -> RestartBudget {
        RestartBudget::new(RestartPolicy {
            restarts_max: 3,
            window: 1_000 * MS,
            backoff: 10 * MS,
            backoff_max: 30 * MS,
        })
    }

    #[test]
    fn pauses_double_up_to_their_limit_and_the_budget_ends() {
        let (mut budget, start) = (budget(), Instant::now());
        let verdicts: Vec<_> = (0..4).map(|n| budget.died(start + n * MS)).collect();
        let after = |ms| Verdict::RestartAfter(ms * MS);
        assert_eq!(verdicts, [after(10), after(20), after(30), Verdict::GiveUp]);
        budget.reset();
        assert_eq!(budget.died(start + 5 * MS), after(10));
    }

    #[test]
    fn deaths_that_are_long_past_do_not_count() {
        let (mut budget, start) = (budget(), Instant::now());
        for n in 0..20 {
            let verdict = budget.died(start + n * 500 * MS);
            assert_ne!(verdict, Verdict::GiveUp, "death {n}");
        }
    }
}
