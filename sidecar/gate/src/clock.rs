//! Time since boot, suspended time included: leases must run out while a machine sleeps.

use std::time::Duration;

use nix::time::{clock_gettime, ClockId};

/// `CLOCK_BOOTTIME` now (clock_gettime(2)).
pub fn boottime() -> Duration {
    match clock_gettime(ClockId::CLOCK_BOOTTIME) {
        Ok(now) => Duration::from(now),
        // Every kernel since 2.6.39 has this clock. Without one no lease can be kept, and a
        // gate that cannot keep a lease must not run anything.
        Err(error) => {
            eprintln!("gate: CLOCK_BOOTTIME: {error}");
            std::process::exit(70);
        }
    }
}
