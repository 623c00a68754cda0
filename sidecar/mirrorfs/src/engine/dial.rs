//! Dialling the secondary, and deciding how the session begins.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::op::Seq;
use crate::record::{Record, Verdict, compare};
use crate::wire::FrameReader;
use crate::wire::handshake::{HandshakeError, Identity, State, dial, may_overwrite};

/// An authenticated connection, before it is agreed how to go on.
pub struct Dialled {
    pub socket: TcpStream,
    pub reader: FrameReader<TcpStream>,
    pub state: State,
}

/// Try the addresses in order; the first that answers as the right peer is taken. `connected` is shown each socket
/// before the handshake, so that somebody else can end that.
///
/// # Errors
/// What each address answered.
pub fn dial_any(
    addresses: &[SocketAddr],
    me: &Identity,
    connect_timeout: Duration,
    peer_timeout: Duration,
    connected: impl Fn(&TcpStream),
) -> Result<Dialled, String> {
    let mut problems = Vec::new();
    for address in addresses {
        match dial_one(*address, me, connect_timeout, peer_timeout, &connected) {
            Ok(dialled) => return Ok(dialled),
            Err(error) => problems.push(format!("{address}: {error}")),
        }
    }
    Err(problems.join("; "))
}

fn dial_one(
    address: SocketAddr,
    me: &Identity,
    connect_timeout: Duration,
    peer_timeout: Duration,
    connected: &impl Fn(&TcpStream),
) -> Result<Dialled, HandshakeError> {
    let socket = TcpStream::connect_timeout(&address, connect_timeout)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(peer_timeout))?;
    socket.set_write_timeout(Some(peer_timeout))?;
    connected(&socket);
    let mut reader = FrameReader::new(socket.try_clone()?);
    let state = dial(&mut reader, &mut &socket, me)?;
    Ok(Dialled { socket, reader, state })
}

/// What this primary knows when a peer has answered.
#[derive(Clone, Debug)]
pub struct Own<'a> {
    pub record: &'a Record,
    /// The stream that waits for acknowledgements, with the positions that it can go on from.
    pub stream: Option<(&'a str, std::ops::RangeInclusive<Seq>)>,
    /// Token from which the present stream began, if no peer has joined it yet.
    pub token: Option<&'a str>,
    /// A generation of the peer's that the administrator allowed to overwrite.
    pub discard: Option<&'a str>,
    /// Compare everything, whatever else would do.
    pub full: bool,
    /// Why this node's journal is of no use; `None`: it is.
    pub journal: Option<&'a str>,
    /// This node's disk fails.
    pub failing: bool,
}

/// How to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    Resume {
        applied: Seq,
    },
    Unchanged {
        token: String,
    },
    /// Compare what either journal has since this base.
    Incremental {
        base: String,
    },
    /// Compare everything, for this reason.
    Full {
        discard: Option<String>,
        why: String,
    },
    Refuse(String),
}

/// Decide. Pure.
pub fn plan(own: &Own<'_>, peer: &State) -> Plan {
    if !own.full && peer.failed.is_none() {
        if let Some((name, positions)) = &own.stream {
            if peer.stream.as_deref() == Some(*name) && positions.contains(&peer.applied) {
                return Plan::Resume { applied: peer.applied };
            }
            let theirs = peer.record.as_ref().and_then(|record| record.token.as_deref());
            if let Some(token) = own.token {
                if theirs == Some(token) && verdict(own.record, peer) == Verdict::Same {
                    return Plan::Unchanged { token: token.to_owned() };
                }
            }
        }
    }
    let is_whole = peer.record.as_ref().is_some_and(|record| record.consistent) && !own.record.alone;
    if own.failing && is_whole {
        // To be compared, the peer would have to give up being promotable: it may hold the only whole copy.
        return Plan::Refuse(
            "this node's disk fails, and the peer holds a whole copy: the peer is to take over".to_owned(),
        );
    }
    match may_overwrite(own.record, peer, own.discard) {
        Err(refusal) => Plan::Refuse(refusal.text),
        Ok(()) => match incremental(own, peer) {
            Ok(base) => Plan::Incremental { base },
            Err(why) => Plan::Full { discard: own.discard.map(str::to_owned), why },
        },
    }
}

/// The base since which the two journals have all that differs, or why there is none. In doubt there is none.
fn incremental(own: &Own<'_>, peer: &State) -> Result<String, String> {
    let Some(theirs) = &peer.record else { return Err("the peer has no data yet".to_owned()) };
    if own.full {
        return Err("it was asked for, or a shorter one failed".to_owned());
    }
    if let Some(failed) = &peer.failed {
        return Err(format!("the peer could not apply an operation: {failed}"));
    }
    if theirs.discarding.is_some() || !matches!(verdict(own.record, peer), Verdict::Same | Verdict::Ahead) {
        return Err("both nodes wrote alone".to_owned());
    }
    if let Some(why) = own.journal {
        return Err(why.to_owned());
    }
    if let Some(base) = own.record.common_base(theirs) {
        return Ok(base.to_owned());
    }
    Err(match &theirs.journal {
        None => match &peer.journal_lost {
            Some(why) => format!("the peer has no journal: {why}"),
            None => "the peer has no journal".to_owned(),
        },
        Some(_) => "the journals of the two nodes have no synchronisation in common".to_owned(),
    })
}

/// How this node's data relate to the peer's.
pub fn verdict(own: &Record, peer: &State) -> Verdict {
    compare(Some(own), peer.record.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::JournalTie;

    fn record(generation: &str, history: &[&str]) -> Record {
        Record {
            module: "m".to_owned(),
            generation: generation.to_owned(),
            history: history.iter().map(|&old| old.to_owned()).collect(),
            ..Record::default()
        }
    }

    fn own(record: &Record) -> Own<'_> {
        Own { record, stream: None, token: None, discard: None, full: false, journal: None, failing: false }
    }

    fn is_full(plan: &Plan, discarding: Option<&str>) -> bool {
        matches!(plan, Plan::Full { discard, .. } if discard.as_deref() == discarding)
    }

    #[test]
    fn a_peer_with_the_streams_position_resumes() {
        let mine = record("g2", &["g1"]);
        let peer =
            State { record: Some(record("g2", &["g1"])), stream: Some("s".to_owned()), applied: 7, ..State::default() };
        let knows = Own { stream: Some(("s", 5..=9)), ..own(&mine) };
        assert_eq!(plan(&knows, &peer), Plan::Resume { applied: 7 });
        let lost = Own { stream: Some(("s", 8..=9)), ..own(&mine) };
        assert!(is_full(&plan(&lost, &peer), None));
        let failed = State { failed: Some("disk full".to_owned()), ..peer.clone() };
        assert!(is_full(&plan(&knows, &failed), None));
        assert!(is_full(&plan(&Own { full: true, ..knows }, &peer), None));
    }

    #[test]
    fn a_failing_disk_does_not_make_a_whole_copy_unpromotable() {
        let mine = record("g", &[]);
        let whole = State { record: Some(Record { consistent: true, ..record("g", &[]) }), ..State::default() };
        let failing = Own { failing: true, ..own(&mine) };
        assert!(matches!(plan(&failing, &whole), Plan::Refuse(why) if why.contains("disk fails")));
        let resumes = State { stream: Some("s".to_owned()), applied: 3, ..whole.clone() };
        assert_eq!(plan(&Own { stream: Some(("s", 3..=3)), ..failing.clone() }, &resumes), Plan::Resume { applied: 3 });
        // One that is outdated or half synchronised already has nothing to lose.
        let alone = Record { alone: true, ..mine.clone() };
        assert!(is_full(&plan(&Own { record: &alone, ..failing.clone() }, &whole), None));
        let half = State { record: Some(record("g", &[])), ..State::default() };
        assert!(is_full(&plan(&failing, &half), None));
    }

    #[test]
    fn equal_tokens_of_the_same_generation_skip_the_resynchronisation() {
        let mine = record("g", &[]);
        let with = |token: &str| State {
            record: Some(Record { token: Some(token.to_owned()), ..record("g", &[]) }),
            ..State::default()
        };
        let knows = Own { stream: Some(("s", 0..=0)), token: Some("t"), ..own(&mine) };
        assert_eq!(plan(&knows, &with("t")), Plan::Unchanged { token: "t".to_owned() });
        assert!(is_full(&plan(&knows, &with("u")), None));
    }

    #[test]
    fn what_the_peer_wrote_alone_is_overwritten_only_by_the_administrators_word() {
        let mine = record("g2", &["g1"]);
        let diverged = State { record: Some(record("g3", &["g1"])), ..State::default() };
        assert!(matches!(plan(&own(&mine), &diverged), Plan::Refuse(why) if why.contains("g3")));
        let allowed = Own { discard: Some("g3"), ..own(&mine) };
        assert!(is_full(&plan(&allowed, &diverged), Some("g3")));
        let ahead = State { record: Some(record("g9", &["g2", "g1"])), ..State::default() };
        assert!(matches!(plan(&own(&mine), &ahead), Plan::Refuse(_)));
        let behind = State { record: Some(record("g1", &[])), ..State::default() };
        assert!(is_full(&plan(&own(&mine), &behind), None));
        assert!(is_full(&plan(&own(&mine), &State::default()), None));
    }

    #[test]
    fn only_what_changed_is_compared_when_both_journals_go_back_to_the_same_moment() {
        let tied = |record: Record, bases: &[&str]| {
            let bases = bases.iter().map(|&base| base.to_owned()).collect();
            Record { journal: Some(JournalTie { id: "i".to_owned(), bases }), ..record }
        };
        let mine = tied(record("g2", &["g1"]), &["s2", "s1"]);
        let with = |record: Record| State { record: Some(record), ..State::default() };
        let behind = with(tied(record("g1", &[]), &["s1"]));
        assert_eq!(plan(&own(&mine), &behind), Plan::Incremental { base: "s1".to_owned() });
        let why = |own: &Own<'_>, peer: &State| match plan(own, peer) {
            Plan::Full { why, .. } => why,
            other => format!("{other:?}"),
        };
        assert!(why(&own(&mine), &with(tied(record("g1", &[]), &["s0"]))).contains("in common"));
        let lost = State { journal_lost: Some("it is damaged".to_owned()), ..with(record("g1", &[])) };
        assert!(why(&own(&mine), &lost).contains("it is damaged"));
        assert!(why(&Own { journal: Some("it was full"), ..own(&mine) }, &behind).contains("it was full"));
        assert!(why(&Own { full: true, ..own(&mine) }, &behind).contains("asked for"));
        let failed = State { failed: Some("disk full".to_owned()), ..behind.clone() };
        assert!(why(&own(&mine), &failed).contains("disk full"));
        let diverged = with(tied(record("g3", &["g1"]), &["s1"]));
        assert!(why(&Own { discard: Some("g3"), ..own(&mine) }, &diverged).contains("both nodes wrote alone"));
        assert!(why(&own(&mine), &State::default()).contains("no data"));
    }
}
