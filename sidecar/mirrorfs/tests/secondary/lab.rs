//! A secondary on loopback with its directories, and a primary that does what the test says.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use _mirrorfs::op::{Lineage, Op, Seq};
use _mirrorfs::record::{Record, Store, new_generation};
use _mirrorfs::stream::secondary::{Config, Secondary, Status, Volume};
use _mirrorfs::wire::handshake::{Begin, BeginKind, HandshakeError, Identity, State, begin, dial};
use _mirrorfs::wire::{FrameReader, Kind, Message, decode_message, encode_message, encode_op, seal};
use std::io::Write;

pub const MODULE: &str = "5f1c9a50-0000-4000-8000-000000000001";

pub fn identity(node: &str, peer: &str) -> Identity {
    Identity {
        module_name: "default/db".to_owned(),
        module: MODULE.to_owned(),
        node: node.to_owned(),
        peer: peer.to_owned(),
        key: b"secret".to_vec(),
    }
}

/// Node `b`'s directories and secondary; node `a`'s tree is `source`.
pub struct Lab {
    pub directory: tempfile::TempDir,
    pub store: Arc<Store>,
    pub secondary: Option<Secondary>,
    /// The record of the scripted primary.
    pub primary: Record,
}

impl Lab {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["source", "state", "quarantine"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let store = Arc::new(Store::open(&directory.path().join("state"), MODULE, "b").unwrap());
        let primary = Record::initial(MODULE, "a").unwrap();
        let mut lab = Self { directory, store, secondary: None, primary };
        lab.start();
        lab
    }

    pub fn source(&self) -> PathBuf {
        self.directory.path().join("source")
    }

    pub fn backing(&self) -> PathBuf {
        self.directory.path().join("volumes/data")
    }

    pub fn quarantine(&self) -> PathBuf {
        self.directory.path().join("quarantine")
    }

    pub fn config(&self) -> Config {
        Config {
            identity: identity("b", "a"),
            volumes: vec![Volume { name: "data".to_owned(), backing: self.backing() }],
            quarantine_dir: self.quarantine(),
            quarantine: true,
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            peer_timeout: Duration::from_secs(5),
            threads: 2,
        }
    }

    /// Start the secondary (again: a new process would do the same).
    pub fn start(&mut self) {
        self.secondary = None;
        self.store = Arc::new(Store::open(&self.directory.path().join("state"), MODULE, "b").unwrap());
        self.secondary = Some(Secondary::start(self.config(), self.store.clone(), None, Arc::new(|| ())).unwrap());
    }

    pub fn status(&self) -> Status {
        self.secondary.as_ref().unwrap().status()
    }

    pub fn connect(&self) -> (Primary, State) {
        let (mut primary, state) = self.dial(&identity("a", "b")).unwrap();
        primary.stream = state.stream.clone().unwrap_or_default();
        (primary, state)
    }

    pub fn dial(&self, identity: &Identity) -> Result<(Primary, State), HandshakeError> {
        let socket = TcpStream::connect(self.secondary.as_ref().unwrap().addresses()[0]).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut writer = socket.try_clone().unwrap();
        let mut reader = FrameReader::new(socket);
        let state = dial(&mut reader, &mut writer, identity)?;
        Ok((Primary { reader, writer, seq: 0, acked: 0, stream: String::new(), others: Vec::new() }, state))
    }

    pub fn begin(&self, primary: &mut Primary, kind: BeginKind) -> Result<(), HandshakeError> {
        if kind != BeginKind::Resume {
            primary.stream = new_generation().unwrap();
        }
        let message = Begin {
            kind,
            stream: primary.stream.clone(),
            record: self.primary.clone(),
            volumes: vec!["data".to_owned()],
        };
        begin(&mut primary.reader, &mut primary.writer, &message).map(drop)
    }

    /// A session that has begun a full resynchronisation.
    pub fn full(&self) -> Primary {
        let (mut primary, _) = self.connect();
        self.begin(&mut primary, BeginKind::Full { discard: None }).unwrap();
        primary
    }

    pub fn lineage(&self) -> Lineage {
        self.primary.lineage()
    }

    /// Wait (a second at most) until the status is as expected.
    pub fn until(&self, what: &str, expected: impl Fn(&Status) -> bool) {
        for _ in 0..200 {
            if expected(&self.status()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("never {what}: {:?}", self.status());
    }
}

/// The scripted primary's end of a connection.
pub struct Primary {
    pub reader: FrameReader<TcpStream>,
    pub writer: TcpStream,
    pub seq: Seq,
    pub acked: Seq,
    pub stream: String,
    /// Messages that are no acknowledgements, in order of arrival.
    pub others: Vec<Message>,
}

impl Primary {
    pub fn frame(op: &Op<'_>, seq: Seq) -> Vec<u8> {
        let mut frame = Vec::new();
        encode_op(&mut frame, op);
        seal(&mut frame, seq);
        frame
    }

    pub fn send(&mut self, op: &Op<'_>) -> Seq {
        self.seq += 1;
        // The peer may have closed; what matters is what it answers.
        let _ = self.writer.write_all(&Self::frame(op, self.seq));
        self.seq
    }

    pub fn say(&mut self, message: &Message) {
        let mut frame = Vec::new();
        encode_message(&mut frame, message);
        self.writer.write_all(&frame).unwrap();
    }

    /// The next message, keepalives skipped; `None` when the peer closed.
    pub fn receive(&mut self) -> Option<Message> {
        loop {
            let frame = self.reader.next_frame().ok()?;
            assert_ne!(frame.kind, Kind::Op);
            match decode_message(frame).unwrap() {
                Message::Keepalive => {}
                message => return Some(message),
            }
        }
    }

    /// Read until everything sent is acknowledged.
    pub fn settle(&mut self) {
        while self.acked < self.seq {
            match self.receive() {
                Some(Message::Ack { applied, .. }) => {
                    assert!(applied >= self.acked && applied <= self.seq, "{applied} of {}", self.seq);
                    self.acked = applied;
                }
                Some(Message::Failed { seq, reason }) => panic!("operation {seq} failed: {reason}"),
                Some(other) => self.others.push(other),
                None => panic!("closed at {} of {}", self.acked, self.seq),
            }
        }
    }

    pub fn run(&mut self, op: &Op<'_>) {
        self.send(op);
        self.settle();
    }
}
