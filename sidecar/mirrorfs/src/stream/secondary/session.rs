//! One connection: handshake, then operations in order until it ends.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{Advice, fadvise};

use super::{Shared, Stream};
use crate::apply::flush::{Job, Target};
use crate::apply::{ApplyError, Effect};
use crate::journal::changes::changes;
use crate::lease::boottime_ns;
use crate::op::{Lineage, Oid, Op, Seq};
use crate::resync::quiet::quietly;
use crate::resync::sums::{FINE_BLOCK, FINE_RANGE, SUM_BLOCK, SUM_RANGE, block_sums, fine_sums};
use crate::wire::frame::{Frame, FrameReader, Kind};
use crate::wire::handshake::{
    BeginKind, HandshakeError, Refusal, RefusalCode, accept, answer, keep_waiting, reject, tell_changes,
};
use crate::wire::{Message, WireError, decode_message, decode_op, encode_message};

/// Operations applied before an acknowledgement is sent even though more are waiting.
const COALESCED: u32 = 64;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("operation {got} came where {expected} was due")]
    Gap { got: Seq, expected: Seq },
    #[error("operation {seq} could not be applied: {reason}")]
    Failed { seq: Seq, reason: String },
    #[error("the primary left: {0}")]
    Bye(String),
    #[error("this node stops being secondary, or a newer connection took over")]
    Stopped,
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> Self {
        Self::Wire(error.into())
    }
}

/// The sending half, shared by the applying thread, the flushes and the keepalives.
struct Writer {
    socket: Mutex<(TcpStream, Vec<u8>)>,
}

impl Writer {
    /// Losing the connection shows in the reading half too; there it ends the session.
    fn send(&self, message: &Message) {
        let mut guard = self.socket.lock();
        let (socket, buffer) = &mut *guard;
        buffer.clear();
        encode_message(buffer, message);
        if socket.write_all(buffer).is_err() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// After this the peer gets nothing more, and the reading half ends.
    fn close(&self) {
        let _ = self.socket.lock().0.shutdown(Shutdown::Both);
    }
}

/// Serve one connection to its end.
pub(super) fn run(shared: &Arc<Shared>, id: u64, socket: TcpStream) {
    let end = match serve(shared, id, socket) {
        Ok(never) => match never {},
        Err(end) => end,
    };
    if shared.active.compare_exchange(id, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
        *shared.disconnected.lock() = Some(Instant::now());
        let closed = matches!(&end, End::Wire(error) if error.is_closed());
        shared.change_status(|status| {
            (status.connected, status.syncing, status.closed_by_peer) = (false, false, closed);
            status.error = Some(end.to_string());
        });
    } else if !matches!(end, End::Stopped | End::Wire(WireError::Closed)) && shared.active.load(Ordering::SeqCst) == 0 {
        // A refused or broken attempt is worth telling while nobody else is connected.
        shared.change_status(|status| status.error = Some(end.to_string()));
    }
}

enum Never {}

fn serve(shared: &Arc<Shared>, id: u64, socket: TcpStream) -> Result<Never, End> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(shared.config.peer_timeout))?;
    socket.set_write_timeout(Some(shared.config.peer_timeout))?;
    let mut output = socket.try_clone()?;
    let mut reader = FrameReader::new(socket);
    let mut held = None;
    let begin = answer(&mut reader, &mut output, &shared.config.identity, || {
        // The peer is genuine: it takes over, and the older session must have ended before its position counts.
        let older = shared.active.swap(id, Ordering::SeqCst);
        if older != 0
            && let Some(older) = shared.connections.lock().get(&older)
        {
            let _ = older.shutdown(Shutdown::Both);
        }
        let stream = held.insert(shared.stream.lock());
        shared.state(stream.as_ref())
    })?;
    let Some(mut held) = held else { return Err(End::Stopped) };
    if shared.stopping.load(Ordering::SeqCst) || shared.active.load(Ordering::SeqCst) != id {
        return Err(End::Stopped);
    }
    if let Err(refusal) = shared.open_stream(&mut held, &begin) {
        return Err(reject(&mut output, refusal).into());
    }
    let Some(stream) = &mut *held else { return Err(End::Stopped) };
    if matches!(begin.kind, BeginKind::Incremental { .. }) {
        tell(shared, stream, &mut output)?;
    }
    accept(&mut output)?;
    *shared.disconnected.lock() = None;
    shared.change_status(|status| {
        (status.connected, status.closed_by_peer, status.error) = (true, false, None);
        (status.in_sync, status.syncing) = (stream.in_sync, !stream.in_sync);
    });
    let writer = Arc::new(Writer { socket: Mutex::new((output, Vec::new())) });
    let keepalive = Keepalive::start(writer.clone(), shared.config.peer_timeout / 4)?;
    let mut session = Session { shared, id, stream, writer: writer.clone() };
    let result = session.serve(&mut reader);
    if let Err(End::Failed { seq, reason }) = &result {
        writer.send(&Message::Failed { seq: *seq, reason: reason.clone() });
    }
    drop(keepalive);
    writer.close();
    result
}

/// What this node's journal says, with signs of life while it is collected.
fn tell(shared: &Shared, stream: &Stream, output: &mut TcpStream) -> Result<(), End> {
    let Some(journal) = &shared.journal else { return Err(End::Stopped) };
    let mut roots = Vec::new();
    for root in stream.applier.roots() {
        roots.push(root.try_clone()?);
    }
    let changes = std::thread::scope(|scope| {
        let collecting = scope.spawn(|| changes(journal, &roots));
        while !collecting.is_finished() {
            std::thread::sleep((shared.config.peer_timeout / 8).min(Duration::from_millis(2)));
            if !collecting.is_finished() {
                keep_waiting(output)?;
            }
        }
        collecting.join().map_err(|_| End::Stopped)
    })?;
    match changes {
        Ok(changes) => Ok(tell_changes(output, &changes)?),
        Err(error) => {
            let text = format!("this node's journal cannot be followed: {error}");
            Err(reject(output, Refusal::new(RefusalCode::NotResumable, text)).into())
        }
    }
}

struct Session<'a> {
    shared: &'a Arc<Shared>,
    id: u64,
    stream: &'a mut Stream,
    writer: Arc<Writer>,
}

impl Session<'_> {
    fn serve(&mut self, reader: &mut FrameReader<TcpStream>) -> Result<Never, End> {
        let mut unacknowledged = 0;
        self.publish();
        loop {
            let frame = reader.next_frame()?;
            self.shared.heard.store(boottime_ns(), Ordering::Relaxed);
            if self.shared.stopping.load(Ordering::SeqCst) || self.shared.active.load(Ordering::SeqCst) != self.id {
                return Err(End::Stopped);
            }
            if frame.kind == Kind::Op {
                self.operation(frame)?;
                unacknowledged += 1;
            } else {
                // What the primary asks may depend on its knowing how far we are.
                self.message(frame)?;
            }
            if unacknowledged > 0 && (unacknowledged >= COALESCED || !reader.has_buffered()) {
                unacknowledged = 0;
                let durable = self.stream.durable.load(Ordering::Relaxed);
                self.writer.send(&Message::Ack { applied: self.stream.applied, durable });
            }
        }
    }

    fn operation(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let seq = frame.seq;
        let op = decode_op(frame.payload)?;
        if seq <= self.stream.applied {
            self.repeated(seq, &op);
            return Ok(());
        }
        if seq != self.stream.applied + 1 {
            return Err(End::Gap { got: seq, expected: self.stream.applied + 1 });
        }
        if self.shared.broken.load(Ordering::SeqCst) {
            let reason = self.shared.status.lock().failed.clone().unwrap_or_default();
            return Err(End::Failed { seq, reason });
        }
        if self.stream.has_token && op.changes_tree() {
            // From here on the trees are not those of the hand-over any more.
            let updated = self.shared.store.update(|record| {
                record.token = None;
                Ok(())
            });
            updated.map_err(|error| self.failed(seq, &error.to_string()))?;
            self.stream.has_token = false;
        }
        let effect = self.stream.applier.apply(&op).map_err(|error| self.failed(seq, &error.to_string()))?;
        match effect {
            Effect::Done => {}
            flush @ (Effect::Flush { .. } | Effect::FlushAll) => self.flush(seq, flush),
            Effect::DirState(sizes) => self.writer.send(&Message::DirState { seq, sizes }),
            Effect::Synced(lineage) => self.synced(seq, lineage)?,
        }
        self.stream.applied = seq;
        self.publish();
        Ok(())
    }

    /// An operation that was applied before the connection was cut. Only the answer to a flush may have been lost.
    fn repeated(&mut self, seq: Seq, op: &Op<'_>) {
        match op {
            // What was forgotten since (a later operation said so) is flushed with everything else.
            Op::Fsync { oid, data_only } => {
                let effect = self.stream.applier.flush(*oid, *data_only).unwrap_or(Effect::FlushAll);
                self.flush(seq, effect);
            }
            Op::SyncAll => self.flush(seq, Effect::FlushAll),
            _ => {}
        }
    }

    fn flush(&self, seq: Seq, effect: Effect) {
        let (target, covers) = match effect {
            Effect::Flush { file, data_only } => (Target::File { file, data_only }, 0),
            _ => (Target::All(self.stream.applier.roots()), self.stream.applied.max(seq)),
        };
        let (writer, shared, durable) = (self.writer.clone(), self.shared.clone(), self.stream.durable.clone());
        let job: Job = Box::new(move || match target.flush() {
            Ok(()) => {
                durable.fetch_max(covers, Ordering::Relaxed);
                writer.send(&Message::Flushed { seq });
            }
            Err(error) => {
                let reason = format!("flush: {error}");
                shared.store.distrust_cache();
                shared.fail(&reason);
                writer.send(&Message::Failed { seq, reason });
                writer.close();
            }
        });
        if let Some(pools) = &*self.shared.pools.lock() {
            pools.flushes.run(job);
        }
    }

    /// The trees are equal: flush, record, be promotable.
    fn synced(&mut self, seq: Seq, lineage: Lineage) -> Result<(), End> {
        let roots = self.stream.applier.roots();
        Target::All(roots).flush().map_err(|error| {
            self.shared.store.distrust_cache();
            self.failed(seq, &format!("flush: {error}"))
        })?;
        // What is in the journal is equal now; the base is this moment. A power cut between the two leaves no base.
        let tie = match &self.shared.journal {
            Some(journal) => journal.renew(&self.stream.id),
            None => Ok(None),
        };
        let tie = tie.map_err(|error| self.failed(seq, &error.to_string()))?;
        let updated = self.shared.store.update(|record| {
            record.journal = tie;
            (record.generation, record.history) = (lineage.generation, lineage.history);
            (record.consistent, record.alone) = (true, false);
            (record.token, record.discarding) = (None, None);
            record.cache_suspect = false;
            Ok(())
        });
        updated.map_err(|error| self.failed(seq, &error.to_string()))?;
        self.shared.store.trust_cache();
        if let Some(journal) = &self.shared.journal {
            journal.activate();
        }
        self.stream.in_sync = true;
        self.stream.durable.fetch_max(seq, Ordering::Relaxed);
        self.shared.change_status(|status| (status.in_sync, status.syncing) = (true, false));
        Ok(())
    }

    fn message(&mut self, frame: Frame<'_>) -> Result<(), End> {
        match decode_message(frame)? {
            Message::Keepalive => {}
            Message::SumsRequest { id, oid, offset, len } => self.sums(id, oid, (offset, len), false)?,
            Message::FineRequest { id, oid, offset, len } => self.sums(id, oid, (offset, len), true)?,
            Message::Token { seq, token } => {
                if seq != self.stream.applied {
                    return Err(End::Gap { got: seq, expected: self.stream.applied });
                }
                if !self.stream.in_sync {
                    return Err(WireError::Malformed { what: "token before the trees are equal" }.into());
                }
                let updated = self.shared.store.update(|record| {
                    record.token = Some(token.clone());
                    Ok(())
                });
                updated.map_err(|error| self.failed(seq, &error.to_string()))?;
                self.stream.has_token = true;
                self.writer.send(&Message::TokenKept { token });
            }
            Message::FindingsRequest { id, from } => {
                let answer = self.stream.applier.findings.since(id, from);
                self.writer.send(&answer);
            }
            Message::Bye { reason } => return Err(End::Bye(reason)),
            _ => return Err(WireError::Unexpected(frame.kind as u8).into()),
        }
        Ok(())
    }

    fn sums(&mut self, id: u64, oid: Oid, (offset, len): (u64, u64), fine: bool) -> Result<(), End> {
        let (range, block) = if fine { (FINE_RANGE, FINE_BLOCK) } else { (SUM_RANGE, SUM_BLOCK) };
        if len > range || offset % block != 0 {
            return Err(WireError::Malformed { what: "request for sums" }.into());
        }
        let file: Result<_, ApplyError> = self.stream.applier.file(oid);
        let (writer, shared) = (self.writer.clone(), self.shared.clone());
        let job: Job = Box::new(move || {
            let Ok(file) = file else {
                return writer.send(&Message::Sums { id, known: false, size: 0, sums: Vec::new() });
            };
            if shared.store.is_cache_suspect() {
                // Pages whose writing failed count as written; what is let go is read from the disk again.
                let _ = fadvise(&*file, offset, NonZeroU64::new(len), Advice::DontNeed);
            }
            let sums = || if fine { fine_sums(&*file, offset, len) } else { block_sums(&*file, offset, len) };
            match quietly(sums) {
                Ok((size, sums)) => writer.send(&Message::Sums { id, known: true, size, sums }),
                Err(error) => {
                    let reason = format!("read: {error}");
                    shared.fail(&reason);
                    writer.send(&Message::Failed { seq: 0, reason });
                    writer.close();
                }
            }
        });
        if let Some(pools) = &*self.shared.pools.lock() {
            pools.sums.run(job);
        }
        Ok(())
    }

    fn failed(&self, seq: Seq, reason: &str) -> End {
        self.shared.fail(reason);
        End::Failed { seq, reason: reason.to_owned() }
    }

    fn publish(&self) {
        self.shared.applied.store(self.stream.applied, Ordering::Relaxed);
    }
}

/// Tells the primary that this side is alive, whatever the applying thread waits for.
struct Keepalive {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keepalive {
    fn start(writer: Arc<Writer>, interval: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = channel::<()>();
        let thread = Builder::new().name("keepalive".to_owned()).spawn(move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                writer.send(&Message::Keepalive);
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Keepalive {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
