//! Frames, operations, messages: what is encoded comes back, what is damaged is refused, nothing panics.

use std::borrow::Cow;
use std::io::Read;

use _mirrorfs::op::{BlockSum, CHECK_BLOCK, Difference, Finding, Lineage, Meta, Op, Place, SyncEntry, Time};
use _mirrorfs::wire::{FrameReader, Message, WireError, decode_message, decode_op, encode_message, encode_op, seal};
use proptest::collection::vec;
use proptest::prelude::*;

/// Gives its bytes in pieces of odd sizes, as a network does.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1 = self.1 % 37 + 1;
        let len = self.1.min(buffer.len()).min(self.0.len());
        buffer[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        Ok(len)
    }
}

fn time() -> impl Strategy<Value = Time> {
    (any::<i64>(), 0..1_000_000_000_u32).prop_map(|(sec, nsec)| Time { sec, nsec })
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>().prop_filter("a name's byte", |byte| *byte != 0 && *byte != b'/'), 1..=255)
        .prop_filter("a name", |name| name != b"." && name != b"..")
}

fn place() -> impl Strategy<Value = Place> {
    (any::<u64>(), name()).prop_map(|(parent, name)| Place { parent, name })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..300)
}

fn meta() -> impl Strategy<Value = Meta> {
    (any::<(u32, u32, u32, u64)>(), time(), vec((bytes(), bytes()), 0..4))
        .prop_map(|((mode, uid, gid, rdev), mtime, xattrs)| Meta { mode, uid, gid, mtime, rdev, xattrs })
}

fn entry() -> impl Strategy<Value = SyncEntry> {
    (name(), any::<(u64, u64)>(), meta(), bytes()).prop_map(|(name, (oid, size), meta, target)| SyncEntry {
        name,
        oid,
        meta,
        target,
        size,
    })
}

fn op() -> impl Strategy<Value = Op<'static>> {
    let numbers = any::<(u64, u64, u64, u32, u32)>();
    let object = (numbers, time(), bytes(), bytes()).prop_flat_map(|((oid, offset, len, a, b), mtime, x, y)| {
        let data: Cow<'static, [u8]> = Cow::Owned(x.clone());
        prop_oneof![
            Just(Op::BindRoot { oid, volume: a }),
            Just(Op::Forget { oid }),
            Just(Op::Write { oid, offset, data: data.clone(), mtime }),
            Just(Op::Truncate { oid, size: len, mtime }),
            Just(Op::Fallocate { oid, mode: a, offset, len, mtime }),
            Just(Op::Chmod { oid, mode: a }),
            Just(Op::Chown { oid, uid: a, gid: b, mode: a ^ b }),
            Just(Op::Mtime { oid, mtime }),
            Just(Op::SetXattr { oid, name: x.clone(), value: y, mode: a }),
            Just(Op::RemoveXattr { oid, name: x, mode: b }),
            Just(Op::Fsync { oid, data_only: a % 2 == 0 }),
            Just(Op::SyncAll),
            Just(Op::SyncSize { oid, size: len }),
            Just(Op::SyncBlock { oid, offset, data }),
            Just(Op::SyncHole { oid, offset, len }),
            Just(Op::SyncPrealloc { oid, offset, len }),
        ]
    });
    let names = (place(), place(), any::<(u64, u32)>(), meta(), time(), time(), bytes()).prop_flat_map(
        |(at, to, (oid, flags), meta, one, two, target)| {
            prop_oneof![
                Just(Op::Bind { oid, at: at.clone() }),
                Just(Op::Create { oid, at: at.clone(), meta: meta.clone(), dir_mtime: one }),
                Just(Op::Mkdir { oid, at: at.clone(), meta: meta.clone(), dir_mtime: one }),
                Just(Op::Symlink { oid, at: at.clone(), target, meta: meta.clone(), dir_mtime: one }),
                Just(Op::Tmpfile { oid, parent: at.parent, meta: meta.clone() }),
                Just(Op::Link { oid, at: at.clone(), dir_mtime: one }),
                Just(Op::Unlink { at: at.clone(), keep: oid, dir_mtime: one }),
                Just(Op::Rmdir { at: at.clone(), dir_mtime: one }),
                Just(Op::Rename { from: at, to, flags, keep: oid, from_mtime: one, to_mtime: two }),
                Just(Op::SyncMeta { oid, meta }),
            ]
        },
    );
    let sync = prop_oneof![
        (any::<(u64, bool)>(), meta(), vec(entry(), 0..5)).prop_map(|((oid, more), meta, entries)| Op::SyncDir {
            oid,
            meta,
            entries,
            more
        }),
        (".{0,40}", vec(".{0,40}", 0..4))
            .prop_map(|(generation, history)| Op::SyncDone { lineage: Lineage { generation, history } }),
    ];
    let check = prop_oneof![
        any::<u64>().prop_map(|run| Op::CheckBegin { run }),
        (any::<(u64, bool)>(), vec((name(), any::<u32>()), 0..5)).prop_map(|((oid, more), entries)| Op::CheckDir {
            oid,
            entries,
            more
        }),
        (any::<(u64, u64, u32)>(), meta(), bytes()).prop_map(|((oid, size, links), meta, target)| Op::CheckMeta {
            oid,
            meta,
            size,
            target,
            links
        }),
        (any::<(u64, u32)>(), vec(any::<[u8; 16]>(), 0..64)).prop_map(|((oid, block), sums)| Op::CheckBlocks {
            oid,
            offset: u64::from(block) * CHECK_BLOCK,
            len: sums.len() as u64 * CHECK_BLOCK,
            sums
        }),
    ];
    prop_oneof![object, names, sync, check]
}

fn finding() -> impl Strategy<Value = Finding> {
    let what = (1..=8_u8).prop_map(|byte| Difference::from_byte(byte).unwrap());
    (any::<(u64, u64, u64)>(), what, bytes(), ".{0,60}").prop_map(|((oid, offset, len), what, name, detail)| Finding {
        oid,
        what,
        offset,
        len,
        name,
        detail,
    })
}

fn message() -> impl Strategy<Value = Message> {
    let sum = prop_oneof![Just(BlockSum::Hole), any::<[u8; 16]>().prop_map(BlockSum::Data)];
    prop_oneof![
        any::<(u64, u64)>().prop_map(|(applied, durable)| Message::Ack { applied, durable }),
        any::<u64>().prop_map(|seq| Message::Flushed { seq }),
        Just(Message::Keepalive),
        (any::<u64>(), ".{0,60}").prop_map(|(seq, reason)| Message::Failed { seq, reason }),
        (any::<u64>(), ".{0,60}").prop_map(|(seq, token)| Message::Token { seq, token }),
        ".{0,60}".prop_map(|token| Message::TokenKept { token }),
        ".{0,60}".prop_map(|reason| Message::Bye { reason }),
        any::<(u64, u64, u64, u64)>().prop_map(|(id, oid, offset, len)| Message::SumsRequest { id, oid, offset, len }),
        (any::<(u64, bool, u64)>(), vec(sum, 0..300)).prop_map(|((id, known, size), sums)| Message::Sums {
            id,
            known,
            size,
            sums
        }),
        (any::<u64>(), vec(any::<u64>(), 0..300)).prop_map(|(seq, sizes)| Message::DirState { seq, sizes }),
        any::<(u64, u64)>().prop_map(|(id, from)| Message::FindingsRequest { id, from }),
        (any::<(u64, u64, u64)>(), vec(finding(), 0..5)).prop_map(|((id, run, total), findings)| Message::Findings {
            id,
            run,
            total,
            findings
        }),
    ]
}

proptest! {
    #[test]
    fn operations_come_back_as_they_were(ops in vec((op(), any::<u64>()), 1..6)) {
        let mut sent = Vec::new();
        for (op, seq) in &ops {
            let start = encode_op(&mut sent, op);
            seal(&mut sent[start..], *seq);
        }
        let mut reader = FrameReader::new(Pieces(&sent, 0));
        for (op, seq) in &ops {
            let frame = reader.next_frame().unwrap();
            prop_assert_eq!(frame.seq, *seq);
            prop_assert_eq!(&decode_op(frame.payload).unwrap(), op);
        }
        prop_assert!(matches!(reader.next_frame(), Err(WireError::Closed)));
    }

    #[test]
    fn messages_come_back_as_they_were(messages in vec(message(), 1..6)) {
        let mut sent = Vec::new();
        for message in &messages {
            encode_message(&mut sent, message);
        }
        let mut reader = FrameReader::new(Pieces(&sent, 0));
        for message in &messages {
            prop_assert_eq!(&decode_message(reader.next_frame().unwrap()).unwrap(), message);
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed(op in op(), seq in any::<u64>(), bit in any::<prop::sample::Index>()) {
        let mut sent = Vec::new();
        encode_op(&mut sent, &op);
        seal(&mut sent, seq);
        let bit = bit.index(sent.len() * 8);
        sent[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(FrameReader::new(Pieces(&sent, 0)).next_frame().is_err());
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(tag in 0..40_u8, rest in vec(any::<u8>(), 0..200)) {
        let mut payload = vec![tag];
        payload.extend(rest);
        let _ = decode_op(&payload);
    }
}

#[test]
fn a_name_that_leaves_its_directory_is_refused() {
    for name in ["", ".", "..", "a/b", "/etc/passwd", "nul\0"] {
        let mut frame = Vec::new();
        encode_op(&mut frame, &Op::Bind { oid: 1, at: Place { parent: 1, name: name.into() } });
        seal(&mut frame, 1);
        let mut reader = FrameReader::new(&frame[..]);
        assert!(decode_op(reader.next_frame().unwrap().payload).is_err(), "{name:?}");
    }
}

#[test]
fn a_damaged_length_is_found_before_that_much_is_waited_for() {
    let mut frame = Vec::new();
    encode_op(&mut frame, &Op::SyncAll);
    seal(&mut frame, 1);
    frame[2] ^= 0x40;
    // More would be waited for than is there: that would be `Closed`.
    assert!(matches!(FrameReader::new(&frame[..]).next_frame(), Err(WireError::Checksum { .. })));
}

#[test]
fn an_absurd_length_is_refused_before_it_is_allocated() {
    let mut frame = Vec::new();
    encode_op(&mut frame, &Op::SyncAll);
    seal(&mut frame, 1);
    frame[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(FrameReader::new(&frame[..]).next_frame(), Err(WireError::TooLong(_))));
}
