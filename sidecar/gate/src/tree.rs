//! The application's process tree: reaping it and killing all of it.
//!
//! As PID 1 the gate inherits every orphan of its namespace. Elsewhere it declares itself a
//! child subreaper (PR_SET_CHILD_SUBREAPER), so that orphans of its own descendants, daemons
//! included, become its children. Either way "no child left" means "nothing is left".

use std::fs;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{kill, Signal};
use nix::sys::wait::{waitpid, WaitPidFlag, WaitStatus};
use nix::unistd::{getpid, Pid};

use crate::protocol::Exit;

/// Whether the gate is the first process of its PID namespace.
pub fn is_init() -> bool {
    getpid().as_raw() == 1
}

/// Makes the gate the parent of its descendants' orphans.
pub fn adopt_orphans() -> nix::Result<()> {
    if is_init() {
        return Ok(());
    }
    prctl::set_child_subreaper(true)
}

/// What one round of reaping found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// How the application's first process ended, if it did.
    pub first: Option<Exit>,
    /// No child is left.
    pub empty: bool,
}

/// Reaps all that has ended, without waiting.
pub fn reap(first: Option<i32>) -> Reaped {
    let mut reaped = Reaped::default();
    loop {
        let (pid, exit) = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
            Ok(WaitStatus::StillAlive) => return reaped,
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(_) => {
                reaped.empty = true;
                return reaped;
            }
        };
        if Some(pid.as_raw()) == first {
            reaped.first = Some(exit);
        }
    }
}

/// SIGKILL to every process of the application.
pub fn kill_all() {
    if is_init() {
        // All of the namespace but the gate itself (kill(2)): the application, what it left
        // behind, and shells and probes that were put into the container from outside.
        ignore_gone(kill(Pid::from_raw(-1), Signal::SIGKILL));
        return;
    }
    for pid in descendants(getpid().as_raw(), &parents()) {
        ignore_gone(kill(Pid::from_raw(pid), Signal::SIGKILL));
    }
}

/// A process that has gone meanwhile needs no signal; whatever is left is killed again.
fn ignore_gone(result: nix::Result<()>) {
    if let Err(error) = result {
        if error != Errno::ESRCH {
            eprintln!("gate: cannot kill a process of the application: {error}");
        }
    }
}

/// (pid, parent) of every process that /proc shows.
fn parents() -> Vec<(i32, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return vec![];
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read(entry.path().join("stat")).ok()?;
            Some((pid, parent_in_stat(&stat)?))
        })
        .collect()
}

/// Parent's pid in a line of /proc/PID/stat (proc(5)). The name before it is in parentheses
/// and may hold anything, parentheses included.
fn parent_in_stat(stat: &[u8]) -> Option<i32> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// All descendants of `root`, parents before children.
fn descendants(root: i32, parents: &[(i32, i32)]) -> Vec<i32> {
    let mut found = vec![];
    let mut front = vec![root];
    while let Some(parent) = front.pop() {
        for (pid, _) in parents.iter().filter(|(_, above)| *above == parent) {
            if *pid != root && !found.contains(pid) {
                found.push(*pid);
                front.push(*pid);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent_in_stat(b"12 (sh) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in_stat(b"12 (a) S 9 (b) S 7 12"), Some(7));
        assert_eq!(parent_in_stat(b"12 (\xff) R 1 12"), Some(1));
        assert_eq!(parent_in_stat(b"12"), None);
    }

    #[test]
    fn descendants_leave_out_strangers() {
        let parents = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 5), (7, 2)];
        let mut found = descendants(2, &parents);
        found.sort_unstable();
        assert_eq!(found, vec![3, 4, 7]);
        assert!(descendants(9, &parents).is_empty());
    }
}
