//! The primary's file system without FUSE, with a real secondary over loopback: random operations give what the same
//! operations give on a plain directory, and both trees come out equal.
//!
//! Needs root and a file system with extended attributes and file handles under the temporary directory.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod links;
mod mirror;
mod model;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use _mirrorfs::stream::secondary::ResyncKind;
use mirror::Mirror;
use model::{Plain, Step, steps};

/// The same on the mirror's primary and on a plain directory; the answers must be the same.
fn run(mirror: &Mirror, plain: &Plain, steps: &[Step]) {
    for step in steps {
        let (ours, theirs) = (mirror.apply(step), plain.apply(step));
        assert_eq!(ours, theirs, "{step:?}");
    }
}

/// On the mirror alone, whatever they answer.
fn apply(mirror: &Mirror, steps: &[Step]) {
    for step in steps {
        let _ = mirror.apply(step);
    }
}

fn kind(mirror: &Mirror) -> ResyncKind {
    let (kind, why) = mirror.resync().unwrap();
    eprintln!("{kind:?}: {why}");
    kind
}

/// Both of the mirror's trees are equal, and equal to the plain directory in all but times.
fn check(mirror: &Mirror, plain: &Plain) {
    assert_eq!(mirror.differences(), Vec::<String>::new());
    let differences = mirror.differences_from(plain.path());
    let other: Vec<&String> = differences.iter().filter(|line| !line.contains("mtime")).collect();
    assert_eq!(other, Vec::<&String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_operations_are_mirrored(work in steps(1..80)) {
        let (mirror, plain) = (Mirror::new(), Plain::new());
        mirror.start_secondary();
        mirror.wait_in_sync();
        run(&mirror, &plain, &work);
        check(&mirror, &plain);
    }

    #[test]
    fn the_trees_are_equal_after_each_operation(work in steps(1..12)) {
        let (mirror, plain) = (Mirror::new(), Plain::new());
        mirror.start_secondary();
        mirror.wait_in_sync();
        for step in &work {
            run(&mirror, &plain, std::slice::from_ref(step));
            check(&mirror, &plain);
        }
    }

    #[test]
    fn random_operations_during_a_resynchronisation_are_mirrored(
        before in steps(0..60),
        during in steps(0..60),
        after in steps(0..20),
    ) {
        let (mirror, plain) = (Mirror::new(), Plain::new());
        run(&mirror, &plain, &before);
        mirror.start_secondary();
        run(&mirror, &plain, &during);
        mirror.wait_in_sync();
        run(&mirror, &plain, &after);
        check(&mirror, &plain);
    }

    #[test]
    fn a_second_resynchronisation_over_an_old_copy_is_complete(
        before in steps(0..40),
        alone in steps(0..40),
        during in steps(0..40),
    ) {
        let (mirror, plain) = (Mirror::new(), Plain::new());
        mirror.start_secondary();
        mirror.wait_in_sync();
        run(&mirror, &plain, &before);
        mirror.stop_secondary();
        mirror.go_alone();
        run(&mirror, &plain, &alone);
        mirror.start_secondary();
        run(&mirror, &plain, &during);
        mirror.wait_in_sync();
        check(&mirror, &plain);
        assert_eq!(kind(&mirror), ResyncKind::Incremental);
    }

    #[test]
    fn a_primary_that_was_restarted_alone_knows_what_its_peer_lacks(
        before in steps(0..40),
        alone in steps(0..30),
        again in steps(0..30),
        during in steps(0..20),
    ) {
        let (mirror, plain) = (Mirror::new(), Plain::new());
        mirror.start_secondary();
        mirror.wait_in_sync();
        run(&mirror, &plain, &before);
        mirror.cool();
        mirror.stop_secondary();
        mirror.go_alone();
        run(&mirror, &plain, &alone);
        mirror.kill_primary();
        plain.close();
        mirror.start_primary();
        run(&mirror, &plain, &again);
        mirror.start_secondary();
        run(&mirror, &plain, &during);
        mirror.wait_in_sync();
        check(&mirror, &plain);
        assert_eq!(kind(&mirror), ResyncKind::Incremental);
    }

    #[test]
    fn what_only_the_lost_primary_had_is_undone(
        before in steps(0..40),
        after in steps(0..20),
        tail in steps(0..30),
        alone in steps(0..30),
        during in steps(0..20),
        reopened in any::<bool>(),
        pauses in proptest::collection::vec(0..6000_u64, 0..3),
    ) {
        let mirror = Mirror::ahead_of_its_peer();
        mirror.start_secondary();
        mirror.wait_in_sync();
        apply(&mirror, &before);
        mirror.cool();
        apply(&mirror, &after);
        mirror.settle();
        mirror.stop_secondary();
        apply(&mirror, &tail);
        mirror.kill_primary();
        mirror.swap();
        mirror.start_primary();
        apply(&mirror, &alone);
        if reopened {
            mirror.kill_primary();
            mirror.start_primary();
        }
        for pause in pauses {
            mirror.start_secondary();
            std::thread::sleep(std::time::Duration::from_micros(pause));
            mirror.stop_secondary();
            mirror.go_alone();
        }
        mirror.start_secondary();
        apply(&mirror, &during);
        mirror.wait_in_sync();
        mirror.settle();
        assert_eq!(mirror.differences(), Vec::<String>::new());
        assert_eq!(kind(&mirror), ResyncKind::Incremental);
        // And once more, the other way round, after the journals have cooled.
        mirror.stop_secondary();
        apply(&mirror, &tail);
        mirror.kill_primary();
        mirror.swap();
        mirror.start_primary();
        apply(&mirror, &during);
        mirror.start_secondary();
        mirror.wait_in_sync();
        mirror.settle();
        assert_eq!(mirror.differences(), Vec::<String>::new());
        assert_eq!(kind(&mirror), ResyncKind::Incremental);
    }

    #[test]
    fn an_interrupted_incremental_resynchronisation_begins_again(
        before in steps(0..40),
        alone in steps(0..40),
        during in steps(0..40),
        pauses in proptest::collection::vec(0..4000_u64, 1..4),
    ) {
        let (mirror, plain) = (Mirror::new(), Plain::new());
        mirror.start_secondary();
        mirror.wait_in_sync();
        run(&mirror, &plain, &before);
        mirror.stop_secondary();
        mirror.go_alone();
        run(&mirror, &plain, &alone);
        for (pause, work) in pauses.iter().zip(during.chunks(10)) {
            mirror.start_secondary();
            std::thread::sleep(std::time::Duration::from_micros(*pause));
            mirror.stop_secondary();
            mirror.go_alone();
            run(&mirror, &plain, work);
        }
        mirror.start_secondary();
        mirror.wait_in_sync();
        check(&mirror, &plain);
        assert_eq!(kind(&mirror), ResyncKind::Incremental);
    }
}
