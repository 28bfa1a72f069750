//! A socket's pulse: its pings, and how long its client has been silent or a message incomplete.
//!
//! Invariant: time in which the broker did not run (SIGSTOP, a debugger, a machine that gave it no
//! time) counts as silence of no client. It shows in a beat that comes late: the time between the
//! moment at which the beat was due and the one at which it came counts for no wait.

use std::time::{Duration, Instant};

/// What to do at a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    Ping,
    /// More beats are overdue and follow at once; the last of them pings.
    Behind,
    /// The client is gone.
    Silent,
    /// A message takes too long to arrive.
    Unfinished,
}

/// A wait and its beginning.
#[derive(Clone, Copy, Debug)]
struct Wait {
    since: Instant,
    /// How much of it does not count.
    excused: Duration,
}

impl Wait {
    fn since(since: Instant) -> Self {
        Self { since, excused: Duration::ZERO }
    }

    /// The broker did not run from then until now.
    fn excuse(&mut self, from: Instant, now: Instant) {
        self.excused += now.saturating_duration_since(from.max(self.since));
    }

    fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since).saturating_sub(self.excused)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pulse {
    pub(super) interval: Duration,
    /// A client that has sent nothing at all, pongs included, for this long is gone.
    silence_max: Duration,
    /// How long a message may take to arrive.
    unfinished_max: Duration,
    silence: Wait,
    unfinished: Option<Wait>,
    /// When the next beat is due.
    due: Instant,
    last_beat: Instant,
}

impl Pulse {
    pub(super) fn new(
        interval: Duration,
        silence_max: Duration,
        unfinished_max: Duration,
        now: Instant,
    ) -> Self {
        Self {
            interval,
            silence_max,
            unfinished_max,
            silence: Wait::since(now),
            unfinished: None,
            due: now + interval,
            last_beat: now,
        }
    }

    /// Beats begin now.
    pub(super) fn start(&mut self, now: Instant) {
        (self.due, self.last_beat) = (now + self.interval, now);
    }

    /// The client sent something, or was not being read.
    pub(super) fn heard(&mut self, now: Instant) {
        self.silence = Wait::since(now);
    }

    /// A beat. `unfinished_since` is when the incomplete message began, if there is one; a client
    /// that is not being read can't show that it lives.
    pub(super) fn beat(
        &mut self,
        now: Instant,
        unfinished_since: Option<Instant>,
        reading: bool,
    ) -> Beat {
        let missed_from = self.due.max(self.last_beat);
        self.last_beat = now;
        self.due += self.interval;
        self.silence.excuse(missed_from, now);
        let unfinished = unfinished_since.map(|since| {
            let known = self.unfinished.filter(|wait| wait.since == since);
            let mut wait = known.unwrap_or(Wait::since(since));
            wait.excuse(missed_from, now);
            wait
        });
        self.unfinished = unfinished;
        if self.due <= now {
            return Beat::Behind;
        }
        if unfinished.is_some_and(|wait| wait.lasted(now) > self.unfinished_max) {
            return Beat::Unfinished;
        }
        if reading && self.silence.lasted(now) > self.silence_max {
            return Beat::Silent;
        }
        Beat::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Pings every 10 s, silence of 25 s, messages of 30 s.
    fn pulse(now: Instant) -> Pulse {
        Pulse::new(10 * SECOND, 25 * SECOND, 30 * SECOND, now)
    }

    #[test]
    fn a_client_that_says_nothing_is_gone_after_its_time() {
        let begun = Instant::now();
        let mut pulse = pulse(begun);
        assert_eq!(pulse.beat(begun + 10 * SECOND, None, true), Beat::Ping);
        assert_eq!(pulse.beat(begun + 20 * SECOND, None, true), Beat::Ping);
        assert_eq!(pulse.beat(begun + 30 * SECOND, None, true), Beat::Silent);
    }

    #[test]
    fn a_client_that_is_heard_or_not_read_is_not() {
        let begun = Instant::now();
        let mut pulse = pulse(begun);
        for n in 1..20 {
            let now = begun + n * 10 * SECOND;
            assert_eq!(pulse.beat(now, None, n % 2 == 0), Beat::Ping);
            if n % 2 == 0 {
                pulse.heard(now + SECOND);
            }
        }
    }

    #[test]
    fn a_pause_of_the_broker_is_no_silence_whenever_it_begins() {
        for before in 0..10 {
            for pause in [5, 15, 26, 40, 3_600] {
                let begun = Instant::now();
                let mut pulse = pulse(begun);
                // The pong to the last ping came a second after it.
                assert_eq!(pulse.beat(begun + 10 * SECOND, None, true), Beat::Ping);
                pulse.heard(begun + 11 * SECOND);
                let mut due = begun + 20 * SECOND;
                let awake = begun + (11 + before + pause) * SECOND;
                // Overdue beats come at once.
                loop {
                    let now = awake.max(due);
                    due += 10 * SECOND;
                    let beat = pulse.beat(now, None, true);
                    if due > awake {
                        assert_eq!(beat, Beat::Ping, "{before} {pause}");
                        break;
                    }
                    assert_eq!(beat, Beat::Behind, "{before} {pause}");
                }
                // From here on it is as silent as any other.
                let beats = (0..4).map(|n| pulse.beat(due + n * 10 * SECOND, None, true));
                assert!(beats.into_iter().any(|beat| beat == Beat::Silent), "{before} {pause}");
            }
        }
    }

    #[test]
    fn nor_does_it_count_for_a_message_that_is_coming() {
        let begun = Instant::now();
        let mut pulse = pulse(begun);
        let first = Some(begun + 5 * SECOND);
        assert_eq!(pulse.beat(begun + 10 * SECOND, first, false), Beat::Ping);
        // Stopped until 95 s: seven beats are overdue, the eighth is due then.
        for _ in 0..7 {
            assert_eq!(pulse.beat(begun + 95 * SECOND, first, false), Beat::Behind);
        }
        assert_eq!(pulse.beat(begun + 95 * SECOND, first, false), Beat::Ping);
        assert_eq!(pulse.beat(begun + 100 * SECOND, first, false), Beat::Ping);
        assert_eq!(pulse.beat(begun + 110 * SECOND, first, false), Beat::Ping);
        // 15 s before the pause, and 25 s after it.
        assert_eq!(pulse.beat(begun + 120 * SECOND, first, false), Beat::Unfinished);
        // Another one has its own time.
        let second = Some(begun + 115 * SECOND);
        assert_eq!(pulse.beat(begun + 130 * SECOND, second, false), Beat::Ping);
        assert_eq!(pulse.beat(begun + 140 * SECOND, second, false), Beat::Ping);
        assert_eq!(pulse.beat(begun + 150 * SECOND, second, false), Beat::Unfinished);
        assert_eq!(pulse.beat(begun + 160 * SECOND, None, false), Beat::Ping);
    }
}
