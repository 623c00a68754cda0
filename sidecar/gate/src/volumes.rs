//! The replicated volumes as this container sees them.
//!
//! The sidecar mounts the mirror on a directory of the node when it becomes primary, and unmounts it when it gives
//! up. A container that was created before sees the mounts come and go (`HostToContainer`). One that is created while
//! the node is primary is bound to the mirror's mount itself (mount(2): a bind mount resolves its source once), and
//! keeps that dead mount for ever after. Nothing inside the container can mend this: the gate ends, and the runtime
//! binds the container anew.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::statfs::statfs;

/// File system type of the mirror in `/proc/self/mountinfo` (`mirrorfs/src/fuse/mount.rs`).
const MIRROR: &str = "fuse.mirrorfs";
/// How often a mount that the container is bound to is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// The watching thread keeps two paths and makes one system call.
const STACK: usize = 64 * 1024;

/// The volumes of one container.
pub struct Volumes {
    paths: Vec<PathBuf>,
    /// Readable once a mount that the container is bound to has died; None where it is bound to none.
    died: Option<Arc<EventFd>>,
}

impl Volumes {
    /// Looks at the mounts as they are when the container starts.
    ///
    /// # Errors
    /// The system gives no eventfd or no thread.
    pub fn new(paths: &[String]) -> io::Result<Self> {
        let paths: Vec<PathBuf> = paths.iter().map(|path| resolved(Path::new(path))).collect();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let bound: Vec<PathBuf> = paths
            .iter()
            .filter(|path| types_at(&table, path).first() == Some(&MIRROR))
            .cloned()
            .collect();
        if bound.is_empty() {
            return Ok(Volumes { paths, died: None });
        }
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let died = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let tell = Arc::clone(&died);
        // A thread, since a live mount may take any time to answer, and the gate's loop must never wait.
        thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || watch(&bound, &tell))?;
        Ok(Volumes {
            paths,
            died: Some(died),
        })
    }

    /// To be polled: readable once a volume is lost to this container.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.died.as_deref().map(EventFd::as_fd)
    }

    /// Whether a volume is lost to this container; to be asked when [`Self::as_fd`] was readable.
    pub fn lost(&self) -> bool {
        self.died.as_deref().is_some_and(|died| match died.read() {
            // Put back: the answer stays the same.
            Ok(count) => died.write(count).is_ok(),
            Err(_) => false,
        })
    }

    /// Nothing may be started on the empty directory below a mirror that is not there.
    ///
    /// # Errors
    /// A sentence that names the volume.
    pub fn check(&self) -> Result<(), String> {
        if self.paths.is_empty() {
            return Ok(());
        }
        let table = fs::read_to_string("/proc/self/mountinfo")
            .map_err(|error| format!("/proc/self/mountinfo: {error}"))?;
        match self
            .paths
            .iter()
            .find(|path| types_at(&table, path).last() != Some(&MIRROR))
        {
            None => Ok(()),
            Some(path) => Err(format!(
                "the replicated volume {} is not mounted in this container",
                path.display()
            )),
        }
    }
}

fn watch(bound: &[PathBuf], tell: &EventFd) {
    // A connection that was aborted answers by itself; see fuse(4) and fs/fuse/dev.c.
    let dead = |path: &PathBuf| {
        matches!(
            statfs(path.as_path()),
            Err(Errno::ENOTCONN | Errno::ECONNABORTED)
        )
    };
    while !bound.iter().any(dead) {
        thread::sleep(LOOK);
    }
    let _told = tell.write(1);
}

/// The path as the mount table has it. The last part is the mount itself, which may not answer: it is not looked at.
fn resolved(path: &Path) -> PathBuf {
    match (path.parent().map(fs::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

/// File system types of the mounts at `path`, the lowest first (proc_pid_mountinfo(5)).
fn types_at<'a>(table: &'a str, path: &Path) -> Vec<&'a str> {
    table
        .lines()
        .filter_map(|line| {
            let (front, back) = line.split_once(" - ")?;
            let place = unescape(front.split(' ').nth(4)?);
            (Path::new(&place) == path).then(|| back.split(' ').next())?
        })
        .collect()
}

/// Blank, tab, newline and backslash stand there as three octal digits.
fn unescape(field: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(field.to_owned(), |text, (code, plain)| {
        text.replace(code, plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
21 1 0:20 / / rw - overlay overlay rw
30 21 8:1 /mnt/data /data\\040dir rw,relatime master:5 - ext4 /dev/sda1 rw
31 30 0:50 / /data\\040dir rw,noatime master:6 - fuse.mirrorfs twinhull rw,user_id=0
32 21 0:51 / /bound rw,noatime - fuse.mirrorfs twinhull rw,user_id=0";

    #[test]
    fn mounts_at_one_place_are_told_from_below() {
        assert_eq!(
            types_at(TABLE, Path::new("/data dir")),
            ["ext4", "fuse.mirrorfs"]
        );
        assert_eq!(types_at(TABLE, Path::new("/bound")), ["fuse.mirrorfs"]);
        assert!(types_at(TABLE, Path::new("/data")).is_empty());
    }

    #[test]
    fn a_volume_without_its_mirror_is_named() {
        let volumes = Volumes {
            paths: vec![PathBuf::from("/nowhere/at/all")],
            died: None,
        };
        let message = volumes.check().err().unwrap_or_default();
        assert!(
            message.contains("/nowhere/at/all is not mounted"),
            "{message}"
        );
        assert!(!volumes.lost());
    }
}
