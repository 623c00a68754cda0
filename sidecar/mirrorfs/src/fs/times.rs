//! How long the application's changes take, in classes fine enough for a percentile; whoever asks begins anew.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Classes for each doubling of the time.
const FINE: u32 = 4;
/// Up to 2^26 us, more than a minute; the last class has all that took longer.
const CLASSES: usize = 26 * FINE as usize;

fn class_of(us: u64) -> usize {
    let us = us.max(1);
    let doublings = us.ilog2();
    // The two bits below the highest one.
    let fine = ((u128::from(us) << 2) >> doublings) & 3;
    ((doublings * FINE) as usize + fine as usize).min(CLASSES - 1)
}

/// The least time of the next class.
fn end_of(class: usize) -> Duration {
    let (doublings, fine) = (class as u32 / FINE, u64::from(class as u32 % FINE));
    let base = 1_u64 << doublings;
    Duration::from_micros(base + base * (fine + 1) / u64::from(FINE))
}

/// Counts them as they come; never blocks.
#[derive(Debug)]
pub struct ChangeTimes([AtomicU64; CLASSES]);

impl Default for ChangeTimes {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl ChangeTimes {
    pub fn add(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0[class_of(us)].fetch_add(1, Ordering::Relaxed);
    }

    /// All since the last call.
    pub fn take(&self) -> Sample {
        Sample(array::from_fn(|class| self.0[class].swap(0, Ordering::Relaxed)))
    }
}

/// Times of some changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample([u64; CLASSES]);

impl Default for Sample {
    fn default() -> Self {
        Self([0; CLASSES])
    }
}

impl Sample {
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    pub fn add(&mut self, other: &Self) {
        for (mine, more) in self.0.iter_mut().zip(other.0) {
            *mine += more;
        }
    }

    /// The time within which 99 of 100 were, up to a quarter too long. `None` when there were none.
    pub fn p99(&self) -> Option<Duration> {
        let mut beyond = self.count() / 100;
        let highest = self.0.iter().enumerate().rev().find(|(_, count)| {
            let here = **count > beyond;
            beyond = beyond.saturating_sub(**count);
            here
        });
        highest.map(|(class, _)| end_of(class))
    }

    /// How many took longer than that, to within a quarter of it.
    pub fn longer_than(&self, bound: Duration) -> u64 {
        let us = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        self.0[class_of(us)..].iter().skip(1).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(times: &[(u64, u64)]) -> Sample {
        let counted = ChangeTimes::default();
        for &(us, count) in times {
            (0..count).for_each(|_| counted.add(Duration::from_micros(us)));
        }
        counted.take()
    }

    #[test]
    fn the_percentile_is_at_most_a_quarter_too_long() {
        for us in [1, 3, 4, 99, 1000, 12_345, 1 << 20] {
            let found = sample(&[(us, 1000)]).p99().unwrap_or_default();
            assert!((us..=us + us / 4 + 1).contains(&(found.as_micros() as u64)), "{us}: {found:?}");
        }
        assert_eq!(sample(&[]).p99(), None);
    }

    #[test]
    fn one_of_a_hundred_may_be_longer() {
        let bound = Duration::from_micros(150);
        assert!(sample(&[(100, 990), (50_000, 10)]).p99().is_some_and(|p99| p99 < bound));
        assert!(sample(&[(100, 989), (50_000, 11)]).p99().is_some_and(|p99| p99 > bound));
        assert_eq!(sample(&[(100, 989), (50_000, 11)]).longer_than(bound), 11);
    }

    #[test]
    fn what_was_taken_is_not_counted_again() {
        let counted = ChangeTimes::default();
        counted.add(Duration::from_secs(3600));
        let mut all = counted.take();
        assert_eq!((all.count(), counted.take().count()), (1, 0));
        all.add(&sample(&[(10, 4)]));
        assert_eq!(all.count(), 5);
    }
}
