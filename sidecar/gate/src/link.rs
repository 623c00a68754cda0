//! The connection to the sidecar: never blocks, comes back by itself.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::socket::{connect, socket, AddressFamily, SockFlag, SockType, UnixAddr};

use crate::protocol::MAX_LINE;

/// Pause between two attempts to reach the sidecar.
const RETRY: Duration = Duration::from_millis(50);
const CHUNK: usize = 4096;

/// One connection at most, with what has been read and not yet been written.
pub struct Link {
    path: String,
    stream: Option<UnixStream>,
    input: Vec<u8>,
    output: Vec<u8>,
    retry_at: Duration,
    /// A bad line is logged once until a good one has come.
    complained: bool,
}

/// Result of reading.
pub enum Received {
    /// Whole lines, without their newlines.
    Lines(Vec<Vec<u8>>),
    Closed,
}

impl Link {
    pub fn new(path: String) -> Self {
        Link {
            path,
            stream: None,
            input: vec![],
            output: vec![],
            retry_at: Duration::ZERO,
            complained: false,
        }
    }

    pub fn connected(&self) -> bool {
        self.stream.is_some()
    }

    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.stream.as_ref().map(AsFd::as_fd)
    }

    pub fn wants_write(&self) -> bool {
        !self.output.is_empty()
    }

    /// When the next attempt to connect is due.
    pub fn retry_at(&self) -> Option<Duration> {
        (!self.connected()).then_some(self.retry_at)
    }

    /// Tries to connect when due; true when that worked just now. A sidecar that does not
    /// accept must not hold the gate up, for then the lease would not be enforced: a
    /// non-blocking connect(2) fails with EAGAIN instead of waiting.
    pub fn try_connect(&mut self, now: Duration) -> bool {
        if self.connected() || now < self.retry_at {
            return false;
        }
        self.retry_at = now + RETRY;
        let attempt = || -> nix::Result<UnixStream> {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
            connect(fd.as_raw_fd(), &UnixAddr::new(self.path.as_str())?)?;
            Ok(UnixStream::from(fd))
        };
        match attempt() {
            Ok(stream) => {
                self.stream = Some(stream);
                true
            }
            Err(_) => false, // not there yet: what a held gate waits for
        }
    }

    /// Queues a line and writes as much as goes.
    pub fn send(&mut self, line: &str) {
        if self.stream.is_none() {
            return;
        }
        self.output.extend_from_slice(line.as_bytes());
        self.flush();
    }

    /// Writes what is queued. A sidecar that reads nothing for long loses the connection.
    pub fn flush(&mut self) {
        let Some(stream) = self.stream.as_mut() else {
            return;
        };
        while !self.output.is_empty() {
            match stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.output.len() > MAX_LINE {
                        self.close();
                    }
                    return;
                }
                Err(_) => return self.close(),
            }
        }
    }

    /// Reads what is there. At most a few chunks a call: a sidecar that floods the gate must
    /// not keep it from its deadlines.
    pub fn receive(&mut self) -> Received {
        let Some(stream) = self.stream.as_mut() else {
            return Received::Closed;
        };
        let mut lines = vec![];
        let mut chunk = [0u8; CHUNK];
        for _ in 0..(MAX_LINE / CHUNK) {
            match stream.read(&mut chunk) {
                Ok(0) => {
                    self.close();
                    return if lines.is_empty() {
                        Received::Closed
                    } else {
                        Received::Lines(lines)
                    };
                }
                Ok(count) => {
                    self.input.extend_from_slice(&chunk[..count]);
                    while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                        let mut line: Vec<u8> = self.input.drain(..=end).collect();
                        line.pop();
                        lines.push(line);
                    }
                    if self.input.len() >= MAX_LINE {
                        self.reject("a line is longer than 64 KiB");
                        return Received::Lines(lines);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.close();
                    return Received::Closed;
                }
            }
        }
        // A long line's room is not kept: it would be most of the gate's memory.
        if self.input.is_empty() {
            self.input = vec![];
        }
        Received::Lines(lines)
    }

    /// Notes that a line was understood.
    pub fn accept(&mut self) {
        self.complained = false;
    }

    /// Drops the connection because of a bad line.
    pub fn reject(&mut self, why: &str) {
        if !self.complained {
            eprintln!("gate: bad line from the sidecar: {why}; closing the connection");
            self.complained = true;
        }
        self.close();
    }

    fn close(&mut self) {
        self.stream = None;
        self.input = vec![];
        self.output = vec![];
    }
}
