//! How fast a resynchronisation goes: never above the administrator's limit, and slower when the application's changes
//! take longer than they do without it.
//!
//! It works for a share of the time and rests for the remainder. Whether the application suffers is told by how many of
//! its changes take longer than twice the 99th percentile from before: that may be less than one in a hundred, and the
//! percentile then stays within the promised three times. The share is halved when it is more, and grows slowly while it
//! is not; where nobody changes anything it is soon whole again.

use std::thread;
use std::time::{Duration, Instant};

use crate::fs::{ChangeTimes, Sample};

/// Changes from which a percentile can be told.
const ENOUGH: u64 = 100;
/// Times are judged when there are so many, or after so long.
const JUDGED: u64 = 200;
const JUDGED_AFTER: Duration = Duration::from_millis(500);
/// Fewer changes in [`JUDGED_AFTER`]: nobody is disturbed.
const IDLE: u64 = 10;
/// Least share of the time: a resynchronisation always ends.
const LEAST: f64 = 0.3;
/// Rests are not longer.
const LONGEST_REST: Duration = Duration::from_millis(500);
/// Changes that take so little are never called slow.
const QUICK: Duration = Duration::from_micros(100);

/// Decides on the share. Pure.
#[derive(Debug)]
pub struct Governor {
    /// A change that takes longer is slow.
    bound: Option<Duration>,
    share: f64,
    /// Slow changes among all, of late.
    slow: f64,
}

impl Governor {
    /// `before`: times without a resynchronisation.
    pub fn new(before: &Sample) -> Self {
        let mut governor = Self { bound: None, share: 1.0, slow: 0.0 };
        governor.compare_with(before);
        governor
    }

    /// Whether it is known how long changes take without.
    pub fn knows(&self) -> bool {
        self.bound.is_some()
    }

    /// Times without a resynchronisation; ignored when there are too few.
    pub fn compare_with(&mut self, without: &Sample) {
        if without.count() >= ENOUGH {
            self.bound = without.p99().map(|p99| p99.max(QUICK) * 2);
        }
    }

    /// Times of late; the share of the time from now on.
    pub fn judge(&mut self, of_late: &Sample) -> f64 {
        let count = of_late.count();
        let Some(bound) = self.bound.filter(|_| count >= IDLE) else {
            self.share = (self.share * 2.0).min(1.0);
            return self.share;
        };
        let slow = of_late.longer_than(bound) as f64 / count as f64;
        self.slow = 0.7 * self.slow + 0.3 * slow;
        if self.slow > 0.008 && self.share <= LEAST {
            // It hardly works and the application is as slow: the reason is another, and this is what it is like now.
            self.compare_with(of_late);
            self.slow = 0.0;
        } else if self.slow > 0.008 {
            self.share = (self.share / 2.0).max(LEAST);
        } else {
            self.share = (self.share + 0.04).min(1.0);
        }
        self.share
    }
}

/// Keeps to a rate and to the governor's share.
pub struct Pace<'a> {
    rate: u64,
    started: Instant,
    bytes: u64,
    times: Option<&'a ChangeTimes>,
    governor: Governor,
    share: f64,
    of_late: Sample,
    judged: Instant,
    /// End of the last rest.
    working: Instant,
}

impl<'a> Pace<'a> {
    /// `rate`: bytes of contents compared per second; 0: no limit. `times`: those of the application's changes, if it is
    /// to be spared.
    pub fn new(rate: u64, times: Option<&'a ChangeTimes>) -> Self {
        let now = Instant::now();
        let governor = Governor::new(&times.map(ChangeTimes::take).unwrap_or_default());
        let of_late = Sample::default();
        Self { rate, started: now, bytes: 0, times, governor, share: 1.0, of_late, judged: now, working: now }
    }

    /// So many bytes have been compared: rest as long as is due.
    pub fn after(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.rate != 0 {
            let due = Duration::from_secs_f64(self.bytes as f64 / self.rate as f64);
            if let Some(early) = due.checked_sub(self.started.elapsed()) {
                thread::sleep(early.min(Duration::from_secs(1)));
            }
        }
        let Some(times) = self.times else { return };
        self.listen(times);
        let rest = self.working.elapsed().mul_f64(1.0 / self.share - 1.0);
        if rest >= Duration::from_millis(1) {
            thread::sleep(rest.min(LONGEST_REST));
            self.working = Instant::now();
        } else if self.share >= 1.0 {
            self.working = Instant::now();
        }
    }

    /// Look at how the application fares.
    fn listen(&mut self, times: &ChangeTimes) {
        self.of_late.add(&times.take());
        let count = self.of_late.count();
        if count < JUDGED && self.judged.elapsed() < JUDGED_AFTER {
            return;
        }
        if !self.governor.knows() && count >= IDLE {
            // Nothing was changed before: rest, and see how long changes take then.
            thread::sleep(LONGEST_REST);
            self.governor.compare_with(&times.take());
            self.working = Instant::now();
        }
        self.share = self.governor.judge(&self.of_late);
        self.of_late = Sample::default();
        self.judged = Instant::now();
    }
}

impl Drop for Pace<'_> {
    /// The next one compares with what comes after this.
    fn drop(&mut self) {
        if let Some(times) = self.times {
            let _ = times.take();
        }
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
    fn it_slows_down_when_the_application_suffers_and_recovers() {
        let mut governor = Governor::new(&sample(&[(1000, 1000)]));
        let suffering = sample(&[(1000, 190), (20_000, 10)]);
        let share = (0..4).map(|_| governor.judge(&suffering)).last().unwrap_or(1.0);
        assert!(share < 0.5, "{share}");
        let well = sample(&[(1000, 200)]);
        let share = (0..60).map(|_| governor.judge(&well)).last().unwrap_or(0.0);
        assert!(share >= 1.0, "{share}");
    }

    #[test]
    fn it_does_not_slow_down_for_ever_for_what_is_none_of_its_doing() {
        let mut governor = Governor::new(&sample(&[(1000, 1000)]));
        let busy = sample(&[(1000, 100), (20_000, 100)]);
        let share = (0..60).map(|_| governor.judge(&busy)).last().unwrap_or(0.0);
        assert!(share >= 1.0, "{share}");
    }

    #[test]
    fn it_does_not_wait_for_an_application_that_does_nothing() {
        let mut governor = Governor::new(&sample(&[(1000, 1000)]));
        for _ in 0..20 {
            governor.judge(&sample(&[(50_000, 200)]));
        }
        let share = (0..6).map(|_| governor.judge(&sample(&[]))).last().unwrap_or(0.0);
        assert!(share >= 1.0, "{share}");
    }

    #[test]
    fn less_than_one_slow_change_in_a_hundred_is_no_suffering() {
        let mut governor = Governor::new(&sample(&[(1000, 1000)]));
        let share = (0..50).map(|_| governor.judge(&sample(&[(1000, 299), (50_000, 2)]))).last().unwrap_or(0.0);
        assert!(share >= 1.0, "{share}");
    }

    #[test]
    fn without_anything_to_compare_with_it_does_not_guess() {
        let mut governor = Governor::new(&sample(&[(1000, 5)]));
        assert!(!governor.knows());
        assert!(governor.judge(&sample(&[(90_000, 500)])) >= 1.0);
        governor.compare_with(&sample(&[(1000, 500)]));
        assert!(governor.knows());
        assert!(governor.judge(&sample(&[(90_000, 500)])) < 1.0);
    }

    #[test]
    fn the_limit_is_kept_whether_or_not_there_is_an_application() {
        let mut pace = Pace::new(1 << 20, None);
        let begun = Instant::now();
        (0..5).for_each(|_| pace.after(20 << 10));
        // 100 KiB at 1 MiB a second.
        assert!(begun.elapsed() >= Duration::from_millis(90));
    }
}
