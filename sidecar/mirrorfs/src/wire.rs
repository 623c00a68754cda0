//! The protocol between primary and secondary.
//!
//! One TCP connection, dialled by the primary. Everything on it is a frame (`frame.rs`); the handshake (`handshake.rs`)
//! authenticates both sides and settles how the session begins; then operations (`codec.rs`) flow to the secondary and
//! acknowledgements and answers (`message.rs`) come back. Integers are little-endian; byte strings carry a 32-bit length.

pub mod changes;
pub mod codec;
pub mod frame;
pub mod handshake;
pub mod message;

use std::io;

pub use codec::{decode_op, encode_op};
pub use frame::{Frame, FrameReader, Kind, MAX_PAYLOAD, seal};
pub use message::{Message, decode_message, encode_message};

/// Version of the protocol; the two sides must speak the same one.
pub const PROTOCOL: u32 = 2;

/// Why a connection cannot be used any further. All but `Io` and `Closed` mean damage or a foreign program.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    #[error("the other side closed the connection")]
    Closed,
    #[error("frame {kind} at position {seq} does not match its checksum: damaged on the way")]
    Checksum { kind: u8, seq: u64 },
    #[error("frame of {0} bytes, more than the protocol allows")]
    TooLong(usize),
    #[error("malformed {what}")]
    Malformed { what: &'static str },
    #[error("unexpected frame {0}")]
    Unexpected(u8),
}

impl WireError {
    /// Nothing arrived for the socket's read timeout.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Io(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }

    /// The other side's kernel ended the connection: its process closed it, or is gone.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Closed => true,
            Self::Io(error) => matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
            _ => false,
        }
    }
}
