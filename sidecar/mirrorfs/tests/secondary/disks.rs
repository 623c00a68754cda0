//! Disks that are full, and a quarantine on another file system than the volume.

use std::fs;
use std::path::{Path, PathBuf};

use _mirrorfs::wire::Message;
use _mirrorfs::wire::handshake::BeginKind;
use rustix::fs::FileType;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::lab::Lab;
use crate::model::Random;
use crate::operations::{assert_equal, in_sync};
use crate::resync::{everything, synchronise};

/// A small file system of its own under the volume.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, size: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        let options = std::ffi::CString::new(format!("size={size}")).unwrap();
        mount("tmpfs", at, "tmpfs", MountFlags::empty(), options.as_c_str()).unwrap();
        Self(at.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_full_disk_is_reported_and_a_resynchronisation_mends_it() {
    let lab = Lab::new();
    let small = Small::mount(&lab.backing(), "1m");
    let (mut primary, mut model) = in_sync(&lab);
    model.create(&mut primary, Path::new("f"), FileType::RegularFile);
    model.write(&mut primary, Path::new("f"), 0, &Random(1).bytes(1 << 20));
    model.write(&mut primary, Path::new("f"), 1 << 20, &Random(2).bytes(1 << 20));
    let mut reasons = Vec::new();
    while let Some(message) = primary.receive() {
        if let Message::Failed { reason, .. } = message {
            reasons.push(reason);
        }
    }
    assert!(reasons[0].contains("\"f\"") && reasons[0].contains("No space left"), "{reasons:?}");
    lab.until("failed", |status| status.failed.is_some() && !status.in_sync);
    // Somebody makes room.
    mount_remount(&small.0, MountFlags::empty(), c"size=8m").unwrap();
    synchronise(&lab, BeginKind::Full { discard: None });
    assert_equal(&lab);
    assert!(lab.status().in_sync && lab.status().failed.is_none());
}

#[test]
fn a_quarantine_on_another_file_system_gets_copies() {
    let mut lab = Lab::new();
    let _small = Small::mount(&lab.backing(), "16m");
    synchronise(&lab, BeginKind::Full { discard: None });
    everything(&lab.backing());
    // tmpfs does not say what is only preallocated.
    fs::remove_file(lab.backing().join("preallocated")).unwrap();
    let loser = lab.store.update(|record| record.begin_generation()).unwrap().generation;
    lab.primary.begin_generation().unwrap();
    // What the winner has is nothing; what the loser had is everything.
    let twin = lab.directory.path().join("twin");
    fs::create_dir(&twin).unwrap();
    everything(&twin);
    fs::remove_file(twin.join("preallocated")).unwrap();
    synchronise(&lab, BeginKind::Full { discard: Some(loser) });
    assert_equal(&lab);
    let folder = fs::read_dir(lab.quarantine()).unwrap().next().unwrap().unwrap().path().join("data");
    let differences = _mirrorfs::tree::compare_trees(&twin, &folder).unwrap();
    // Times are those of two makings, hard links between moved entries become copies; nothing else may differ.
    let others: Vec<_> = differences
        .iter()
        .filter(|line| !line.contains("mtime") && !line.contains("hard link") && !line.starts_with("\".\""))
        .collect();
    assert!(others.is_empty(), "{others:#?}");
}
