//! tcpSocket: passes when the connection opens.

use std::time::{Duration, Instant};

use super::deadline::Deadlined;
use super::Outcome;

pub fn check(host: &str, port: u16, timeout: Duration) -> Outcome {
    Deadlined::connect(host, port, Instant::now() + timeout)
        .map(|_| format!("{host}:{port} accepts"))
}
