use super::*;

fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

fn run(epoch: u64, ttl: u64) -> Event {
    Event::Order(Order::Run(Run {
        epoch,
        ttl: ms(ttl),
        until: None,
        argv: None,
        restart_by_sidecar: true,
        stop_signal: None,
    }))
}

fn stop(epoch: u64, grace: u64) -> Event {
    Event::Order(Order::Stop(Stop {
        epoch,
        grace: ms(grace),
    }))
}

fn gate() -> Machine {
    Machine::new(Some(vec!["app".into()]))
}

/// A machine whose application runs in epoch 1 with a lease until 1500.
fn running() -> Machine {
    let mut machine = gate();
    let effects = machine.on(run(1, 1500), ms(0));
    assert_eq!(effects, vec![Effect::Spawn(vec!["app".into()])]);
    machine.on(Event::Spawned(9), ms(0));
    assert_eq!(machine.state().state, "running");
    machine
}

#[test]
fn an_expired_lease_kills_and_then_holds() {
    let mut machine = running();
    assert_eq!(machine.next_deadline(), Some(ms(1500)));
    assert!(machine.on(Event::Tick, ms(1499)).is_empty());
    assert_eq!(
        machine.on(Event::Tick, ms(1500)),
        vec![Effect::KillTree, Effect::Report]
    );
    machine.on(Event::ChildExited(Exit::Signal(9)), ms(1501));
    assert_eq!(machine.on(Event::TreeGone, ms(1502)), vec![Effect::Report]);
    assert_eq!(machine.state().state, "held");
    assert_eq!(machine.state().reason, "the lease ran out");
    // The same epoch does not start again, a higher one does.
    assert_eq!(machine.on(run(1, 1500), ms(1600)), vec![Effect::Report]);
    assert_eq!(
        machine.on(run(2, 1500), ms(1600)),
        vec![Effect::Spawn(vec!["app".into()])]
    );
}

#[test]
fn a_grant_that_lay_in_the_socket_gives_no_time() {
    let mut machine = gate();
    let late = Run {
        epoch: 1,
        ttl: ms(1500),
        until: Some(ms(1500)),
        argv: None,
        restart_by_sidecar: true,
        stop_signal: None,
    };
    assert_eq!(
        machine.on(Event::Order(Order::Run(late.clone())), ms(5000)),
        vec![Effect::Report]
    );
    assert_eq!(machine.state().state, "held");
    let mut machine = running();
    machine.on(Event::Order(Order::Run(late)), ms(1000));
    assert_eq!(machine.next_deadline(), Some(ms(1500)));
}

#[test]
fn the_lease_bounds_an_orderly_stop() {
    let mut machine = running();
    assert_eq!(
        machine.on(stop(1, 30_000), ms(100)),
        vec![Effect::Signal(15), Effect::Report]
    );
    assert_eq!(machine.next_deadline(), Some(ms(1500)));
    // A renewal while it stops buys time, and does not take the stop back.
    machine.on(run(1, 2000), ms(1000));
    assert_eq!(machine.state().state, "stopping");
    assert_eq!(machine.next_deadline(), Some(ms(3000)));
    assert_eq!(
        machine.on(Event::Tick, ms(3000)),
        vec![Effect::KillTree, Effect::Report]
    );
}

#[test]
fn a_stop_kills_after_its_grace() {
    let mut machine = running();
    machine.on(stop(1, 500), ms(100));
    assert_eq!(machine.next_deadline(), Some(ms(600)));
    machine.on(stop(1, 9000), ms(200));
    assert_eq!(machine.next_deadline(), Some(ms(600)), "never extended");
    assert_eq!(
        machine.on(Event::Tick, ms(600)),
        vec![Effect::KillTree, Effect::Report]
    );
    // Not gone yet: it is killed again.
    assert_eq!(machine.on(Event::Tick, ms(700)), vec![Effect::KillTree]);
    machine.on(Event::ChildExited(Exit::Signal(9)), ms(701));
    machine.on(Event::TreeGone, ms(702));
    assert_eq!(machine.state().state, "held");
}

#[test]
fn a_stop_without_grace_kills_at_once() {
    let mut machine = running();
    assert_eq!(
        machine.on(stop(1, 0), ms(1)),
        vec![Effect::KillTree, Effect::Report]
    );
}

#[test]
fn a_stale_stop_is_ignored_and_an_early_one_remembered() {
    let mut machine = gate();
    machine.on(stop(4, 0), ms(0));
    assert_eq!(machine.on(run(4, 1500), ms(0)), vec![Effect::Report]);
    assert_ne!(machine.on(run(5, 1500), ms(0)), vec![Effect::Report]);
    machine.on(Event::Spawned(9), ms(0));
    assert_eq!(machine.on(stop(4, 0), ms(1)), vec![Effect::Report]);
    assert_eq!(machine.state().state, "running");
}

#[test]
fn a_higher_epoch_does_not_replace_a_running_application() {
    let mut machine = running();
    assert_eq!(machine.on(run(2, 9000), ms(10)), vec![Effect::Report]);
    assert_eq!(machine.next_deadline(), Some(ms(1500)));
    assert_eq!(machine.state().epoch, 1);
}

#[test]
fn an_exit_by_itself_waits_for_the_sidecar() {
    let mut machine = running();
    assert_eq!(
        machine.on(Event::ChildExited(Exit::Code(3)), ms(10)),
        vec![Effect::KillTree]
    );
    assert_eq!(machine.on(Event::TreeGone, ms(11)), vec![Effect::Report]);
    assert_eq!(machine.state().state, "exited");
    assert_eq!(machine.state().exit, Some(Exit::Code(3)));
    assert_eq!(machine.on(run(1, 1500), ms(12)), vec![Effect::Report]);
    assert!(machine.next_deadline().is_none());
    machine.on(run(2, 1500), ms(13));
    machine.on(Event::Spawned(10), ms(13));
    assert_eq!(machine.state().state, "running");
    assert_eq!(machine.state().exit, None);
}

#[test]
fn an_exit_by_itself_ends_the_gate_where_kubelet_restarts() {
    let mut machine = gate();
    machine.on(
        Event::Order(Order::Run(Run {
            epoch: 1,
            ttl: ms(1500),
            until: None,
            argv: None,
            restart_by_sidecar: false,
            stop_signal: None,
        })),
        ms(0),
    );
    machine.on(Event::Spawned(9), ms(0));
    machine.on(Event::ChildExited(Exit::Signal(11)), ms(1));
    assert_eq!(
        machine.on(Event::TreeGone, ms(2)),
        vec![Effect::Report, Effect::Exit(139)]
    );
}

#[test]
fn a_command_that_cannot_start_is_an_exit() {
    let mut machine = gate();
    machine.on(run(1, 1500), ms(0));
    let event = Event::SpawnFailed(127, "app: not found".into());
    assert_eq!(machine.on(event, ms(0)), vec![Effect::Report]);
    assert_eq!(machine.state().state, "exited");
    assert_eq!(machine.state().exit, Some(Exit::Code(127)));
    assert_eq!(machine.state().reason, "app: not found");
}

#[test]
fn without_a_command_it_stays_held_and_says_so() {
    let mut machine = Machine::new(None);
    assert_eq!(machine.on(run(1, 1500), ms(0)), vec![Effect::Report]);
    assert!(machine.state().reason.contains("no command"));
    // The epoch is not used up by a grant that could not be followed.
    let with_argv = Event::Order(Order::Run(Run {
        epoch: 1,
        ttl: ms(1500),
        until: None,
        argv: Some(vec!["image".into(), "x".into()]),
        restart_by_sidecar: true,
        stop_signal: None,
    }));
    assert_eq!(
        machine.on(with_argv, ms(0)),
        vec![Effect::Spawn(vec!["image".into(), "x".into()])]
    );
}

#[test]
fn pod_deletion_is_told_forwarded_and_waited_for() {
    let mut machine = running();
    assert_eq!(
        machine.on(Event::Signal(15), ms(10)),
        vec![Effect::Report, Effect::Signal(15)]
    );
    assert_eq!(machine.state().state, "stopping");
    assert_eq!(machine.state().reason, "terminated");
    assert_eq!(machine.next_deadline(), Some(ms(1500)));
    machine.on(Event::ChildExited(Exit::Code(0)), ms(20));
    assert_eq!(
        machine.on(Event::TreeGone, ms(21)),
        vec![Effect::Report, Effect::Exit(0)]
    );
    assert_eq!(machine.on(run(2, 1500), ms(22)), vec![Effect::Report]);
}

#[test]
fn the_images_stop_signal_is_used_and_recognised() {
    let mut machine = gate();
    let grant = |epoch| {
        Event::Order(Order::Run(Run {
            epoch,
            ttl: ms(1500),
            until: None,
            argv: None,
            restart_by_sidecar: true,
            stop_signal: Some(2),
        }))
    };
    machine.on(grant(1), ms(0));
    machine.on(Event::Spawned(9), ms(0));
    assert_eq!(
        machine.on(stop(1, 100), ms(1)),
        vec![Effect::Signal(2), Effect::Report]
    );
    machine.on(Event::ChildExited(Exit::Code(0)), ms(2));
    machine.on(Event::TreeGone, ms(2));
    machine.on(grant(2), ms(3));
    machine.on(Event::Spawned(9), ms(3));
    assert_eq!(
        machine.on(Event::Signal(2), ms(4)),
        vec![Effect::Report, Effect::Signal(2)]
    );
}

#[test]
fn other_signals_are_forwarded() {
    let mut machine = running();
    assert_eq!(machine.on(Event::Signal(1), ms(1)), vec![Effect::Signal(1)]);
    assert_eq!(machine.state().state, "running");
    assert!(gate().on(Event::Signal(1), ms(1)).is_empty());
}

#[test]
fn a_held_gate_ends_at_once_when_terminated() {
    assert_eq!(
        gate().on(Event::Signal(2), ms(1)),
        vec![Effect::Report, Effect::Exit(0)]
    );
}

#[test]
fn failed_liveness_checks_in_a_row_end_the_application() {
    let mut machine = running();
    let check = |epoch, ok| Event::Liveness {
        epoch,
        ok,
        threshold: 2,
        grace: ms(300),
    };
    assert!(machine.on(check(1, false), ms(1)).is_empty());
    assert!(machine.on(check(1, true), ms(2)).is_empty());
    assert!(machine.on(check(1, false), ms(3)).is_empty());
    assert!(machine.on(check(0, false), ms(3)).is_empty(), "an old one");
    assert_eq!(
        machine.on(check(1, false), ms(4)),
        vec![Effect::Signal(15), Effect::Report]
    );
    assert_eq!(machine.next_deadline(), Some(ms(304)));
    machine.on(Event::ChildExited(Exit::Code(0)), ms(5));
    machine.on(Event::TreeGone, ms(5));
    assert_eq!(machine.state().state, "exited", "it counts as a failure");
    assert_eq!(machine.state().reason, "the liveness probe failed");
}

#[test]
fn the_startup_mark_belongs_to_one_epoch() {
    let mut machine = running();
    machine.on(Event::Started { epoch: 0 }, ms(1));
    assert!(!machine.started());
    machine.on(Event::Started { epoch: 1 }, ms(1));
    assert!(machine.started());
    machine.on(Event::ChildExited(Exit::Code(0)), ms(5));
    machine.on(Event::TreeGone, ms(5));
    machine.on(run(2, 1500), ms(6));
    assert!(!machine.started());
    assert_eq!(machine.age(ms(10)), ms(4));
}
