//! How long operations wait for the peer, counted in fixed classes.

use std::time::Duration;

use serde::Serialize;

/// Upper bounds of the classes, in microseconds; one class more is for all that took longer.
pub const BOUNDS_US: [u64; 14] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000];

/// From an operation's place in the stream to the peer's word that it is applied; since this node became primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// How many were within each bound and above the one before it.
    pub counts: [u64; BOUNDS_US.len() + 1],
    pub sum_us: u64,
}

impl Latency {
    pub fn add(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counts[BOUNDS_US.partition_point(|&bound| bound < us)] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_on_a_bound_is_within_it() {
        let mut latency = Latency::default();
        for us in [0, 100, 101, 1_000, 5_000_000, 5_000_001, 3_600_000_000] {
            latency.add(Duration::from_micros(us));
        }
        assert_eq!(latency.counts, [2, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(latency.sum_us, 100 + 101 + 1_000 + 5_000_000 + 5_000_001 + 3_600_000_000);
    }
}
