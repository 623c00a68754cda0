//! One connection to the secondary, and its end.

use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::wire::{FrameReader, WireError};

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    #[error("the other side closed the connection")]
    Closed,
    #[error("nothing heard from the peer for too long")]
    Silent,
    #[error("sending: {0}")]
    Sending(io::Error),
    #[error("receiving: {0}")]
    Receiving(WireError),
    #[error("{0}")]
    Ended(String),
}

impl From<WireError> for Why {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Closed => Self::Closed,
            WireError::Io(error) if error.kind() == io::ErrorKind::ConnectionReset => Self::Closed,
            error if error.is_timeout() => Self::Silent,
            error => Self::Receiving(error),
        }
    }
}

/// One connection to the secondary.
pub struct Connection {
    socket: TcpStream,
    pub(super) reader: Mutex<FrameReader<TcpStream>>,
    pub(super) writer: Mutex<TcpStream>,
}

impl Connection {
    /// `reader` may hold frames that arrived with the end of the handshake.
    pub fn new(socket: TcpStream, reader: FrameReader<TcpStream>) -> io::Result<Self> {
        let writer = Mutex::new(socket.try_clone()?);
        Ok(Self { socket, reader: Mutex::new(reader), writer })
    }

    /// The socket, for `poll(2)`.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(super) fn shutdown(&self) {
        // It may be closed already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Write all of them, in order.
pub(super) fn write_frames(writer: &mut TcpStream, frames: &[Arc<Vec<u8>>]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        match writer.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut rest, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
