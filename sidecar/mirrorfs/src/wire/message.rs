//! Messages of a running session, other than operations.

use super::WireError;
use super::codec::{Reader, put_bytes, put_u32, put_u64};
use super::frame::{Frame, Kind, whole_frame};
use crate::op::{BlockSum, Difference, Finding, Oid, Seq};

/// A message; who sends it stands first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Secondary: every operation up to `applied` is applied (an `Fsync` or `SyncAll` among them only begun), and
    /// everything up to `durable` is on stable storage.
    Ack { applied: Seq, durable: Seq },
    /// Secondary: the `Fsync` or `SyncAll` at `seq` is done.
    Flushed { seq: Seq },
    /// Both: this side is alive. Sent at least each quarter of the peer timeout.
    Keepalive,
    /// Secondary: the operation at `seq` could not be applied (disk full, I/O error); it cannot be promoted any more,
    /// and the connection ends. The next session must be a full resynchronisation.
    Failed { seq: Seq, reason: String },
    /// Primary, at a hand-over, when everything up to `seq` is flushed on both nodes: record the token.
    Token { seq: Seq, token: String },
    /// Secondary: the token is recorded.
    TokenKept { token: String },
    /// Both: an orderly end of the connection.
    Bye { reason: String },
    /// Primary: sums of the blocks of `SUM_BLOCK` bytes in this range (`offset` a multiple of it, at most `SUM_RANGE` bytes).
    SumsRequest { id: u64, oid: Oid, offset: u64, len: u64 },
    /// Primary: the same, of blocks of `FINE_BLOCK` bytes; at most `FINE_RANGE` bytes.
    FineRequest { id: u64, oid: Oid, offset: u64, len: u64 },
    /// Secondary: the answer, and the size of the file there. `known` is false when the object is not bound any more.
    Sums { id: u64, known: bool, size: u64, sums: Vec<BlockSum> },
    /// Secondary, after it applied the `SyncDir` at `seq`: for each of its entries in order, the size in bytes of the
    /// regular file that was there already, else 0. What is 0 needs no sums. Not repeated after a resume.
    DirState { seq: Seq, sizes: Vec<u64> },
    /// Primary: what the verification has found, but for the first `from`.
    FindingsRequest { id: u64, from: u64 },
    /// Secondary: the answer. `run`: of the latest `CheckBegin`; `total`: differences, also those too many to keep.
    Findings { id: u64, run: u64, total: u64, findings: Vec<Finding> },
}

/// Append the message as a whole frame.
pub fn encode_message(buffer: &mut Vec<u8>, message: &Message) {
    match message {
        Message::Ack { applied, durable } => whole_frame(buffer, Kind::Ack, *applied, |b| put_u64(b, *durable)),
        Message::Flushed { seq } => whole_frame(buffer, Kind::Flushed, *seq, |_| ()),
        Message::Keepalive => whole_frame(buffer, Kind::Keepalive, 0, |_| ()),
        Message::Failed { seq, reason } => {
            whole_frame(buffer, Kind::Failed, *seq, |b| b.extend_from_slice(reason.as_bytes()));
        }
        Message::Token { seq, token } => {
            whole_frame(buffer, Kind::Token, *seq, |b| b.extend_from_slice(token.as_bytes()));
        }
        Message::TokenKept { token } => {
            whole_frame(buffer, Kind::TokenKept, 0, |b| b.extend_from_slice(token.as_bytes()));
        }
        Message::Bye { reason } => whole_frame(buffer, Kind::Bye, 0, |b| b.extend_from_slice(reason.as_bytes())),
        Message::SumsRequest { id, oid, offset, len } => whole_frame(buffer, Kind::SumsRequest, *id, |b| {
            put_u64(b, *oid);
            put_u64(b, *offset);
            put_u64(b, *len);
        }),
        Message::FineRequest { id, oid, offset, len } => whole_frame(buffer, Kind::FineRequest, *id, |b| {
            put_u64(b, *oid);
            put_u64(b, *offset);
            put_u64(b, *len);
        }),
        Message::Sums { id, known, size, sums } => whole_frame(buffer, Kind::Sums, *id, |b| {
            b.push(u8::from(*known));
            put_u64(b, *size);
            put_u32(b, u32::try_from(sums.len()).unwrap_or(u32::MAX));
            for sum in sums {
                match sum {
                    BlockSum::Hole => b.push(0),
                    BlockSum::Data(hash) => {
                        b.push(1);
                        b.extend_from_slice(hash);
                    }
                }
            }
        }),
        Message::DirState { seq, sizes } => whole_frame(buffer, Kind::DirState, *seq, |b| {
            put_u32(b, u32::try_from(sizes.len()).unwrap_or(u32::MAX));
            for size in sizes {
                put_u64(b, *size);
            }
        }),
        Message::FindingsRequest { id, from } => {
            whole_frame(buffer, Kind::FindingsRequest, *id, |b| put_u64(b, *from));
        }
        Message::Findings { id, run, total, findings } => whole_frame(buffer, Kind::Findings, *id, |b| {
            put_u64(b, *run);
            put_u64(b, *total);
            put_u32(b, u32::try_from(findings.len()).unwrap_or(u32::MAX));
            for finding in findings {
                put_u64(b, finding.oid);
                b.push(finding.what as u8);
                put_u64(b, finding.offset);
                put_u64(b, finding.len);
                put_bytes(b, &finding.name);
                put_bytes(b, finding.detail.as_bytes());
            }
        }),
    }
}

/// Decode a frame of a running session that is not an operation.
pub fn decode_message(frame: Frame<'_>) -> Result<Message, WireError> {
    let mut reader = Reader::new(frame.payload, "message");
    let message = match frame.kind {
        Kind::Ack => Message::Ack { applied: frame.seq, durable: reader.u64()? },
        Kind::Flushed => Message::Flushed { seq: frame.seq },
        Kind::Keepalive => Message::Keepalive,
        Kind::Failed => Message::Failed { seq: frame.seq, reason: reader.rest_text() },
        Kind::Token => Message::Token { seq: frame.seq, token: reader.rest_text() },
        Kind::TokenKept => Message::TokenKept { token: reader.rest_text() },
        Kind::Bye => Message::Bye { reason: reader.rest_text() },
        Kind::SumsRequest => {
            Message::SumsRequest { id: frame.seq, oid: reader.u64()?, offset: reader.u64()?, len: reader.u64()? }
        }
        Kind::FineRequest => {
            Message::FineRequest { id: frame.seq, oid: reader.u64()?, offset: reader.u64()?, len: reader.u64()? }
        }
        Kind::Sums => {
            let known = reader.u8()? != 0;
            let size = reader.u64()?;
            let count = reader.count(1)?;
            let mut sums = Vec::with_capacity(count);
            for _ in 0..count {
                sums.push(match reader.u8()? {
                    0 => BlockSum::Hole,
                    1 => BlockSum::Data(reader.array()?),
                    _ => return Err(WireError::Malformed { what: "block sum" }),
                });
            }
            Message::Sums { id: frame.seq, known, size, sums }
        }
        Kind::DirState => {
            let count = reader.count(8)?;
            let sizes = (0..count).map(|_| reader.u64()).collect::<Result<_, _>>()?;
            Message::DirState { seq: frame.seq, sizes }
        }
        Kind::FindingsRequest => Message::FindingsRequest { id: frame.seq, from: reader.u64()? },
        Kind::Findings => {
            let (run, total) = (reader.u64()?, reader.u64()?);
            let count = reader.count(33)?;
            let findings = (0..count).map(|_| finding(&mut reader)).collect::<Result<_, _>>()?;
            Message::Findings { id: frame.seq, run, total, findings }
        }
        other => return Err(WireError::Unexpected(other as u8)),
    };
    reader.end()?;
    Ok(message)
}

fn finding(reader: &mut Reader<'_>) -> Result<Finding, WireError> {
    Ok(Finding {
        oid: reader.u64()?,
        what: Difference::from_byte(reader.u8()?).ok_or(WireError::Malformed { what: "difference" })?,
        offset: reader.u64()?,
        len: reader.u64()?,
        name: reader.bytes()?.to_vec(),
        detail: reader.text()?,
    })
}
