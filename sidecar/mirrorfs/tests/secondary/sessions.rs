//! Connections: who may connect, what is resumed, what is repeated, what is damaged.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use _mirrorfs::op::Op;
use _mirrorfs::record::Verdict;
use _mirrorfs::wire::Message;
use _mirrorfs::wire::handshake::{BeginKind, HandshakeError, RefusalCode};
use rustix::fs::FileType;

use crate::lab::{Lab, Primary, identity};
use crate::model::Model;
use crate::operations::{assert_equal, in_sync};

fn code(result: Result<impl Sized, HandshakeError>) -> RefusalCode {
    match result {
        Err(HandshakeError::Refused(refusal) | HandshakeError::Rejected(refusal)) => refusal.code,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    }
}

#[test]
fn a_foreign_primary_is_refused_by_name() {
    let lab = Lab::new();
    let mut foreign = identity("a", "b");
    foreign.module = "another".to_owned();
    foreign.module_name = "default/other".to_owned();
    match lab.dial(&foreign) {
        Err(HandshakeError::Refused(refusal)) => {
            assert_eq!(refusal.code, RefusalCode::ForeignModule);
            assert!(refusal.text.contains("default/db") && refusal.text.contains("default/other"), "{}", refusal.text);
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
    assert_eq!(code(lab.dial(&identity("c", "b"))), RefusalCode::WrongNode);
    let mut wrong = identity("a", "b");
    wrong.key = b"other".to_vec();
    assert_eq!(code(lab.dial(&wrong)), RefusalCode::BadKey);
    lab.until("told", |status| status.error.is_some());
}

fn reconnect(lab: &Lab, old: &Primary) -> Primary {
    let (mut primary, state) = lab.connect();
    assert_eq!(state.stream.as_ref(), Some(&old.stream));
    lab.begin(&mut primary, BeginKind::Resume).unwrap();
    (primary.seq, primary.acked) = (state.applied, state.applied);
    primary
}

#[test]
fn a_cut_connection_is_resumed_and_repeated_operations_apply_once() {
    let lab = Lab::new();
    let (mut primary, mut model) = in_sync(&lab);
    let path = Path::new("log");
    model.create(&mut primary, path, FileType::RegularFile);
    model.write(&mut primary, path, 0, b"one");
    primary.settle();
    primary.writer.shutdown(std::net::Shutdown::Both).unwrap();
    lab.until("disconnected", |status| !status.connected && status.disconnected_ms.is_some());
    assert!(lab.status().in_sync, "a secondary that was in sync stays promotable");
    let mut again = reconnect(&lab, &primary);
    assert_eq!(again.seq, primary.seq);
    // Everything once more (the answers might have been lost), then something new.
    let create = Op::Create {
        oid: model.files[path],
        at: model.place(path),
        meta: Default::default(),
        dir_mtime: Default::default(),
    };
    again.writer.write_all(&Primary::frame(&create, again.seq - 1)).unwrap();
    model.write(&mut again, path, 3, b"two");
    again.settle();
    assert_equal(&lab);
}

#[test]
fn a_repeated_fsync_is_answered_again() {
    let lab = Lab::new();
    let (mut primary, mut model) = in_sync(&lab);
    model.create(&mut primary, Path::new("f"), FileType::RegularFile);
    let oid = model.files[Path::new("f")];
    let seq = primary.send(&Op::Fsync { oid, data_only: false });
    model.unlink(&mut primary, Path::new("f"), false);
    primary.run(&Op::Forget { oid });
    let mut again = reconnect(&lab, &primary);
    again.writer.write_all(&Primary::frame(&Op::Fsync { oid, data_only: false }, seq)).unwrap();
    let answers: Vec<_> = std::iter::from_fn(|| again.receive()).take(2).collect();
    assert!(answers.contains(&Message::Flushed { seq }), "{answers:?}");
}

#[test]
fn damage_on_the_way_drops_the_connection_and_nothing_is_applied() {
    let lab = Lab::new();
    let (mut primary, mut model) = in_sync(&lab);
    model.create(&mut primary, Path::new("f"), FileType::RegularFile);
    primary.settle();
    let op =
        Op::Write { oid: model.files[Path::new("f")], offset: 0, data: b"data"[..].into(), mtime: Default::default() };
    let mut frame = Primary::frame(&op, primary.seq + 1);
    let middle = frame.len() - 2;
    frame[middle] ^= 4;
    primary.writer.write_all(&frame).unwrap();
    assert_eq!(primary.receive(), None);
    lab.until("told", |status| status.error.as_ref().is_some_and(|error| error.contains("checksum")));
    let mut again = reconnect(&lab, &primary);
    model.write(&mut again, Path::new("f"), 0, b"data");
    again.settle();
    assert_equal(&lab);
}

#[test]
fn an_operation_out_of_order_drops_the_connection() {
    let lab = Lab::new();
    let (mut primary, _) = in_sync(&lab);
    primary.seq += 1;
    primary.send(&Op::SyncAll);
    assert_eq!(primary.receive(), None);
}

#[test]
fn a_new_connection_takes_over_from_a_dead_one() {
    let lab = Lab::new();
    let (mut primary, mut model) = in_sync(&lab);
    let mut again = reconnect(&lab, &primary);
    model.create(&mut again, Path::new("f"), FileType::RegularFile);
    again.settle();
    assert_equal(&lab);
    primary.send(&Op::SyncAll);
    assert_eq!(primary.receive(), None);
}

#[test]
fn a_restarted_secondary_has_nothing_to_resume() {
    let mut lab = Lab::new();
    let (primary, _) = in_sync(&lab);
    lab.start();
    let (mut again, state) = lab.connect();
    assert_eq!((state.stream, state.in_sync), (None, false));
    again.stream = primary.stream;
    assert_eq!(code(lab.begin(&mut again, BeginKind::Resume)), RefusalCode::NotResumable);
}

fn hand_over(lab: &Lab) -> (Primary, Model) {
    let (mut primary, model) = in_sync(lab);
    let seq = primary.seq;
    primary.say(&Message::Token { seq, token: "t1".to_owned() });
    assert_eq!(primary.receive(), Some(Message::TokenKept { token: "t1".to_owned() }));
    (primary, model)
}

#[test]
fn a_token_lets_the_roles_change_without_a_resynchronisation() {
    let mut lab = Lab::new();
    let (primary, _) = hand_over(&lab);
    drop(primary);
    let stopped = lab.secondary.take().unwrap().stop();
    assert!(stopped.promotable);
    assert_eq!(stopped.token.as_deref(), Some("t1"));
    // A new process, as secondary again (the roles did not change after all).
    lab.start();
    let (mut primary, state) = lab.connect();
    assert_eq!(state.record.unwrap().token.as_deref(), Some("t1"));
    lab.begin(&mut primary, BeginKind::Unchanged { token: "t1".to_owned() }).unwrap();
    lab.until("in sync", |status| status.in_sync);
    primary.run(&Op::BindRoot { oid: 1, volume: 0 });
    assert!(lab.store.get().unwrap().token.is_some(), "talking about objects changes nothing");
    let mut model = Model::new(&lab.source());
    model.create(&mut primary, Path::new("f"), FileType::RegularFile);
    primary.settle();
    assert_eq!(lab.store.get().unwrap().token, None);
    assert_equal(&lab);
}

#[test]
fn another_token_is_not_believed() {
    let lab = Lab::new();
    let (_, _) = hand_over(&lab);
    let (mut primary, _) = lab.connect();
    assert_eq!(
        code(lab.begin(&mut primary, BeginKind::Unchanged { token: "t2".to_owned() })),
        RefusalCode::NotResumable
    );
}

#[test]
fn a_secondary_is_promotable_only_once_in_sync() {
    let mut lab = Lab::new();
    let mut primary = lab.full();
    let record = lab.store.get().unwrap();
    assert!(!record.consistent, "durable before the first operation");
    primary.run(&Op::BindRoot { oid: 1, volume: 0 });
    let stopped = lab.secondary.take().unwrap().stop();
    assert!(!stopped.promotable, "{stopped:?}");
    assert!(stopped.why.contains("resynchronisation"));
}

#[test]
fn the_generation_follows_the_primary_only_with_sync_done() {
    let lab = Lab::new();
    let mut primary = lab.full();
    primary.run(&Op::BindRoot { oid: 1, volume: 0 });
    assert_ne!(lab.store.get().unwrap().generation, lab.primary.generation);
    primary.run(&Op::SyncDone { lineage: lab.lineage() });
    let record = lab.store.get().unwrap();
    assert_eq!(record.generation, lab.primary.generation);
    assert!(record.consistent && !record.alone);
}

#[test]
fn a_replaced_disk_is_refused() {
    let mut lab = Lab::new();
    drop(in_sync(&lab));
    lab.secondary = None;
    std::fs::remove_dir_all(lab.backing()).unwrap();
    std::fs::create_dir(lab.backing()).unwrap();
    lab.start();
    let (mut primary, _) = lab.connect();
    assert_eq!(code(lab.begin(&mut primary, BeginKind::Full { discard: None })), RefusalCode::Unmarked);
}

#[test]
fn newer_data_are_not_overwritten_without_a_word() {
    let lab = Lab::new();
    drop(in_sync(&lab));
    let mine = lab.store.update(|record| record.begin_generation()).unwrap();
    let (mut primary, _) = lab.connect();
    assert_eq!(code(lab.begin(&mut primary, BeginKind::Full { discard: None })), RefusalCode::Diverged);
    assert_eq!(lab.status().verdict, Some(Verdict::Ahead));
    let (mut primary, _) = lab.connect();
    lab.begin(&mut primary, BeginKind::Full { discard: Some(mine.generation) }).unwrap();
    assert!(lab.store.get().unwrap().discarding.is_some());
}

#[test]
fn a_silent_primary_is_dropped_and_a_living_one_hears_keepalives() {
    let mut lab = Lab::new();
    lab.secondary = None;
    let mut config = lab.config();
    config.peer_timeout = Duration::from_millis(200);
    lab.secondary = Some(
        _mirrorfs::stream::secondary::Secondary::start(config, lab.store.clone(), None, std::sync::Arc::new(|| ()))
            .unwrap(),
    );
    let mut primary = lab.full();
    primary.run(&Op::BindRoot { oid: 1, volume: 0 });
    assert!(lab.status().connected);
    let mut keepalives = 0;
    while primary.reader.next_frame().is_ok() {
        keepalives += 1;
    }
    assert!(keepalives >= 2, "{keepalives}");
    lab.until("dropped", |status| !status.connected);
}
