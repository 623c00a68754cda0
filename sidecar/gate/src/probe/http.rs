//! httpGet: a GET that passes with a status from 200 to 399, as kubelet judges it
//! (kubernetes/kubernetes pkg/probe/http). Redirects to the same host are followed, up to
//! ten; one to another host passes. At most 10 KiB of the body are read.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use super::deadline::Deadlined;
use super::{authority, tls, Http, Outcome};

const MAX_REDIRECTS: usize = 10;
const MAX_HEAD: usize = 64 * 1024;
const MAX_BODY: usize = 10 * 1024;

pub fn check(http: &Http, host: &str, timeout: Duration) -> Outcome {
    let end = Instant::now() + timeout;
    let mut target = Target {
        tls: http.tls,
        port: http.port,
        path: absolute_path(&http.path),
    };
    for _ in 0..=MAX_REDIRECTS {
        let response = get(&target, host, &http.headers, end)?;
        let shown = format!(
            "{}://{}{} answered {}",
            if target.tls { "https" } else { "http" },
            authority(host, target.port),
            target.path,
            response.status
        );
        if !(200..400).contains(&response.status) {
            return Err(shown);
        }
        let redirect = matches!(response.status, 301 | 302 | 303 | 307 | 308);
        match response.location.filter(|_| redirect) {
            None => return Ok(shown),
            Some(location) => match target.follow(&location, host) {
                Some(next) => target = next,
                None => return Ok(format!("{shown}, to another host")),
            },
        }
    }
    Err(format!("more than {MAX_REDIRECTS} redirects"))
}

fn absolute_path(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    tls: bool,
    port: u16,
    path: String,
}

impl Target {
    /// Where a Location header leads, or None for another host (RFC 9110 section 10.2.2).
    fn follow(&self, location: &str, host: &str) -> Option<Target> {
        let location = location.split('#').next().unwrap_or_default();
        let (tls, rest) = if let Some(rest) = location.strip_prefix("http://") {
            (false, rest)
        } else if let Some(rest) = location.strip_prefix("https://") {
            (true, rest)
        } else if let Some(rest) = location.strip_prefix("//") {
            (self.tls, rest)
        } else {
            let path = if location.starts_with('/') {
                location.to_owned()
            } else if location.starts_with('?') {
                let base = self.path.split('?').next().unwrap_or("/");
                format!("{base}{location}")
            } else {
                let base = self.path.split('?').next().unwrap_or("/");
                let folder = base.rfind('/').map_or("/", |at| &base[..=at]);
                format!("{folder}{location}")
            };
            return Some(Target {
                path,
                ..self.clone()
            });
        };
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (place, path) = rest.split_at(split);
        let default = if tls { 443 } else { 80 };
        let (name, port) = match place.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()?),
            _ => (place, default),
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        (name.eq_ignore_ascii_case(host)).then(|| Target {
            tls,
            port,
            path: absolute_path(path),
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Response {
    status: u16,
    location: Option<String>,
    length: Option<usize>,
    chunked: bool,
}

fn request(target: &Target, host: &str, headers: &[(String, String)]) -> String {
    let given = |name: &str| {
        headers
            .iter()
            .any(|(key, _)| key.eq_ignore_ascii_case(name))
    };
    let mut text = format!("GET {} HTTP/1.1\r\n", target.path);
    if !given("host") {
        text.push_str(&format!("Host: {}\r\n", authority(host, target.port)));
    }
    if !given("user-agent") {
        text.push_str("User-Agent: kube-probe/twinhull\r\n");
    }
    if !given("accept") {
        text.push_str("Accept: */*\r\n");
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("Connection: close\r\n\r\n");
    text
}

fn get(
    target: &Target,
    host: &str,
    headers: &[(String, String)],
    end: Instant,
) -> Result<Response, String> {
    let connection = Deadlined::connect(host, target.port, end)?;
    let text = request(target, host, headers);
    let failed = |error: io::Error| format!("GET {}: {error}", target.path);
    if target.tls {
        exchange(&mut tls::wrap(connection, host)?, &text).map_err(failed)
    } else {
        let mut connection = connection;
        exchange(&mut connection, &text).map_err(failed)
    }
}

fn exchange(stream: &mut (impl Read + Write), request: &str) -> io::Result<Response> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut data = vec![];
    let head_end = loop {
        if let Some(at) = data.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if data.len() > MAX_HEAD || !more(stream, &mut data)? {
            return Err(invalid("no HTTP response"));
        }
    };
    let head = String::from_utf8_lossy(&data[..head_end]).into_owned();
    let response = parse_head(&head).ok_or_else(|| invalid("no HTTP response"))?;
    let body_start = head_end + 4;
    loop {
        let body = &data[body_start..];
        let whole = match response.length {
            _ if matches!(response.status, 204 | 304) => true,
            Some(length) if !response.chunked => body.len() >= length,
            _ => response.chunked && body.ends_with(b"0\r\n\r\n"),
        };
        if whole || body.len() >= MAX_BODY || !more(stream, &mut data)? {
            return Ok(response);
        }
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Reads once; false at the end of the stream.
fn more(stream: &mut impl Read, data: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0u8; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(false),
            Ok(count) => {
                data.extend_from_slice(&chunk[..count]);
                return Ok(true);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A server that closes without close_notify has still answered.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

fn parse_head(head: &str) -> Option<Response> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.splitn(3, ' ');
    if !words.next()?.starts_with("HTTP/1.") {
        return None;
    }
    let mut response = Response {
        status: words.next()?.parse().ok()?,
        location: None,
        length: None,
        chunked: false,
    };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "location" => response.location = Some(value.to_owned()),
            "content-length" => response.length = value.parse().ok(),
            "transfer-encoding" => response.chunked = value.eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target {
            tls: false,
            port: 8080,
            path: "/a/b?x".into(),
        }
    }

    #[test]
    fn redirects_within_the_host_are_followed() {
        let follow = |location| target().follow(location, "10.0.0.1");
        assert_eq!(
            follow("/c").map(|t| (t.port, t.path)),
            Some((8080, "/c".into()))
        );
        assert_eq!(follow("c").map(|t| t.path), Some("/a/c".into()));
        assert_eq!(follow("?y").map(|t| t.path), Some("/a/b?y".into()));
        assert_eq!(
            follow("https://10.0.0.1/d#e"),
            Some(Target {
                tls: true,
                port: 443,
                path: "/d".into()
            })
        );
        assert_eq!(
            follow("http://10.0.0.1:81").map(|t| (t.port, t.path)),
            Some((81, "/".into()))
        );
        assert_eq!(follow("http://elsewhere/"), None);
        assert_eq!(
            target()
                .follow("http://[fd00::1]:81/x", "fd00::1")
                .map(|t| t.port),
            Some(81)
        );
    }

    #[test]
    fn the_head_is_read_as_rfc_9112_says() {
        let head = "HTTP/1.1 302 Found\r\nlocation:  /x \r\nContent-Length: 3";
        let expected = Response {
            status: 302,
            location: Some("/x".into()),
            length: Some(3),
            chunked: false,
        };
        assert_eq!(parse_head(head), Some(expected));
        assert_eq!(parse_head("SSH-2.0-x"), None);
    }

    #[test]
    fn given_headers_replace_the_usual_ones() {
        let text = request(&target(), "h", &[("Host".into(), "example".into())]);
        assert_eq!(text.matches("Host:").count(), 1);
        assert!(text.contains("Host: example\r\n"));
    }
}
