//! How `gate probe` asks the running gate: datagrams over an abstract Unix socket.
//!
//! The socket's name holds the inode of the PID namespace, so a probe finds the gate of its
//! own container even where pods share the node's network namespace, and nothing has to be
//! written anywhere: the gate's volume can be mounted read-only into the container.

use std::fs;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::socket::{
    recvmsg, sendto, setsockopt, sockopt, ControlMessageOwned, MsgFlags, UnixAddr, UnixCredentials,
};
use serde_json::{json, Value};

use crate::machine::{Event, Machine};

/// How long a probe waits for the gate, which never does anything slow.
const PATIENCE: Duration = Duration::from_secs(2);
const MAX_DATAGRAM: usize = 512;

/// FNV-1a, 64 bits: the socket path may be longer than an abstract name.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn gate_name(container: &str, socket: &str) -> io::Result<String> {
    let namespace = fs::metadata("/proc/self/ns/pid")?.ino();
    let id = fnv1a(format!("{container}\0{socket}").as_bytes());
    Ok(format!("twinhull-gate/{namespace}/{id:016x}"))
}

/// The gate's end.
pub struct Listener(UnixDatagram);

impl Listener {
    /// # Errors
    /// EADDRINUSE: another gate of this container runs in the same PID namespace.
    pub fn bind(container: &str, socket: &str) -> io::Result<Self> {
        let name = gate_name(container, socket)?;
        let inner = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
        inner.set_nonblocking(true)?;
        setsockopt(&inner, sockopt::PassCred, &true)?;
        Ok(Listener(inner))
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Takes one datagram; answers a question, or returns what the probe found.
    pub fn serve(&self, machine: &Machine, now: Duration) -> Option<Event> {
        let mut buffer = [0u8; MAX_DATAGRAM];
        let mut space = nix::cmsg_space!(UnixCredentials);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let (length, sender, address) = {
            let flags = MsgFlags::MSG_DONTWAIT;
            let message =
                recvmsg::<UnixAddr>(self.0.as_raw_fd(), &mut parts, Some(&mut space), flags)
                    .ok()?;
            let sender = message.cmsgs().ok()?.find_map(|part| match part {
                ControlMessageOwned::ScmCredentials(credentials) => Some(credentials.pid()),
                _ => None,
            });
            (message.bytes, sender, message.address)
        };
        // An abstract name has no permissions. A sender outside this PID namespace, another
        // pod on the node's network for one, shows as pid 0 and is no probe of ours.
        if sender.unwrap_or(0) == 0 {
            return None;
        }
        let value: Value = serde_json::from_slice(buffer.get(..length)?).ok()?;
        let epoch = || value.get("epoch").and_then(Value::as_u64);
        match value.get("probe").and_then(Value::as_str)? {
            "status" => {
                let answer = json!({
                    "state": machine.state().state,
                    "epoch": machine.state().epoch,
                    "age_ms": u64::try_from(machine.age(now).as_millis()).unwrap_or(u64::MAX),
                    "started": machine.started(),
                });
                // A probe that has gone meanwhile needs no answer.
                let _gone = sendto(
                    self.0.as_raw_fd(),
                    answer.to_string().as_bytes(),
                    &address?,
                    MsgFlags::MSG_DONTWAIT,
                );
                None
            }
            "liveness" => Some(Event::Liveness {
                epoch: epoch()?,
                ok: value.get("ok").and_then(Value::as_bool)?,
                threshold: u32::try_from(value.get("threshold")?.as_u64()?).ok()?,
                grace: Duration::from_millis(value.get("grace_ms")?.as_u64()?),
            }),
            "started" => Some(Event::Started { epoch: epoch()? }),
            _ => None,
        }
    }
}

/// What the gate answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub running: bool,
    pub epoch: u64,
    pub age: Duration,
    pub started: bool,
}

/// The probe's end.
pub struct Client {
    socket: UnixDatagram,
    gate: SocketAddr,
}

impl Client {
    /// # Errors
    /// The system's, when no socket can be made.
    pub fn new(container: &str, socket: &str) -> io::Result<Self> {
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos();
        let own = format!("twinhull-probe/{}/{nanos}", std::process::id());
        let inner = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(own)?)?;
        inner.set_read_timeout(Some(PATIENCE))?;
        inner.set_write_timeout(Some(PATIENCE))?;
        let gate = SocketAddr::from_abstract_name(gate_name(container, socket)?)?;
        Ok(Client {
            socket: inner,
            gate,
        })
    }

    /// # Errors
    /// No gate of this container runs here, or it did not answer within two seconds.
    pub fn status(&self) -> io::Result<Status> {
        self.send(&json!({"probe": "status"}))?;
        let mut buffer = [0u8; MAX_DATAGRAM];
        let length = self.socket.recv(&mut buffer)?;
        let value: Value = serde_json::from_slice(&buffer[..length])?;
        let number = |name| value.get(name).and_then(Value::as_u64).unwrap_or(0);
        Ok(Status {
            running: value.get("state").and_then(Value::as_str) == Some("running"),
            epoch: number("epoch"),
            age: Duration::from_millis(number("age_ms")),
            started: value.get("started").and_then(Value::as_bool) == Some(true),
        })
    }

    /// # Errors
    /// The gate has gone.
    pub fn liveness(&self, epoch: u64, ok: bool, threshold: u32, grace_ms: u64) -> io::Result<()> {
        self.send(&json!({
            "probe": "liveness", "epoch": epoch, "ok": ok,
            "threshold": threshold, "grace_ms": grace_ms,
        }))
    }

    /// # Errors
    /// The gate has gone.
    pub fn started(&self, epoch: u64) -> io::Result<()> {
        self.send(&json!({"probe": "started", "epoch": epoch}))
    }

    fn send(&self, value: &Value) -> io::Result<()> {
        self.socket
            .send_to_addr(value.to_string().as_bytes(), &self.gate)?;
        Ok(())
    }
}
