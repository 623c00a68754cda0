//! A TCP connection whose every operation ends by one deadline, however slowly the other
//! side drips.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub struct Deadlined {
    stream: TcpStream,
    end: Instant,
}

impl Deadlined {
    /// Connects to the first address of `host` that accepts.
    ///
    /// # Errors
    /// A sentence: unknown host, refused, timed out.
    pub fn connect(host: &str, port: u16, end: Instant) -> Result<Self, String> {
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let mut last =
            format!("host {host:?} is no address and not in /etc/hosts; give an address");
        for address in resolve(host, &hosts) {
            let address = SocketAddr::new(address, port);
            let attempt =
                remaining(end).and_then(|left| TcpStream::connect_timeout(&address, left));
            match attempt {
                Ok(stream) => return Ok(Deadlined { stream, end }),
                Err(error) => last = format!("connect to {address}: {error}"),
            }
        }
        Err(last)
    }
}

/// Addresses of a host. Names are looked up in /etc/hosts only: the name service of a
/// statically linked program would load libraries of the container's image, made for another
/// C library than the one linked in.
fn resolve(host: &str, hosts: &str) -> Vec<IpAddr> {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = literal.parse() {
        return vec![address];
    }
    let mut found: Vec<IpAddr> = hosts
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_ascii_whitespace();
            let address = words.next()?.parse().ok()?;
            words
                .any(|name| name.eq_ignore_ascii_case(host))
                .then_some(address)
        })
        .collect();
    if found.is_empty() && host.eq_ignore_ascii_case("localhost") {
        found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    found
}

fn remaining(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "timed out"));
    }
    Ok(left)
}

/// The kernel reports a socket timeout as EAGAIN.
fn name_timeout(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        io::Error::new(io::ErrorKind::TimedOut, "timed out")
    } else {
        error
    }
}

impl Read for Deadlined {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(remaining(self.end)?))?;
        self.stream.read(buffer).map_err(name_timeout)
    }
}

impl Write for Deadlined {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(remaining(self.end)?))?;
        self.stream.write(buffer).map_err(name_timeout)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_hosts_file() {
        let hosts =
            "127.0.0.1 localhost\n# 1.1.1.1 db\n10.0.0.9\tdb db.example # old\nfd00::9 DB\n";
        let shown =
            |host| -> Vec<String> { resolve(host, hosts).iter().map(IpAddr::to_string).collect() };
        assert_eq!(shown("db"), vec!["10.0.0.9", "fd00::9"]);
        assert_eq!(shown("10.0.0.1"), vec!["10.0.0.1"]);
        assert_eq!(shown("[fd00::1]"), vec!["fd00::1"]);
        assert!(shown("old").is_empty());
        assert_eq!(resolve("localhost", "").len(), 2);
    }
}
