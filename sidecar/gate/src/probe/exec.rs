//! exec: passes when the command exits with 0 in time.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{killpg, Signal};
use nix::unistd::Pid;

use super::Outcome;

/// How often a running command is looked at.
const POLL: Duration = Duration::from_millis(10);

/// The command's output goes where the probe's own goes: kubelet shows it.
pub fn check(command: &[String], timeout: Duration) -> Outcome {
    let (program, args) = command
        .split_first()
        .ok_or_else(|| "the command is empty".to_owned())?;
    let end = Instant::now() + timeout;
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(format!("{program} passed")),
            Ok(Some(status)) => {
                return Err(match (status.code(), status.signal()) {
                    (Some(code), _) => format!("{program} exited with code {code}"),
                    (None, Some(signal)) => format!("{program} was ended by signal {signal}"),
                    (None, None) => format!("{program} failed"),
                })
            }
            Ok(None) if Instant::now() >= end => {
                let group = i32::try_from(child.id()).map(Pid::from_raw);
                if let Ok(group) = group {
                    // Gone meanwhile: then there is nothing to kill.
                    let _gone = killpg(group, Signal::SIGKILL);
                }
                return Err(format!("{program} did not end within {timeout:?}"));
            }
            Ok(None) => thread::sleep(POLL.min(end.saturating_duration_since(Instant::now()))),
            Err(error) => return Err(format!("cannot wait for {program}: {error}")),
        }
    }
}
