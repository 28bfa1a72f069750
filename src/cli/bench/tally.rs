//! Counts and times: a client's own, and those of many together.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest time distinguished from longer ones, in nanoseconds: 100 s.
const NS_MAX: u64 = 100_000_000_000;
/// Significant digits of times.
const DIGITS: u8 = 3;
/// A throughput curve has a point for each of these milliseconds.
pub(super) const BIN_MS: u64 = 100;

/// What happened in the measured time.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// Nanoseconds.
    pub(super) times: Histogram<u64>,
    /// Messages in each bin of [`BIN_MS`].
    pub(super) bins: Vec<u64>,
    begin_ns: u64,
    end_ns: u64,
    by_due: bool,
}

impl Tally {
    /// Counts events in this time, and times the same, or, with `by_due`, those due in it, whenever
    /// they are done.
    pub(super) fn new(begin_ns: u64, end_ns: u64, by_due: bool) -> Self {
        let times = Histogram::new_with_bounds(1, NS_MAX, DIGITS).expect("bounds are in order");
        let bins = vec![0; (end_ns - begin_ns).div_ceil(BIN_MS * 1_000_000) as usize];
        Self { messages: 0, bytes: 0, times, bins, begin_ns, end_ns, by_due }
    }

    /// A message of N bytes was done at `now_ns`; it was due at `due_ns`.
    pub(super) fn note(&mut self, due_ns: u64, now_ns: u64, bytes: usize) {
        self.note_many(1, due_ns, now_ns, bytes);
    }

    /// N messages of together N bytes were done at once.
    pub(super) fn note_many(&mut self, messages: u64, due_ns: u64, now_ns: u64, bytes: usize) {
        let measured = self.begin_ns..self.end_ns;
        if measured.contains(if self.by_due { &due_ns } else { &now_ns }) {
            self.times.saturating_record_n(now_ns.saturating_sub(due_ns).max(1), messages);
        }
        if !measured.contains(&now_ns) {
            return;
        }
        self.messages += messages;
        self.bytes += bytes as u64;
        let bin = (now_ns - self.begin_ns) / (BIN_MS * 1_000_000);
        self.bins[bin as usize] += messages;
    }

    /// As it travels between processes.
    pub(super) fn written(&self) -> Written {
        let times = self.times.iter_recorded();
        Written {
            messages: self.messages,
            bytes: self.bytes,
            times: times.map(|at| (at.value_iterated_to(), at.count_at_value())).collect(),
            bins: self.bins.clone(),
        }
    }
}

/// A [`Tally`] in transit.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Written {
    messages: u64,
    bytes: u64,
    times: Vec<(u64, u64)>,
    bins: Vec<u64>,
}

impl Written {
    /// Adds it to a tally of the same time.
    pub(super) fn add_to(&self, tally: &mut Tally) {
        tally.messages += self.messages;
        tally.bytes += self.bytes;
        for (ns, count) in &self.times {
            tally.times.saturating_record_n(*ns, *count);
        }
        for (bin, more) in tally.bins.iter_mut().zip(&self.bins) {
            *bin += more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_falls_into_the_measured_time_counts_and_nothing_is_lost_on_the_way() {
        let mut tally = Tally::new(1_000_000_000, 2_000_000_000, false);
        tally.note(900_000_000, 999_999_999, 1);
        tally.note(900_000_000, 1_000_000_000, 10);
        tally.note_many(5, 1_500_000_000, 1_999_999_999, 50);
        tally.note(900_000_000, 2_000_000_000, 1);
        let mut both = Tally::new(0, 1_000_000_000, false);
        tally.written().add_to(&mut both);
        tally.written().add_to(&mut both);
        assert_eq!((both.messages, both.bytes), (12, 120));
        assert_eq!((both.bins[0], both.bins[9]), (2, 10));
        assert_eq!(both.times.len(), 12);
        assert_eq!(both.times.max() / 1_000_000, 500);
    }

    #[test]
    fn in_an_open_loop_what_was_due_is_timed_though_it_is_done_too_late_to_count() {
        let mut tally = Tally::new(1_000_000_000, 2_000_000_000, true);
        tally.note(1_900_000_000, 4_900_000_000, 1);
        tally.note(900_000_000, 1_500_000_000, 1);
        assert_eq!((tally.messages, tally.times.len()), (1, 1));
        assert_eq!(tally.times.max() / 1_000_000_000, 3);
    }
}
