//! Whatever the primary does to its tree, the secondary's comes out equal.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use _mirrorfs::op::{Op, Time};
use _mirrorfs::tree::compare_trees;
use _mirrorfs::wire::Message;
use rustix::fs::{FileType, RenameFlags};

use crate::lab::{Lab, Primary};
use crate::model::{Model, Random, meta};

/// A session in sync on two empty volumes.
pub fn in_sync(lab: &Lab) -> (Primary, Model) {
    let mut primary = lab.full();
    primary.send(&Op::BindRoot { oid: 1, volume: 0 });
    primary.send(&Op::SyncDir { oid: 1, meta: meta(&lab.source()), entries: Vec::new(), more: false });
    primary.run(&Op::SyncDone { lineage: lab.lineage() });
    assert!(lab.status().in_sync);
    (primary, Model::new(&lab.source()))
}

pub fn assert_equal(lab: &Lab) {
    let differences = compare_trees(&lab.source(), &lab.backing()).unwrap();
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn random_operations_leave_equal_trees() {
    for seed in 0..8 {
        let lab = Lab::new();
        let (mut primary, mut model) = in_sync(&lab);
        let mut random = Random(seed);
        for step in 0..400 {
            model.step(&mut primary, &mut random);
            if step % 100 == 99 {
                primary.settle();
                let differences = compare_trees(&lab.source(), &lab.backing()).unwrap();
                assert!(differences.is_empty(), "seed {seed}, step {step}: {differences:#?}");
            }
        }
    }
}

#[test]
fn names_of_255_bytes_and_names_that_are_no_text() {
    let lab = Lab::new();
    let (mut primary, mut model) = in_sync(&lab);
    let long = "x".repeat(255);
    model.create(&mut primary, Path::new(&long), FileType::Directory);
    let odd = Path::new(&long).join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff\xfe\n%s"));
    model.create(&mut primary, &odd, FileType::RegularFile);
    model.write(&mut primary, &odd, 3, b"abc");
    primary.settle();
    assert_equal(&lab);
}

#[test]
fn a_deleted_open_file_is_written_on_and_not_mistaken_for_its_successor() {
    let lab = Lab::new();
    let (mut primary, mut model) = in_sync(&lab);
    let path = Path::new("wal");
    model.create(&mut primary, path, FileType::RegularFile);
    model.unlink(&mut primary, path, true);
    model.create(&mut primary, path, FileType::RegularFile);
    let (_, old) = model.unnamed[0];
    primary.run(&Op::Write { oid: old, offset: 0, data: Cow::Borrowed(b"old"), mtime: Time::default() });
    primary.run(&Op::Forget { oid: old });
    assert_eq!(fs::read(lab.backing().join("wal")).unwrap(), b"");
    assert_equal(&lab);
}

#[test]
fn a_whole_window_of_operations_is_acknowledged_in_order() {
    let lab = Lab::new();
    let (mut primary, mut model) = in_sync(&lab);
    model.create(&mut primary, Path::new("f"), FileType::RegularFile);
    for index in 0..5000 {
        model.write(&mut primary, Path::new("f"), index * 10, b"0123456789");
    }
    primary.settle();
    assert_equal(&lab);
}

#[test]
fn fsync_is_answered_apart_and_covers_everything_before_it() {
    let lab = Lab::new();
    let (mut primary, mut model) = in_sync(&lab);
    model.create(&mut primary, Path::new("f"), FileType::RegularFile);
    model.write(&mut primary, Path::new("f"), 0, b"abc");
    let file = primary.send(&Op::Fsync { oid: model.files[Path::new("f")], data_only: false });
    let directory = primary.send(&Op::Fsync { oid: 1, data_only: true });
    let all = primary.send(&Op::SyncAll);
    primary.settle();
    let mut flushed = Vec::new();
    while flushed.len() < 3 {
        match primary.others.pop().or_else(|| primary.receive()) {
            Some(Message::Flushed { seq }) => flushed.push(seq),
            Some(Message::Ack { .. } | Message::DirState { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    flushed.sort_unstable();
    assert_eq!(flushed, [file, directory, all]);
}

#[test]
fn a_large_write_crosses_whole() {
    let lab = Lab::new();
    let (mut primary, mut model) = in_sync(&lab);
    model.create(&mut primary, Path::new("f"), FileType::RegularFile);
    let data = Random(1).bytes(1 << 20);
    for index in 0..8 {
        model.write(&mut primary, Path::new("f"), index << 20, &data);
    }
    model.rename(&mut primary, Path::new("f"), Path::new("g"), RenameFlags::empty());
    primary.settle();
    assert_equal(&lab);
}

#[test]
fn what_cannot_be_applied_ends_the_stream_and_the_right_to_be_promoted() {
    let mut lab = Lab::new();
    let (mut primary, _) = in_sync(&lab);
    let seq = primary.send(&Op::Truncate { oid: 77, size: 0, mtime: Time::default() });
    let mut failed = None;
    while let Some(message) = primary.receive() {
        if let Message::Failed { seq, reason } = message {
            failed = Some((seq, reason));
        }
    }
    let (at, reason) = failed.unwrap();
    assert_eq!(at, seq);
    assert!(reason.contains("object 77"), "{reason}");
    lab.until("failed", |status| status.failed.is_some() && !status.in_sync && !status.connected);
    let (_, state) = lab.connect();
    assert_eq!(state.stream, None);
    let stopped = lab.secondary.take().unwrap().stop();
    assert!(!stopped.promotable, "{stopped:?}");
}
