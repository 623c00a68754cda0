//! Frames: length, kind, position, checksum.
//!
//! ```text
//! offset  0  u32  length of the payload
//!         4  u8   kind
//!         5  u24  CRC32C of the 5 bytes before, without its highest byte
//!         8  u64  position in the stream (operations), else as the kind says
//!        16  u32  CRC32C of the payload followed by the 16 bytes above
//!        20       payload
//! ```
//! Length and kind have a checksum of their own: a damaged length must be found before that many bytes are waited for.
//! The payload comes first in the other checksum so that a frame can be built, copied and checksummed before it is known
//! which position it gets: [`seal`] then costs the same for any length.

use std::io::Read;

use super::WireError;
use crate::op::Seq;

/// Bytes before the payload.
pub const HEADER: usize = 20;
/// Longest payload. Writes are at most 1 MiB; directories are split by `SyncDir`'s `more`; what remains is one
/// entry's extended attributes.
pub const MAX_PAYLOAD: usize = 16 << 20;
const CHECKED: usize = 16;
/// Bytes that tell how long the frame is, and of which kind.
const HEAD: usize = 5;
/// Longest payload before the peer has proved itself.
pub const MAX_HANDSHAKE: usize = 64 << 10;
const FIRST_BUFFER: usize = 256 << 10;
const KEPT_BUFFER: usize = 2 << 20;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// An operation; `codec.rs`.
    Op = 1,
    // Messages of a running session; `message.rs`.
    Ack = 2,
    Flushed = 3,
    Keepalive = 4,
    Failed = 5,
    Token = 6,
    TokenKept = 7,
    Bye = 8,
    SumsRequest = 9,
    Sums = 10,
    DirState = 11,
    FineRequest = 12,
    FindingsRequest = 13,
    Findings = 14,
    // The handshake; `handshake.rs`.
    Hello = 32,
    Challenge = 33,
    Proof = 34,
    State = 35,
    Begin = 36,
    Begun = 37,
    Refused = 38,
    Changes = 39,
}

impl Kind {
    fn from_byte(byte: u8) -> Result<Self, WireError> {
        Ok(match byte {
            1 => Self::Op,
            2 => Self::Ack,
            3 => Self::Flushed,
            4 => Self::Keepalive,
            5 => Self::Failed,
            6 => Self::Token,
            7 => Self::TokenKept,
            8 => Self::Bye,
            9 => Self::SumsRequest,
            10 => Self::Sums,
            11 => Self::DirState,
            12 => Self::FineRequest,
            13 => Self::FindingsRequest,
            14 => Self::Findings,
            32 => Self::Hello,
            33 => Self::Challenge,
            34 => Self::Proof,
            35 => Self::State,
            36 => Self::Begin,
            37 => Self::Begun,
            38 => Self::Refused,
            39 => Self::Changes,
            other => return Err(WireError::Unexpected(other)),
        })
    }
}

/// A received frame; the payload lies in the reader's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub kind: Kind,
    pub seq: Seq,
    pub payload: &'a [u8],
}

/// Append a frame whose payload `fill` writes. It still needs its position: [`seal`].
///
/// Returns where the frame starts in `buffer`.
pub fn append_frame(buffer: &mut Vec<u8>, kind: Kind, fill: impl FnOnce(&mut Vec<u8>)) -> usize {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER]);
    fill(buffer);
    let payload = &buffer[start + HEADER..];
    // What is longer than MAX_PAYLOAD is refused by the reader; our own encoders stay far below.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let crc = crc32c::crc32c(payload);
    buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
    buffer[start + 4] = kind as u8;
    let check = head_check(&buffer[start..]);
    buffer[start + HEAD..start + HEAD + 3].copy_from_slice(&check);
    buffer[start + CHECKED..start + HEADER].copy_from_slice(&crc.to_le_bytes());
    start
}

/// Give a frame made by [`append_frame`] its position and final checksum. Call it once, on exactly that frame.
pub fn seal(frame: &mut [u8], seq: Seq) {
    frame[8..16].copy_from_slice(&seq.to_le_bytes());
    let crc = crc32c::crc32c_append(u32_at(frame, CHECKED), &frame[..CHECKED]);
    frame[CHECKED..HEADER].copy_from_slice(&crc.to_le_bytes());
}

/// A whole frame in one step.
pub fn whole_frame(buffer: &mut Vec<u8>, kind: Kind, seq: Seq, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = append_frame(buffer, kind, fill);
    seal(&mut buffer[start..], seq);
}

/// Checksum of length and kind.
fn head_check(frame: &[u8]) -> [u8; 3] {
    let [a, b, c, _] = crc32c::crc32c(&frame[..HEAD]).to_le_bytes();
    [a, b, c]
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

/// Reads frames from a socket through one buffer.
#[derive(Debug)]
pub struct FrameReader<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    limit: usize,
}

impl<R: Read> FrameReader<R> {
    pub fn new(source: R) -> Self {
        Self { source, buffer: vec![0; FIRST_BUFFER], start: 0, end: 0, limit: MAX_PAYLOAD }
    }

    /// Refuse frames with a longer payload: while the other side may be anybody, it must not make us allocate.
    pub fn set_limit(&mut self, payload: usize) {
        self.limit = payload;
    }

    /// The socket, for its options.
    pub fn source(&self) -> &R {
        &self.source
    }

    /// The next frame, checked. Blocks as long as the source does; a timeout loses nothing of a half-read frame.
    pub fn next_frame(&mut self) -> Result<Frame<'_>, WireError> {
        loop {
            let have = self.end - self.start;
            let need = match self.length()? {
                Some(total) if have >= total => {
                    let start = self.start;
                    self.start += total;
                    return check(&self.buffer[start..start + total]);
                }
                Some(total) => total,
                None => HEADER,
            };
            self.make_room(need);
            let got = self.source.read(&mut self.buffer[self.end..])?;
            if got == 0 {
                return Err(WireError::Closed);
            }
            self.end += got;
        }
    }

    /// A whole further frame has been received already: the next [`Self::next_frame`] does not block.
    pub fn has_buffered(&self) -> bool {
        matches!(self.length(), Ok(Some(total)) if self.end - self.start >= total)
    }

    /// Length of the frame at the start of the buffer, if its header is there.
    fn length(&self) -> Result<Option<usize>, WireError> {
        if self.end - self.start < HEADER {
            return Ok(None);
        }
        let header = &self.buffer[self.start..self.start + HEADER];
        let payload = u32_at(header, 0) as usize;
        if payload > self.limit {
            return Err(WireError::TooLong(payload));
        }
        if header[HEAD..HEAD + 3] != head_check(header) {
            return Err(WireError::Checksum { kind: header[4], seq: u64_at(header, 8) });
        }
        Ok(Some(HEADER + payload))
    }

    fn make_room(&mut self, need: usize) {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.buffer.len() > KEPT_BUFFER && need <= KEPT_BUFFER {
                self.buffer = vec![0; FIRST_BUFFER];
            }
        }
        if self.start + need > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if need > self.buffer.len() {
                self.buffer.resize(need, 0);
            }
        }
    }
}

fn check(frame: &[u8]) -> Result<Frame<'_>, WireError> {
    let seq = u64_at(frame, 8);
    let payload = &frame[HEADER..];
    let crc = crc32c::crc32c_append(crc32c::crc32c(payload), &frame[..CHECKED]);
    if crc != u32_at(frame, CHECKED) {
        return Err(WireError::Checksum { kind: frame[4], seq });
    }
    Ok(Frame { kind: Kind::from_byte(frame[4])?, seq, payload })
}
