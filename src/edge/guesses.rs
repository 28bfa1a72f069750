//! How often an address may ask for what does not exist, where guessing must not pay off.
//!
//! A bucket of tries for each address, refilled at a steady rate (a token bucket). It is consulted
//! only about a miss, and only a miss takes a try, so that honest clients never notice, not even
//! behind an address that others guess from; a crate that counts every request can't do that.
//!
//! Invariant: memory is bounded; when there are too many addresses those with full buckets are
//! forgotten, and if no bucket is full all addresses start anew.

use std::net::IpAddr;
use std::time::Duration;

use dashmap::DashMap;

use crate::clock::Clock;

/// Most addresses that are remembered.
const ADDRESSES_MAX: usize = 100_000;

/// See the module.
#[derive(Debug)]
pub struct Guesses {
    per_minute: u32,
    clock: Clock,
    buckets: DashMap<IpAddr, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tries: f64,
    at: Duration,
}

impl Guesses {
    /// Allows N misses a minute, and as many at once.
    pub fn new(per_minute: u32, clock: Clock) -> Self {
        Self { per_minute, clock, buckets: DashMap::new() }
    }

    /// How long the address must wait before it may ask again; `None` when it may.
    pub fn blocked(&self, address: IpAddr) -> Option<Duration> {
        let bucket = *self.buckets.get(&network(address))?;
        let tries = self.filled(bucket);
        (tries < 1.0).then(|| Duration::from_secs_f64((1.0 - tries) / self.per_second()))
    }

    /// The address asked for what does not exist.
    pub fn missed(&self, address: IpAddr) {
        if self.buckets.len() >= ADDRESSES_MAX {
            self.buckets.retain(|_, bucket| self.filled(*bucket) < f64::from(self.per_minute));
            if self.buckets.len() >= ADDRESSES_MAX {
                self.buckets.clear();
            }
        }
        let full = Bucket { tries: f64::from(self.per_minute), at: self.clock.uptime() };
        let mut bucket = self.buckets.entry(network(address)).or_insert(full);
        *bucket = Bucket { tries: self.filled(*bucket) - 1.0, at: self.clock.uptime() };
    }

    fn per_second(&self) -> f64 {
        f64::from(self.per_minute) / 60.0
    }

    fn filled(&self, bucket: Bucket) -> f64 {
        let since = self.clock.uptime().saturating_sub(bucket.at);
        (bucket.tries + since.as_secs_f64() * self.per_second()).min(self.per_minute.into())
    }
}

/// The subscriber that an address belongs to: with IPv6 it has a whole /64 (RFC 6177).
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn misses_use_tries_up_and_time_brings_them_back() {
        let seconds = Arc::new(AtomicU64::new(0));
        let uptime = seconds.clone();
        let clock =
            Clock::system().with_uptime(move || Duration::from_secs(uptime.load(Ordering::SeqCst)));
        let guesses = Guesses::new(6, clock);
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        let other: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..6 {
            assert_eq!(guesses.blocked(one), None);
            guesses.missed(one);
        }
        assert_eq!(guesses.blocked(neighbour), Some(Duration::from_secs(10)), "same network");
        assert_eq!(guesses.blocked(other), None);
        seconds.store(10, Ordering::SeqCst);
        assert_eq!(guesses.blocked(one), None);
        guesses.missed(one);
        assert!(guesses.blocked(one).is_some());
    }
}
