//! The beginning of a connection.
//!
//! ```text
//! primary                      secondary
//!   Hello(identity, nonce)  ->
//!                           <-  Challenge(identity, nonce, MAC over both messages)
//!   Proof(MAC over both)    ->
//!                           <-  State(record, stream, position)
//!   Begin(record, how)      ->
//!                           <-  Changes, Keepalive (of an incremental resynchronisation only)
//!                           <-  Begun            then operations
//! ```
//! Either side may answer `Refused(code, text)` instead and close. The MACs are HMAC-SHA256 under the module's shared
//! secret; each covers both nonces, both names, the module and the direction, so that neither can be replayed or
//! reflected. They authenticate the peer, they do not encrypt.

use std::io::{Read, Write};

use hmac::{Hmac, KeyInit, Mac};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::changes::{decode_changes, encode_change};
use super::frame::{Frame, FrameReader, Kind, MAX_HANDSHAKE, MAX_PAYLOAD, whole_frame};
use super::{PROTOCOL, WireError};
use crate::journal::changes::Change;
use crate::op::Seq;
use crate::record::{Record, Verdict, compare, hex};

/// Who this side is and whom it expects.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Name of the module, for messages.
    pub module_name: String,
    /// UID of the module.
    pub module: String,
    pub node: String,
    pub peer: String,
    /// The module's shared secret.
    pub key: Vec<u8>,
}

/// Why a side does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// Not a secondary at the moment.
    Busy,
    Protocol,
    ForeignModule,
    WrongNode,
    BadKey,
    /// The two nodes name different volumes.
    Volumes,
    /// A volume lacks the module's marker: not mounted, or replaced.
    Unmarked,
    /// What `Begin` wants to resume or skip is not there: begin a full resynchronisation.
    NotResumable,
    /// This node's data are not an ancestor of the primary's: only with the administrator's word.
    Diverged,
    /// The secondary's disk fails.
    Disk,
}

/// A refusal, with a text for the administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub code: RefusalCode,
    pub text: String,
}

impl Refusal {
    pub fn new(code: RefusalCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// A handshake that ended early.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The other side refused.
    #[error("the peer refused: {}", .0.text)]
    Refused(Refusal),
    /// This side refused.
    #[error("refused the peer: {}", .0.text)]
    Rejected(Refusal),
}

impl From<std::io::Error> for HandshakeError {
    fn from(error: std::io::Error) -> Self {
        Self::Wire(error.into())
    }
}

/// The operations and messages of a verification: `Op::Check...`, `Message::Findings`.
pub const VERIFY: &str = "verify";

/// What the secondary has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// `None`: fresh.
    pub record: Option<Record>,
    /// Some backing directory has entries.
    pub has_data: bool,
    /// Changes with each start of the secondary.
    pub instance: String,
    /// The stream that it can go on with, and how far it has applied that.
    pub stream: Option<String>,
    pub applied: Seq,
    /// Everything up to here is on stable storage.
    pub durable: Seq,
    /// In sync as of `applied`; else in the middle of a resynchronisation.
    pub in_sync: bool,
    /// Why the last stream ended for good, if it did.
    pub failed: Option<String>,
    /// Why there is no journal, if there was one.
    pub journal_lost: Option<String>,
    /// What it knows beyond what every program of this [`PROTOCOL`] does, by name: [`VERIFY`]. A program of before there
    /// was such a list sends none; names that this one does not know are of newer ones.
    #[serde(default)]
    pub knows: Vec<String>,
}

impl State {
    /// Everything that this program knows, for [`State::knows`].
    pub fn all_known() -> Vec<String> {
        vec![VERIFY.to_owned()]
    }
}

/// How the primary wants to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BeginKind {
    /// Go on with the stream that `State` named; the next operation is at most `State::applied + 1`. A repeated
    /// `Fsync` or `SyncAll` is carried out and answered again, every other repeated operation is skipped.
    Resume,
    /// Both records have this token: the trees are equal, a new stream starts in sync.
    Unchanged { token: String },
    /// A new stream that starts with a full resynchronisation. `discard`: the secondary's generation that the
    /// administrator allowed to overwrite, if it is not an ancestor of the primary's.
    Full { discard: Option<String> },
    /// A new stream that starts with a resynchronisation of what either side's journal has since `base`.
    Incremental { base: String },
}

/// The primary's decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    pub kind: BeginKind,
    /// Name of the stream, see [`crate::record::new_generation`].
    pub stream: String,
    /// The primary's record.
    pub record: Record,
    /// Names of the volumes, in the order that `BindRoot` counts them.
    pub volumes: Vec<String>,
}

/// May a full resynchronisation from `primary` overwrite what the secondary has? Both sides ask this.
pub fn may_overwrite(primary: &Record, secondary: &State, discard: Option<&str>) -> Result<(), Refusal> {
    let Some(record) = &secondary.record else {
        return Ok(());
    };
    match compare(Some(record), Some(primary)) {
        Verdict::Same | Verdict::Behind | Verdict::Fresh => Ok(()),
        Verdict::Unrelated => Err(Refusal::new(
            RefusalCode::ForeignModule,
            format!("the data of node {} belong to module {}, not {}", record.node, record.module, primary.module),
        )),
        verdict @ (Verdict::Ahead | Verdict::Diverged) => {
            if record.discarding.is_some() || discard == Some(record.generation.as_str()) {
                return Ok(());
            }
            let why = if verdict == Verdict::Ahead { "newer than" } else { "not an ancestor of" };
            Err(Refusal::new(
                RefusalCode::Diverged,
                format!(
                    "generation {} of node {} is {why} generation {} of node {}: choose one side with force-primary",
                    record.generation, record.node, primary.generation, primary.node
                ),
            ))
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    protocol: u32,
    module: String,
    module_name: String,
    node: String,
    peer: String,
    nonce: String,
}

impl Hello {
    fn of(identity: &Identity) -> Result<Self, HandshakeError> {
        let mut nonce = [0_u8; 32];
        getrandom::fill(&mut nonce).map_err(|error| WireError::Io(std::io::Error::other(error.to_string())))?;
        Ok(Self {
            protocol: PROTOCOL,
            module: identity.module.clone(),
            module_name: identity.module_name.clone(),
            node: identity.node.clone(),
            peer: identity.peer.clone(),
            nonce: hex(&nonce),
        })
    }

    /// Is this the peer that `me` expects?
    fn check(&self, me: &Identity) -> Result<(), Refusal> {
        if self.protocol != PROTOCOL {
            return Err(Refusal::new(
                RefusalCode::Protocol,
                format!(
                    "node {} speaks protocol {}, node {} speaks {PROTOCOL}: bring both to the same version",
                    self.node, self.protocol, me.node
                ),
            ));
        }
        if self.module != me.module {
            return Err(Refusal::new(
                RefusalCode::ForeignModule,
                format!(
                    "node {} is of module {} ({}), node {} is of module {} ({})",
                    self.node, self.module_name, self.module, me.node, me.module_name, me.module
                ),
            ));
        }
        if self.node != me.peer || self.peer != me.node {
            return Err(Refusal::new(
                RefusalCode::WrongNode,
                format!(
                    "node {} expects {} as its peer, node {} expects {}: correct the nodes of module {}",
                    self.node, self.peer, me.node, me.peer, me.module_name
                ),
            ));
        }
        Ok(())
    }
}

/// The primary's side, up to the secondary's [`State`].
pub fn dial<R: Read, W: Write>(
    reader: &mut FrameReader<R>,
    writer: &mut W,
    me: &Identity,
) -> Result<State, HandshakeError> {
    let hello = to_json(&Hello::of(me)?)?;
    send(writer, Kind::Hello, &hello)?;
    let (mac, challenge) = split_mac(receive(reader, Kind::Challenge)?)?;
    let theirs: Hello = from_json(&challenge)?;
    if let Err(refusal) = theirs.check(me) {
        return Err(reject(writer, refusal));
    }
    if !verify(&me.key, b"secondary", &hello, &challenge, &mac) {
        return Err(reject(writer, bad_key(me, &theirs)));
    }
    send(writer, Kind::Proof, &sign(&me.key, b"primary", &hello, &challenge))?;
    from_json(&receive(reader, Kind::State)?)
}

/// The primary's decision, and the secondary's consent; with an incremental resynchronisation, its changes.
pub fn begin<R: Read, W: Write>(
    reader: &mut FrameReader<R>,
    writer: &mut W,
    begin: &Begin,
) -> Result<Vec<Change>, HandshakeError> {
    send(writer, Kind::Begin, &to_json(begin)?)?;
    let mut changes = Vec::new();
    loop {
        let Frame { kind, payload, .. } = reader.next_frame()?;
        match kind {
            Kind::Begun => return Ok(changes),
            Kind::Changes => changes.extend(decode_changes(payload)?),
            Kind::Keepalive => {}
            Kind::Refused => return Err(HandshakeError::Refused(from_json(payload)?)),
            other => return Err(WireError::Unexpected(other as u8).into()),
        }
    }
}

/// The secondary's side, up to the primary's [`Begin`]. `state` is asked once the primary is known to be genuine.
pub fn answer<R: Read, W: Write>(
    reader: &mut FrameReader<R>,
    writer: &mut W,
    me: &Identity,
    state: impl FnOnce() -> State,
) -> Result<Begin, HandshakeError> {
    reader.set_limit(MAX_HANDSHAKE);
    let hello = receive(reader, Kind::Hello)?;
    let theirs: Hello = from_json(&hello)?;
    if let Err(refusal) = theirs.check(me) {
        return Err(reject(writer, refusal));
    }
    let challenge = to_json(&Hello::of(me)?)?;
    let mut payload = sign(&me.key, b"secondary", &hello, &challenge);
    payload.extend_from_slice(&challenge);
    send(writer, Kind::Challenge, &payload)?;
    let proof = receive(reader, Kind::Proof)?;
    if !verify(&me.key, b"primary", &hello, &challenge, &proof) {
        return Err(reject(writer, bad_key(me, &theirs)));
    }
    reader.set_limit(MAX_PAYLOAD);
    send(writer, Kind::State, &to_json(&state())?)?;
    from_json(&receive(reader, Kind::Begin)?)
}

/// The secondary agrees; operations follow.
pub fn accept<W: Write>(writer: &mut W) -> Result<(), HandshakeError> {
    send(writer, Kind::Begun, &[])
}

/// Before [`accept`]: what the secondary's journal says.
pub fn tell_changes<W: Write>(writer: &mut W, changes: &[Change]) -> Result<(), HandshakeError> {
    const FULL: usize = 1 << 20;
    let mut payload = Vec::new();
    for (index, change) in changes.iter().enumerate() {
        encode_change(&mut payload, change);
        if payload.len() >= FULL || index + 1 == changes.len() {
            send(writer, Kind::Changes, &payload)?;
            payload.clear();
        }
    }
    Ok(())
}

/// Before [`accept`]: it takes its time.
pub fn keep_waiting<W: Write>(writer: &mut W) -> Result<(), HandshakeError> {
    send(writer, Kind::Keepalive, &[])
}

/// Tell the other side why not; returns the same as an error of this side.
pub fn reject<W: Write>(writer: &mut W, refusal: Refusal) -> HandshakeError {
    // The connection ends either way; that the other side did not hear why changes nothing here.
    let _ = to_json(&refusal).and_then(|json| send(writer, Kind::Refused, &json));
    HandshakeError::Rejected(refusal)
}

fn bad_key(me: &Identity, theirs: &Hello) -> Refusal {
    Refusal::new(
        RefusalCode::BadKey,
        format!("nodes {} and {} of module {} have different keys", theirs.node, me.node, me.module_name),
    )
}

fn send<W: Write>(writer: &mut W, kind: Kind, payload: &[u8]) -> Result<(), HandshakeError> {
    let mut frame = Vec::with_capacity(payload.len() + 32);
    whole_frame(&mut frame, kind, 0, |buffer| buffer.extend_from_slice(payload));
    Ok(writer.write_all(&frame)?)
}

fn receive<R: Read>(reader: &mut FrameReader<R>, expected: Kind) -> Result<Vec<u8>, HandshakeError> {
    let Frame { kind, payload, .. } = reader.next_frame()?;
    if kind == expected {
        Ok(payload.to_vec())
    } else if kind == Kind::Refused {
        Err(HandshakeError::Refused(from_json(payload)?))
    } else {
        Err(WireError::Unexpected(kind as u8).into())
    }
}

fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>, HandshakeError> {
    serde_json::to_vec(value).map_err(|_| WireError::Malformed { what: "handshake" }.into())
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, HandshakeError> {
    serde_json::from_slice(bytes).map_err(|_| WireError::Malformed { what: "handshake" }.into())
}

fn split_mac(mut payload: Vec<u8>) -> Result<(Vec<u8>, Vec<u8>), HandshakeError> {
    if payload.len() < 32 {
        return Err(WireError::Malformed { what: "handshake" }.into());
    }
    let rest = payload.split_off(32);
    Ok((payload, rest))
}

fn mac(key: &[u8], label: &[u8], hello: &[u8], challenge: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    for part in [label, hello, challenge] {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part);
    }
    Some(mac)
}

fn sign(key: &[u8], label: &[u8], hello: &[u8], challenge: &[u8]) -> Vec<u8> {
    mac(key, label, hello, challenge).map_or_else(Vec::new, |mac| mac.finalize().into_bytes().to_vec())
}

fn verify(key: &[u8], label: &[u8], hello: &[u8], challenge: &[u8], tag: &[u8]) -> bool {
    mac(key, label, hello, challenge).is_some_and(|mac| mac.verify_slice(tag).is_ok())
}
