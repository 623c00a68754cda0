//! grpc: one `grpc.health.v1.Health/Check` over HTTP/2 without TLS, as kubelet's gRPC probe.
//!
//! The exchange is small and fixed, so it is written out here: RFC 9113 for the frames, RFC
//! 7541 for the header block (literals without indexing, no Huffman coding), the gRPC
//! over HTTP/2 specification for the message. Of the answer only the message matters: the
//! protocol sends it only with status OK, so headers need not be decoded.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use super::deadline::Deadlined;
use super::{authority, Outcome};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const STREAM: u32 = 1;
/// The protocol's default frame limit, which nothing here raises.
const MAX_FRAME: usize = 16_384;
/// More than this is no health answer.
const MAX_ANSWER: usize = 4096;

pub fn check(host: &str, port: u16, service: &str, timeout: Duration) -> Outcome {
    let end = Instant::now() + timeout;
    let place = authority(host, port);
    let mut stream = Deadlined::connect(host, port, end)?;
    let failed = |error: io::Error| format!("gRPC health of {place}: {error}");
    stream
        .write_all(&request(&place, service))
        .map_err(failed)?;
    match answer(&mut stream).map_err(failed)? {
        Some(1) => Ok(format!("gRPC health of {place}: SERVING")),
        Some(status) => Err(format!(
            "gRPC health of {place}: {}",
            match status {
                0 => "UNKNOWN",
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "an unknown status",
            }
        )),
        None => Err(format!(
            "gRPC health of {place}: no answer; the service {service:?} is unknown there, or \
             grpc.health.v1.Health is not served"
        )),
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A whole number with a prefix of `bits` bits (RFC 7541 section 5.1).
fn integer(out: &mut Vec<u8>, mut value: usize, bits: u32, first: u8) {
    let limit = (1usize << bits) - 1;
    if value < limit {
        out.push(first | value.to_le_bytes()[0]);
        return;
    }
    out.push(first | limit.to_le_bytes()[0]);
    value -= limit;
    while value >= 128 {
        out.push(0x80 | (value % 128).to_le_bytes()[0]);
        value /= 128;
    }
    out.push(value.to_le_bytes()[0]);
}

/// A header without indexing, name and value as they are (RFC 7541 section 6.2.2).
fn header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(0);
    for text in [name, value] {
        integer(out, text.len(), 7, 0);
        out.extend_from_slice(text.as_bytes());
    }
}

/// HealthCheckRequest { string service = 1 }, with the gRPC message prefix.
fn message(service: &str) -> Vec<u8> {
    let mut body = vec![];
    if !service.is_empty() {
        body.push(0x0a);
        // The protobuf varint is the same as an HPACK integer of seven bits behind an empty
        // prefix, so it is written out once more here for its own rules.
        let mut length = service.len();
        while length >= 128 {
            body.push(0x80 | (length % 128).to_le_bytes()[0]);
            length /= 128;
        }
        body.push(length.to_le_bytes()[0]);
        body.extend_from_slice(service.as_bytes());
    }
    let mut out = vec![0];
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&body);
    out
}

fn request(place: &str, service: &str) -> Vec<u8> {
    let mut block = vec![];
    header(&mut block, ":method", "POST");
    header(&mut block, ":scheme", "http");
    header(&mut block, ":path", "/grpc.health.v1.Health/Check");
    header(&mut block, ":authority", place);
    header(&mut block, "content-type", "application/grpc");
    header(&mut block, "te", "trailers");
    header(&mut block, "user-agent", "kube-probe/twinhull");
    let mut out = PREFACE.to_vec();
    out.extend(frame(SETTINGS, 0, 0, &[]));
    out.extend(frame(HEADERS, END_HEADERS, STREAM, &block));
    out.extend(frame(DATA, END_STREAM, STREAM, &message(service)));
    out
}

/// Reads frames until the stream ends; the status in the answer, if there was one.
fn answer(stream: &mut (impl Read + Write)) -> io::Result<Option<u64>> {
    let mut body = vec![];
    loop {
        let mut head = [0u8; 9];
        stream.read_exact(&mut head)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let number = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        if length > MAX_FRAME {
            return Err(invalid("no HTTP/2 server"));
        }
        let mut payload = vec![0u8; length];
        stream.read_exact(&mut payload)?;
        match kind {
            SETTINGS if flags & ACK == 0 => {
                stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?;
            }
            PING if flags & ACK == 0 => stream.write_all(&frame(PING, ACK, 0, &payload))?,
            GOAWAY => return Err(invalid("the server ended the connection")),
            RST_STREAM if number == STREAM => return Ok(None),
            DATA if number == STREAM => {
                body.extend_from_slice(unpad(&payload, flags)?);
                if body.len() > MAX_ANSWER {
                    return Err(invalid("the answer is too long"));
                }
            }
            _ => {}
        }
        if number == STREAM && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            return Ok(status(&body));
        }
    }
}

fn unpad(payload: &[u8], flags: u8) -> io::Result<&[u8]> {
    if flags & PADDED == 0 {
        return Ok(payload);
    }
    let padding = usize::from(*payload.first().ok_or_else(|| invalid("bad padding"))?);
    let end = payload.len().checked_sub(padding);
    end.and_then(|end| payload.get(1..end))
        .ok_or_else(|| invalid("bad padding"))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// HealthCheckResponse { ServingStatus status = 1 } behind the five bytes of its prefix.
fn status(body: &[u8]) -> Option<u64> {
    let prefix = body.get(..5)?;
    if prefix[0] != 0 {
        return None; // compressed, though nothing was offered
    }
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    let message = body.get(5..5 + usize::try_from(length).ok()?)?;
    match message {
        [] => Some(0),
        [0x08, value] if *value < 128 => Some(u64::from(*value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_coded_as_in_rfc_7541_appendix_c1() {
        let mut out = vec![];
        integer(&mut out, 10, 5, 0);
        integer(&mut out, 1337, 5, 0);
        assert_eq!(out, vec![10, 31, 154, 10]);
    }

    #[test]
    fn the_answer_is_read() {
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(status(&[]), None);
        assert_eq!(status(&[0, 0, 0, 0, 9, 8, 1]), None);
    }

    #[test]
    fn padding_is_taken_off() {
        assert_eq!(unpad(&[2, 7, 0, 0], PADDED).ok(), Some(&[7u8][..]));
        assert!(unpad(&[9, 7], PADDED).is_err());
    }

    #[test]
    fn the_service_stands_in_the_message() {
        assert_eq!(message("ab"), vec![0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(message(""), vec![0, 0, 0, 0, 0]);
    }
}
