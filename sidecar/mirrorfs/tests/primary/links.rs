//! Files with several names, some of them in directories that are not hot: a comparison of the hot ones alone would
//! make two files of one, or one of two.

use _mirrorfs::journal::changes::Change;

use crate::ResyncKind;
use crate::mirror::Mirror;
use crate::model::{At, Step};

fn at(path: &'static str) -> At {
    let mut parts: Vec<_> = path.split('/').collect();
    let name = parts.pop().unwrap();
    At { directory: parts, name }
}

fn write(path: &'static str, byte: u8) -> Step {
    Step::Write(at(path), 0, vec![byte; 3000])
}

fn run(mirror: &Mirror, steps: &[Step]) {
    for step in steps {
        mirror.apply(step).unwrap();
    }
}

/// One file with names in the directories `d` and `e`, and another in `e`; nothing is hot.
fn linked(mirror: &Mirror) {
    mirror.start_secondary();
    mirror.wait_in_sync();
    let before = [Step::Mkdir(at("d")), Step::Mkdir(at("e")), Step::Create(at("d/x")), write("d/x", 1)];
    run(mirror, &before);
    run(mirror, &[Step::Link(at("d/x"), at("e/y")), Step::Create(at("e/other")), write("e/other", 2)]);
    mirror.settle();
    mirror.cool();
}

fn come_back(mirror: &Mirror) {
    mirror.start_secondary();
    mirror.wait_in_sync();
    mirror.settle();
    assert_eq!(mirror.differences(), Vec::<String>::new());
    assert_eq!(mirror.resync().unwrap().0, ResyncKind::Incremental);
}

/// What the primary does alone is found again, by the process that did it and by its successor.
fn alone(steps: &[Step]) {
    for restarted in [false, true] {
        let mirror = Mirror::new();
        linked(&mirror);
        mirror.stop_secondary();
        mirror.go_alone();
        run(&mirror, steps);
        if restarted {
            mirror.kill_primary();
            mirror.start_primary();
        }
        come_back(&mirror);
    }
}

/// What only the primary did before it died is undone.
fn tail(steps: &[Step]) {
    let mirror = Mirror::ahead_of_its_peer();
    linked(&mirror);
    mirror.stop_secondary();
    run(&mirror, steps);
    mirror.kill_primary();
    mirror.swap();
    mirror.start_primary();
    come_back(&mirror);
}

#[test]
fn a_further_name_leads_to_the_same_file() {
    let steps = [Step::Mkdir(at("f")), Step::Link(at("d/x"), at("f/z")), write("f/z", 3)];
    alone(&steps);
    tail(&steps);
}

#[test]
fn a_new_file_under_the_name_of_a_link_is_a_file_of_its_own() {
    let steps = [Step::Unlink(at("e/y")), Step::Create(at("e/y")), write("e/y", 4)];
    alone(&steps);
    tail(&steps);
}

#[test]
fn a_file_renamed_over_a_link_leaves_the_other_name_alone() {
    let steps = [Step::Rename(at("e/other"), at("e/y"), 0), write("e/y", 5)];
    alone(&steps);
    tail(&steps);
}

#[test]
fn a_name_that_is_gone_leaves_the_file_under_the_other() {
    let steps = [Step::Unlink(at("e/y")), write("d/x", 6)];
    alone(&steps);
    tail(&steps);
}

#[test]
fn a_directory_that_moves_keeps_its_links_to_elsewhere() {
    let steps = [Step::Rename(at("e"), at("f"), 0)];
    alone(&steps);
    tail(&steps);
}

#[test]
fn what_is_written_to_a_file_whose_known_name_is_gone_is_found() {
    let steps = [Step::Open(at("e/y")), Step::Unlink(at("e/y")), Step::WriteOpen(0, vec![7; 3000])];
    alone(&steps);
    tail(&steps);
}

#[test]
fn what_the_peer_cannot_be_told_yet_is_compared_later() {
    let mirror = Mirror::new();
    linked(&mirror);
    run(&mirror, &[Step::Mkdir(at("e/f")), Step::Create(at("e/f/x")), Step::Mkdir(at("g")), Step::Create(at("g/z"))]);
    mirror.settle();
    mirror.cool();
    mirror.stop_secondary();
    mirror.go_alone();
    // Only `e` is hot: what is below is level, but for the peer it may be anywhere until `e` is.
    run(&mirror, &[Step::Create(at("e/new"))]);
    let core = mirror.core();
    let plan = core.begin_incremental("a stream without a peer".to_owned(), &[]).unwrap();
    assert!(plan.directories.iter().any(|directory| directory.name().is_some_and(|name| &*name.name == b"e")));
    run(&mirror, &[write("e/f/x", 8), write("g/z", 9)]);
    let later = core.take_moved(core.stream().epoch());
    assert_eq!(later.len(), 1, "{later:?}");
    assert!(later[0].name().is_some_and(|name| &*name.name == b"x" && !name.parent.is_root()));
}

#[test]
fn what_the_peer_lacks_is_marked_before_the_peer_makes_it() {
    let mirror = Mirror::new();
    linked(&mirror);
    mirror.stop_secondary();
    mirror.go_alone();
    let core = mirror.core();
    assert!(core.journal().unwrap().snapshot().placed.is_empty());
    // As if the peer had, as primary, taken `d` away.
    let theirs = Change::Directory { volume: 0, path: Vec::new(), names: vec![(b"e".to_vec(), false)] };
    let plan = core.begin_incremental("a stream without a peer".to_owned(), &[theirs]).unwrap();
    core.level(&plan.directories[0]).unwrap();
    let hot = core.journal().unwrap().snapshot();
    assert_eq!(hot.placed.len(), 1);
    assert!(hot.directories.iter().any(|directory| directory.names.iter().any(|name| **name == *b"d")));
}

#[test]
fn the_end_of_an_interrupted_attempt_takes_nothing_from_the_next() {
    let mirror = Mirror::new();
    linked(&mirror);
    mirror.stop_secondary();
    mirror.go_alone();
    run(&mirror, &[Step::Create(at("e/new")), Step::Mkdir(at("e/f"))]);
    let core = mirror.core();
    core.begin_incremental("the first stream".to_owned(), &[]).unwrap();
    let first = core.stream().epoch();
    let plan = core.begin_incremental("the second stream".to_owned(), &[]).unwrap();
    plan.directories.iter().for_each(|directory| core.level(directory).unwrap());
    core.end_progress(first);
    assert!(core.take_moved(first).is_empty() && core.take_todo(first).is_empty());
    assert!(!core.take_todo(core.stream().epoch()).is_empty());
}
