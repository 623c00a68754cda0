//! The generation record: durable, checked, and never wrong about who is ahead.

use std::fs;

use _mirrorfs::record::{HISTORY, LastRole, Record, RecordError, Store, Verdict, compare};
use proptest::prelude::*;

use crate::lab::MODULE;

fn record(node: &str) -> Record {
    Record::initial(MODULE, node).unwrap()
}

/// What may happen to two nodes that were in sync.
#[derive(Clone, Copy, Debug)]
enum Event {
    AloneA,
    AloneB,
    /// The one that is ahead synchronises the other.
    Sync,
}

proptest! {
    #[test]
    fn the_verdict_follows_from_who_wrote_alone(events in prop::collection::vec(prop_oneof![Just(Event::AloneA), Just(Event::AloneB), Just(Event::Sync)], 0..60)) {
        let (mut a, mut b) = (record("a"), record("b"));
        (b.generation, b.history) = (a.generation.clone(), a.history.clone());
        let (mut alone_a, mut alone_b) = (0_usize, 0_usize);
        for event in events {
            match event {
                Event::AloneA => { a.begin_generation().unwrap(); alone_a += 1; }
                Event::AloneB => { b.begin_generation().unwrap(); alone_b += 1; }
                Event::Sync if alone_a == 0 => { (a.generation, a.history) = (b.generation.clone(), b.history.clone()); alone_b = 0; }
                Event::Sync if alone_b == 0 => { (b.generation, b.history) = (a.generation.clone(), a.history.clone()); alone_a = 0; }
                Event::Sync => {}
            }
            let expected = match (alone_a, alone_b) {
                (0, 0) => Verdict::Same,
                (_, 0) => Verdict::Ahead,
                (0, _) => Verdict::Behind,
                _ => Verdict::Diverged,
            };
            prop_assert_eq!(compare(Some(&a), Some(&b)), expected);
            prop_assert_eq!(compare(Some(&b), Some(&a)), expected.reversed());
            prop_assert!(a.history.len() <= HISTORY && b.history.len() <= HISTORY);
        }
    }
}

#[test]
fn a_promotion_that_never_wrote_is_no_divergence() {
    let a = record("a");
    let mut b = a.clone();
    b.node = "b".to_owned();
    b.alone = true;
    b.last_role = LastRole::Primary;
    assert_eq!(compare(Some(&a), Some(&b)), Verdict::Same);
}

#[test]
fn fresh_unrelated_and_never_synchronised_nodes() {
    let a = record("a");
    assert_eq!(compare(Some(&a), None), Verdict::Fresh);
    assert_eq!(compare(None, None), Verdict::Fresh);
    assert_eq!(compare(Some(&a), Some(&record("b"))), Verdict::Diverged);
    let empty = Record::empty(MODULE, "b");
    assert_eq!(compare(Some(&empty), Some(&a)), Verdict::Behind);
    assert_eq!(compare(Some(&a), Some(&empty)), Verdict::Ahead);
    let mut forced = empty.clone();
    forced.begin_generation().unwrap();
    assert_eq!(
        compare(Some(&a), Some(&forced)),
        Verdict::Diverged,
        "a half copy that was forced to serve is nobody's heir"
    );
    let foreign = Record::initial("another", "b").unwrap();
    assert_eq!(compare(Some(&a), Some(&foreign)), Verdict::Unrelated);
}

#[test]
fn a_peer_that_missed_more_generations_than_are_kept_counts_as_diverged() {
    let old = record("b");
    let mut new = old.clone();
    for _ in 0..HISTORY {
        new.begin_generation().unwrap();
    }
    assert_eq!(compare(Some(&old), Some(&new)), Verdict::Behind);
    new.begin_generation().unwrap();
    assert_eq!(compare(Some(&old), Some(&new)), Verdict::Diverged);
}

#[test]
fn changes_survive_a_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), MODULE, "a").unwrap();
    assert_eq!(store.get(), None);
    assert!(matches!(store.update(|_| Ok(())), Err(RecordError::Missing { .. })));
    store.create(record("a")).unwrap();
    assert!(matches!(store.create(record("a")), Err(RecordError::Exists { .. })));
    let updated = store
        .update(|record| {
            record.alone = true;
            record.begin_generation()
        })
        .unwrap();
    assert_eq!(updated.history.len(), 1);
    let again = Store::open(directory.path(), MODULE, "a").unwrap();
    assert_eq!(again.get(), Some(updated));
}

#[test]
fn a_failed_change_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), MODULE, "a").unwrap();
    let first = store.create(record("a")).unwrap();
    let failed = store.update(|record| {
        record.alone = true;
        Err(RecordError::Random("none".to_owned()))
    });
    assert!(failed.is_err());
    assert_eq!(store.get(), Some(first));
}

#[test]
fn damage_is_named_with_its_mend() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("record.json");
    Store::open(directory.path(), MODULE, "a").unwrap().create(record("a")).unwrap();
    let good = fs::read_to_string(&path).unwrap().trim_end().to_owned();
    let damages = [
        String::new(),
        good[..good.len() / 2].to_owned(),
        good.replace("\"alone\": false", "\"alone\": true"),
        good.replace("\"format\": 2", "\"form\": 2"),
        "\0\0\0\0".to_owned(),
    ];
    for damage in damages {
        fs::write(&path, &damage).unwrap();
        match Store::open(directory.path(), MODULE, "a") {
            Err(error @ RecordError::Damaged { .. }) => {
                let text = error.to_string();
                assert!(text.contains("record.json") && text.contains("restore it"), "{text}");
            }
            other => panic!("{damage:?}: {other:?}"),
        }
    }
}

#[test]
fn newer_and_foreign_records_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("record.json");
    Store::open(directory.path(), MODULE, "a").unwrap().create(record("a")).unwrap();
    assert!(matches!(Store::open(directory.path(), "another", "a"), Err(RecordError::ForeignModule { .. })));
    assert!(matches!(Store::open(directory.path(), MODULE, "b"), Err(RecordError::ForeignNode { .. })));
    let newer = fs::read_to_string(&path).unwrap().replace("\"format\": 2", "\"format\": 3");
    fs::write(&path, newer).unwrap();
    assert!(matches!(Store::open(directory.path(), MODULE, "a"), Err(RecordError::Newer { found: 3, .. })));
}
