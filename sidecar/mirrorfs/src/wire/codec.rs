//! Operations as bytes: one byte that says which, then its fields in order of declaration.

use std::borrow::Cow;

use super::WireError;
use super::frame::{Kind, append_frame};
use crate::op::{CHECK_BLOCK, CHECK_RANGE, Lineage, Meta, Oid, Op, Place, SyncEntry, Time};

/// Append the operation as a frame; it still needs its position ([`super::seal`]). Returns where the frame starts.
pub fn encode_op(buffer: &mut Vec<u8>, op: &Op<'_>) -> usize {
    append_frame(buffer, Kind::Op, |buffer| put_op(buffer, op))
}

/// Bytes of the smallest directory entry: a name of one byte, no attributes, no target.
const LEAST_ENTRY: usize = 61;

fn put_op(b: &mut Vec<u8>, op: &Op<'_>) {
    match op {
        Op::Bind { oid, at } => {
            tag(b, 1, *oid);
            put_place(b, at);
        }
        Op::BindRoot { oid, volume } => {
            tag(b, 2, *oid);
            put_u32(b, *volume);
        }
        Op::Forget { oid } => tag(b, 3, *oid),
        Op::Create { oid, at, meta, dir_mtime } => {
            tag(b, 4, *oid);
            put_place(b, at);
            put_meta(b, meta);
            put_time(b, *dir_mtime);
        }
        Op::Mkdir { oid, at, meta, dir_mtime } => {
            tag(b, 5, *oid);
            put_place(b, at);
            put_meta(b, meta);
            put_time(b, *dir_mtime);
        }
        Op::Symlink { oid, at, target, meta, dir_mtime } => {
            tag(b, 6, *oid);
            put_place(b, at);
            put_bytes(b, target);
            put_meta(b, meta);
            put_time(b, *dir_mtime);
        }
        Op::Tmpfile { oid, parent, meta } => {
            tag(b, 7, *oid);
            put_u64(b, *parent);
            put_meta(b, meta);
        }
        Op::Link { oid, at, dir_mtime } => {
            tag(b, 8, *oid);
            put_place(b, at);
            put_time(b, *dir_mtime);
        }
        Op::Unlink { at, keep, dir_mtime } => {
            tag(b, 9, *keep);
            put_place(b, at);
            put_time(b, *dir_mtime);
        }
        Op::Rmdir { at, dir_mtime } => {
            b.push(10);
            put_place(b, at);
            put_time(b, *dir_mtime);
        }
        Op::Rename { from, to, flags, keep, from_mtime, to_mtime } => {
            tag(b, 11, *keep);
            put_place(b, from);
            put_place(b, to);
            put_u32(b, *flags);
            put_time(b, *from_mtime);
            put_time(b, *to_mtime);
        }
        Op::Write { oid, offset, data, mtime } => {
            b.reserve(64 + data.len());
            tag(b, 12, *oid);
            put_u64(b, *offset);
            put_time(b, *mtime);
            put_bytes(b, data);
        }
        Op::Truncate { oid, size, mtime } => {
            tag(b, 13, *oid);
            put_u64(b, *size);
            put_time(b, *mtime);
        }
        Op::Fallocate { oid, mode, offset, len, mtime } => {
            tag(b, 14, *oid);
            put_u32(b, *mode);
            put_u64(b, *offset);
            put_u64(b, *len);
            put_time(b, *mtime);
        }
        Op::Chmod { oid, mode } => {
            tag(b, 15, *oid);
            put_u32(b, *mode);
        }
        Op::Chown { oid, uid, gid, mode } => {
            tag(b, 16, *oid);
            put_u32(b, *uid);
            put_u32(b, *gid);
            put_u32(b, *mode);
        }
        Op::Mtime { oid, mtime } => {
            tag(b, 17, *oid);
            put_time(b, *mtime);
        }
        Op::SetXattr { oid, name, value, mode } => {
            tag(b, 18, *oid);
            put_bytes(b, name);
            put_bytes(b, value);
            put_u32(b, *mode);
        }
        Op::RemoveXattr { oid, name, mode } => {
            tag(b, 19, *oid);
            put_bytes(b, name);
            put_u32(b, *mode);
        }
        Op::Fsync { oid, data_only } => {
            tag(b, 20, *oid);
            b.push(u8::from(*data_only));
        }
        Op::SyncAll => b.push(21),
        Op::SyncDir { oid, meta, entries, more } => {
            tag(b, 22, *oid);
            put_meta(b, meta);
            b.push(u8::from(*more));
            put_u32(b, u32::try_from(entries.len()).unwrap_or(u32::MAX));
            for entry in entries {
                put_bytes(b, &entry.name);
                put_u64(b, entry.oid);
                put_meta(b, &entry.meta);
                put_bytes(b, &entry.target);
                put_u64(b, entry.size);
            }
        }
        Op::SyncKept { oid, names } => {
            tag(b, 29, *oid);
            put_u32(b, u32::try_from(names.len()).unwrap_or(u32::MAX));
            for name in names {
                put_bytes(b, name);
            }
        }
        Op::SyncSize { oid, size } => {
            tag(b, 23, *oid);
            put_u64(b, *size);
        }
        Op::SyncBlock { oid, offset, data } => {
            b.reserve(64 + data.len());
            tag(b, 24, *oid);
            put_u64(b, *offset);
            put_bytes(b, data);
        }
        Op::SyncHole { oid, offset, len } => {
            tag(b, 25, *oid);
            put_u64(b, *offset);
            put_u64(b, *len);
        }
        Op::SyncPrealloc { oid, offset, len } => {
            tag(b, 28, *oid);
            put_u64(b, *offset);
            put_u64(b, *len);
        }
        Op::SyncMeta { oid, meta } => {
            tag(b, 26, *oid);
            put_meta(b, meta);
        }
        Op::SyncDone { lineage } => {
            b.push(27);
            put_bytes(b, lineage.generation.as_bytes());
            put_u32(b, u32::try_from(lineage.history.len()).unwrap_or(u32::MAX));
            for generation in &lineage.history {
                put_bytes(b, generation.as_bytes());
            }
        }
        Op::CheckBegin { run } => tag(b, 30, *run),
        Op::CheckDir { oid, entries, more } => {
            tag(b, 31, *oid);
            b.push(u8::from(*more));
            put_u32(b, u32::try_from(entries.len()).unwrap_or(u32::MAX));
            for (name, kind) in entries {
                put_bytes(b, name);
                put_u32(b, *kind);
            }
        }
        Op::CheckMeta { oid, meta, size, target, links } => {
            tag(b, 32, *oid);
            put_meta(b, meta);
            put_u64(b, *size);
            put_bytes(b, target);
            put_u32(b, *links);
        }
        Op::CheckBlocks { oid, offset, len, sums } => {
            tag(b, 33, *oid);
            put_u64(b, *offset);
            put_u64(b, *len);
            put_u32(b, u32::try_from(sums.len()).unwrap_or(u32::MAX));
            for sum in sums {
                b.extend_from_slice(sum);
            }
        }
    }
}

/// Decode the payload of an operation's frame.
pub fn decode_op(payload: &[u8]) -> Result<Op<'_>, WireError> {
    let mut r = Reader::new(payload, "operation");
    let op = match r.u8()? {
        1 => Op::Bind { oid: r.u64()?, at: r.place()? },
        2 => Op::BindRoot { oid: r.u64()?, volume: r.u32()? },
        3 => Op::Forget { oid: r.u64()? },
        4 => Op::Create { oid: r.u64()?, at: r.place()?, meta: r.meta()?, dir_mtime: r.time()? },
        5 => Op::Mkdir { oid: r.u64()?, at: r.place()?, meta: r.meta()?, dir_mtime: r.time()? },
        6 => Op::Symlink {
            oid: r.u64()?,
            at: r.place()?,
            target: r.bytes()?.to_vec(),
            meta: r.meta()?,
            dir_mtime: r.time()?,
        },
        7 => Op::Tmpfile { oid: r.u64()?, parent: r.u64()?, meta: r.meta()? },
        8 => Op::Link { oid: r.u64()?, at: r.place()?, dir_mtime: r.time()? },
        9 => Op::Unlink { keep: r.u64()?, at: r.place()?, dir_mtime: r.time()? },
        10 => Op::Rmdir { at: r.place()?, dir_mtime: r.time()? },
        11 => Op::Rename {
            keep: r.u64()?,
            from: r.place()?,
            to: r.place()?,
            flags: r.u32()?,
            from_mtime: r.time()?,
            to_mtime: r.time()?,
        },
        12 => Op::Write { oid: r.u64()?, offset: r.u64()?, mtime: r.time()?, data: Cow::Borrowed(r.bytes()?) },
        13 => Op::Truncate { oid: r.u64()?, size: r.u64()?, mtime: r.time()? },
        14 => Op::Fallocate { oid: r.u64()?, mode: r.u32()?, offset: r.u64()?, len: r.u64()?, mtime: r.time()? },
        15 => Op::Chmod { oid: r.u64()?, mode: r.u32()? },
        16 => Op::Chown { oid: r.u64()?, uid: r.u32()?, gid: r.u32()?, mode: r.u32()? },
        17 => Op::Mtime { oid: r.u64()?, mtime: r.time()? },
        18 => Op::SetXattr { oid: r.u64()?, name: r.bytes()?.to_vec(), value: r.bytes()?.to_vec(), mode: r.u32()? },
        19 => Op::RemoveXattr { oid: r.u64()?, name: r.bytes()?.to_vec(), mode: r.u32()? },
        20 => Op::Fsync { oid: r.u64()?, data_only: r.u8()? != 0 },
        21 => Op::SyncAll,
        22 => {
            let (oid, meta, more) = (r.u64()?, r.meta()?, r.u8()? != 0);
            let count = r.count(LEAST_ENTRY)?;
            let entries = (0..count).map(|_| r.entry()).collect::<Result<_, _>>()?;
            Op::SyncDir { oid, meta, entries, more }
        }
        23 => Op::SyncSize { oid: r.u64()?, size: r.u64()? },
        24 => Op::SyncBlock { oid: r.u64()?, offset: r.u64()?, data: Cow::Borrowed(r.bytes()?) },
        25 => Op::SyncHole { oid: r.u64()?, offset: r.u64()?, len: r.u64()? },
        26 => Op::SyncMeta { oid: r.u64()?, meta: r.meta()? },
        27 => {
            let generation = r.text()?;
            let count = r.count(4)?;
            let history = (0..count).map(|_| r.text()).collect::<Result<_, _>>()?;
            Op::SyncDone { lineage: Lineage { generation, history } }
        }
        29 => {
            let oid = r.u64()?;
            let count = r.count(5)?;
            Op::SyncKept { oid, names: (0..count).map(|_| r.name()).collect::<Result<_, _>>()? }
        }
        28 => Op::SyncPrealloc { oid: r.u64()?, offset: r.u64()?, len: r.u64()? },
        30 => Op::CheckBegin { run: r.u64()? },
        31 => {
            let (oid, more) = (r.u64()?, r.u8()? != 0);
            let count = r.count(9)?;
            let entries = (0..count).map(|_| Ok((r.name()?, r.u32()?))).collect::<Result<_, WireError>>()?;
            Op::CheckDir { oid, entries, more }
        }
        32 => Op::CheckMeta {
            oid: r.u64()?,
            meta: r.meta()?,
            size: r.u64()?,
            target: r.bytes()?.to_vec(),
            links: r.u32()?,
        },
        33 => {
            let (oid, offset, len) = (r.u64()?, r.u64()?, r.u64()?);
            let count = r.count(16)?;
            let sums = (0..count).map(|_| r.array()).collect::<Result<Vec<_>, _>>()?;
            // What the sums are of must be what is read.
            if offset.checked_add(len).is_none()
                || offset % CHECK_BLOCK != 0
                || (count > 0 && (len > CHECK_RANGE || len.div_ceil(CHECK_BLOCK) != count as u64))
            {
                return Err(WireError::Malformed { what: "sums of a file's blocks" });
            }
            Op::CheckBlocks { oid, offset, len, sums }
        }
        _ => {
            return Err(WireError::Malformed { what: "operation's tag" });
        }
    };
    r.end()?;
    Ok(op)
}

fn tag(b: &mut Vec<u8>, tag: u8, oid: Oid) {
    b.push(tag);
    put_u64(b, oid);
}

pub(super) fn put_u32(b: &mut Vec<u8>, value: u32) {
    b.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u64(b: &mut Vec<u8>, value: u64) {
    b.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_bytes(b: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(b, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    b.extend_from_slice(bytes);
}

fn put_time(b: &mut Vec<u8>, time: Time) {
    b.extend_from_slice(&time.sec.to_le_bytes());
    put_u32(b, time.nsec);
}

fn put_place(b: &mut Vec<u8>, place: &Place) {
    put_u64(b, place.parent);
    put_bytes(b, &place.name);
}

fn put_meta(b: &mut Vec<u8>, meta: &Meta) {
    put_u32(b, meta.mode);
    put_u32(b, meta.uid);
    put_u32(b, meta.gid);
    put_time(b, meta.mtime);
    put_u64(b, meta.rdev);
    put_u32(b, u32::try_from(meta.xattrs.len()).unwrap_or(u32::MAX));
    for (name, value) in &meta.xattrs {
        put_bytes(b, name);
        put_bytes(b, value);
    }
}

/// Takes fields from a payload; whatever is missing, too long or absurd is [`WireError::Malformed`].
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(payload: &'a [u8], what: &'static str) -> Self {
        Self { rest: payload, what }
    }

    fn malformed(&self) -> WireError {
        WireError::Malformed { what: self.what }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A number of elements of at least `least` bytes each: never more than the payload can hold, so that a damaged
    /// count cannot make us allocate.
    pub(super) fn count(&mut self, least: usize) -> Result<usize, WireError> {
        let count = self.u32()? as usize;
        if count.checked_mul(least).is_none_or(|bytes| bytes > self.rest.len()) {
            return Err(self.malformed());
        }
        Ok(count)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    pub(super) fn text(&mut self) -> Result<String, WireError> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| self.malformed())
    }

    /// All that is left, as text for people.
    pub(super) fn rest_text(&mut self) -> String {
        String::from_utf8_lossy(std::mem::take(&mut self.rest)).into_owned()
    }

    fn time(&mut self) -> Result<Time, WireError> {
        let time = Time { sec: i64::from_le_bytes(self.array()?), nsec: self.u32()? };
        if time.nsec >= 1_000_000_000 { Err(self.malformed()) } else { Ok(time) }
    }

    /// A name that could leave its directory never gets past here.
    pub(super) fn name(&mut self) -> Result<Vec<u8>, WireError> {
        let name = self.bytes()?;
        let bad = name.is_empty() || name.len() > 255 || name == b"." || name == b"..";
        if bad || name.iter().any(|&byte| byte == b'/' || byte == 0) {
            return Err(WireError::Malformed { what: "file name" });
        }
        Ok(name.to_vec())
    }

    /// A path within a volume; empty: its root.
    pub(super) fn path(&mut self) -> Result<Vec<u8>, WireError> {
        let path = self.bytes()?;
        let good = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
        if !path.is_empty() && !path.split(|&byte| byte == b'/').all(good) {
            return Err(WireError::Malformed { what: "path" });
        }
        Ok(path.to_vec())
    }

    fn place(&mut self) -> Result<Place, WireError> {
        Ok(Place { parent: self.u64()?, name: self.name()? })
    }

    fn meta(&mut self) -> Result<Meta, WireError> {
        let (mode, uid, gid) = (self.u32()?, self.u32()?, self.u32()?);
        let (mtime, rdev) = (self.time()?, self.u64()?);
        let count = self.count(8)?;
        let mut xattrs = Vec::with_capacity(count);
        for _ in 0..count {
            xattrs.push((self.bytes()?.to_vec(), self.bytes()?.to_vec()));
        }
        Ok(Meta { mode, uid, gid, mtime, rdev, xattrs })
    }

    fn entry(&mut self) -> Result<SyncEntry, WireError> {
        Ok(SyncEntry {
            name: self.name()?,
            oid: self.u64()?,
            meta: self.meta()?,
            target: self.bytes()?.to_vec(),
            size: self.u64()?,
        })
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }
}
