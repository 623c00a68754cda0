//! What only the losing side of a split brain had is found in its quarantine folder afterwards.

use std::fs;
use std::path::PathBuf;

use _mirrorfs::op::Op;
use _mirrorfs::resync::quarantine::{Kept, MANIFEST, Reason};
use _mirrorfs::wire::handshake::BeginKind;

use crate::lab::Lab;
use crate::operations::assert_equal;
use crate::resync::{Source, synchronise};

/// In sync, then both sides wrote alone.
fn split() -> (Lab, String) {
    let mut lab = Lab::new();
    let source = lab.source();
    fs::create_dir(source.join("dir")).unwrap();
    for name in ["same", "changed", "dir/removed", "touched"] {
        fs::write(source.join(name), format!("{name} of both")).unwrap();
    }
    synchronise(&lab, BeginKind::Full { discard: None });
    let loser = lab.store.update(|record| record.begin_generation()).unwrap().generation;
    lab.primary.begin_generation().unwrap();
    let there = lab.backing();
    fs::write(there.join("changed"), b"only the loser has this").unwrap();
    fs::write(there.join("dir/removed"), b"changed by the loser, removed by the winner").unwrap();
    fs::create_dir_all(there.join("new/directory")).unwrap();
    fs::write(there.join("new/directory/file"), b"made by the loser").unwrap();
    fs::write(there.join("dir/new"), b"made by the loser too").unwrap();
    fs::write(source.join("changed"), b"winner").unwrap();
    fs::write(source.join("dir/new"), b"winner made another").unwrap();
    fs::remove_file(source.join("dir/removed")).unwrap();
    fs::write(source.join("touched"), b"touched of both").unwrap();
    (lab, loser)
}

fn folder(lab: &Lab) -> PathBuf {
    let folders: Vec<_> = fs::read_dir(lab.quarantine()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    folders[0].join("data")
}

fn assert_kept(lab: &Lab, loser: &str) {
    let folder = folder(lab);
    assert!(folder.to_str().unwrap().contains(loser));
    let read = |name: &str| String::from_utf8(fs::read(folder.join(name)).unwrap()).unwrap();
    assert_eq!(read("changed"), "only the loser has this");
    assert_eq!(read("dir/removed"), "changed by the loser, removed by the winner");
    assert_eq!(read("new/directory/file"), "made by the loser");
    assert_eq!(read("dir/new"), "made by the loser too");
    for equal in ["same", "touched"] {
        assert!(!folder.join(equal).exists(), "{equal} was equal on both sides");
    }
}

#[test]
fn the_manifest_names_each_file_that_is_kept() {
    let (lab, loser) = split();
    synchronise(&lab, BeginKind::Full { discard: Some(loser.clone()) });
    let folder = folder(&lab).parent().unwrap().to_owned();
    let text = fs::read_to_string(folder.join(MANIFEST)).unwrap();
    let mut kept: Vec<Kept> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    kept.sort_by(|a, b| a.path.cmp(&b.path));
    let named: Vec<_> = kept.iter().map(|kept| (kept.path.as_str(), kept.reason)).collect();
    assert_eq!(
        named,
        [
            ("data/changed", Reason::Differs),
            ("data/dir/new", Reason::Differs),
            ("data/dir/removed", Reason::Absent),
            ("data/new/directory/file", Reason::Absent),
        ]
    );
    for kept in kept {
        let contents = fs::read(folder.join(&kept.path)).unwrap();
        assert_eq!(kept.size, contents.len() as u64);
        assert_eq!(kept.digest.unwrap(), blake3::hash(&contents).to_hex().to_string());
        assert_eq!(kept.generation, loser);
    }
}

#[test]
fn what_only_the_loser_had_is_kept() {
    let (lab, loser) = split();
    synchronise(&lab, BeginKind::Full { discard: Some(loser.clone()) });
    assert_equal(&lab);
    assert_kept(&lab, &loser);
    let status = lab.status();
    assert_eq!(status.quarantined, 4);
    assert!(status.quarantine.unwrap().contains(&loser));
    assert_eq!(lab.store.get().unwrap().discarding, None);
}

#[test]
fn a_restart_in_the_middle_goes_on_with_the_same_folder_and_without_another_word() {
    let (mut lab, loser) = split();
    let (mut primary, _) = lab.connect();
    lab.begin(&mut primary, BeginKind::Full { discard: Some(loser.clone()) }).unwrap();
    Source::new(&mut primary).tree(&lab.source());
    drop(primary);
    lab.start();
    synchronise(&lab, BeginKind::Full { discard: None });
    assert_equal(&lab);
    assert_kept(&lab, &loser);
}

#[test]
fn operations_of_the_running_application_do_not_destroy_what_is_to_be_kept() {
    let (lab, loser) = split();
    let (mut primary, _) = lab.connect();
    lab.begin(&mut primary, BeginKind::Full { discard: Some(loser.clone()) }).unwrap();
    let mut source = Source::new(&mut primary);
    source.tree(&lab.source());
    drop(primary);
    // The source's tree was walked; a second session meets a target whose files were all compared.
    synchronise(&lab, BeginKind::Full { discard: None });
    assert_kept(&lab, &loser);
}

#[test]
fn a_write_before_the_comparison_saves_the_file_first() {
    let (lab, loser) = split();
    let (mut primary, _) = lab.connect();
    lab.begin(&mut primary, BeginKind::Full { discard: Some(loser) }).unwrap();
    primary.send(&Op::BindRoot { oid: 1, volume: 0 });
    let at = |name: &str| _mirrorfs::op::Place { parent: 1, name: name.as_bytes().to_vec() };
    primary.send(&Op::Bind { oid: 2, at: at("changed") });
    primary.send(&Op::Write { oid: 2, offset: 0, data: b"streamed"[..].into(), mtime: Default::default() });
    primary.send(&Op::Bind { oid: 3, at: at("same") });
    primary.run(&Op::Unlink { at: at("same"), keep: 0, dir_mtime: Default::default() });
    assert_eq!(fs::read(folder(&lab).join("changed")).unwrap(), b"only the loser has this");
    assert_eq!(fs::read(folder(&lab).join("same")).unwrap(), b"same of both");
}

#[test]
fn a_fresh_node_with_files_of_its_own_loses_none() {
    let lab = Lab::new();
    fs::write(lab.source().join("f"), b"the module's").unwrap();
    fs::create_dir_all(lab.backing()).unwrap();
    fs::write(lab.backing().join("f"), b"somebody's").unwrap();
    fs::write(lab.backing().join("g"), b"somebody's").unwrap();
    synchronise(&lab, BeginKind::Full { discard: None });
    assert_equal(&lab);
    for name in ["f", "g"] {
        assert_eq!(fs::read(folder(&lab).join(name)).unwrap(), b"somebody's");
    }
}
