//! Waiting for the peer: whoever waits reads the connection, unless somebody does already.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::connection::{Connection, Why};
use super::state::Inner;
use super::{Outcome, Stream, Ticket};
use crate::op::Seq;
use crate::wire::{FrameReader, Message, decode_message};

impl Stream {
    /// Wait until the peer has acknowledged the operation.
    pub fn wait(&self, ticket: Ticket) -> Outcome {
        self.wait_until(|inner| inner.outcome(ticket))
    }

    /// As [`Self::wait`], until `deadline`; `None` when it passed first.
    pub fn wait_before(&self, ticket: Ticket, deadline: Instant) -> Option<Outcome> {
        self.wait_until(|inner| match inner.outcome(ticket) {
            None if Instant::now() >= deadline => Some(None),
            None => None,
            outcome => Some(outcome),
        })
    }

    /// A ticket for everything submitted so far.
    pub fn last(&self) -> Ticket {
        let inner = self.inner.lock();
        Ticket { seq: inner.last, flush: false, epoch: inner.epoch }
    }

    /// A ticket for the acknowledgement of everything up to `seq` of the present stream.
    pub fn ticket(&self, seq: Seq) -> Ticket {
        let inner = self.inner.lock();
        // A position beyond the present stream is of an earlier one.
        if seq == 0 || seq > inner.last { Ticket::NONE } else { Ticket { seq, flush: false, epoch: inner.epoch } }
    }

    /// Wait for the peer's answer to request `id`; `None` when the connection or the stream of this epoch ends first.
    pub fn answer(&self, epoch: u64, id: u64) -> Option<Message> {
        self.wait_until(|inner| match inner.gone(epoch) {
            true => Some(None),
            false => inner.answers.remove(&id).map(Some),
        })
    }

    /// Wait for what the peer had of the directory whose `SyncDir` is at `seq`.
    pub fn directory(&self, epoch: u64, seq: Seq) -> Option<Vec<u64>> {
        self.wait_until(|inner| match inner.gone(epoch) {
            true => Some(None),
            false => inner.directories.remove(&seq).map(Some),
        })
    }

    /// Wait, at most `timeout`, for the peer to have recorded the token.
    pub fn token_kept(&self, token: &str, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        self.wait_until(|inner| {
            if inner.token_kept.as_deref() == Some(token) {
                Some(true)
            } else if inner.connection.is_none() || Instant::now() >= deadline {
                Some(false)
            } else {
                None
            }
        })
    }

    fn wait_until<T>(&self, mut ready: impl FnMut(&mut Inner) -> Option<T>) -> T {
        let mut inner = self.inner.lock();
        loop {
            if let Some(value) = ready(&mut inner) {
                return value;
            }
            inner = self.await_change(inner);
        }
    }

    /// Read the connection, or wait for whoever reads it.
    pub(super) fn await_change<'a>(&'a self, mut inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        if let Some(connection) = inner.connection.clone() {
            if let Some(mut reader) = connection.reader.try_lock() {
                drop(inner);
                let result = self.receive(&mut reader);
                // Free the reader before taking the lock: a waiter that finds it taken waits for the notification
                // that follows, and must then find it free.
                drop(reader);
                if let Err(error) = result {
                    self.lose(&connection, error);
                }
                inner = self.inner.lock();
                self.changed.notify_all();
                return inner;
            }
        }
        // The time limit is for waits with a deadline of their own.
        self.changed.wait_for(&mut inner, Duration::from_millis(500));
        inner
    }

    /// Read at least one frame.
    fn receive(&self, reader: &mut FrameReader<TcpStream>) -> Result<(), Why> {
        loop {
            let message = reader.next_frame().and_then(decode_message)?;
            let mut inner = self.inner.lock();
            inner.last_received = Instant::now();
            match message {
                Message::Ack { applied, durable } => {
                    inner.acknowledge(applied);
                    inner.durable = inner.durable.max(durable);
                }
                Message::Flushed { seq } => inner.flushed(seq),
                Message::Sums { id, .. } | Message::Findings { id, .. } => {
                    inner.answers.insert(id, message);
                }
                Message::DirState { seq, sizes } => {
                    inner.directories.insert(seq, sizes);
                }
                Message::TokenKept { token } => inner.token_kept = Some(token),
                Message::Failed { reason, .. } => {
                    inner.failed = Some(reason.clone());
                    return Err(Why::Ended(format!("the peer cannot apply: {reason}")));
                }
                Message::Bye { reason } => return Err(Why::Ended(format!("the peer left: {reason}"))),
                Message::Keepalive => {}
                Message::Token { .. }
                | Message::SumsRequest { .. }
                | Message::FineRequest { .. }
                | Message::FindingsRequest { .. } => {
                    return Err(Why::Ended("the peer sent what only a primary sends".to_owned()));
                }
            }
            drop(inner);
            if !reader.has_buffered() {
                return Ok(());
            }
        }
    }

    /// Read what has arrived, if nobody reads; send a sign of life, if nothing was sent for `quiet`.
    pub fn tend(&self, connection: &Arc<Connection>, quiet: Duration, readable: bool) {
        if readable {
            if let Some(mut reader) = connection.reader.try_lock() {
                let result = self.receive(&mut reader);
                drop(reader);
                if let Err(error) = result {
                    self.lose(connection, error);
                }
                // Under the lock, as in `await_change`.
                drop(self.inner.lock());
                self.changed.notify_all();
            }
        }
        let silent = self.inner.lock().last_sent.elapsed();
        if silent >= quiet {
            self.send(&Message::Keepalive);
        }
    }
}
