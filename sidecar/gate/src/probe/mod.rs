//! `gate probe`: answers kubelet for a held application, and does the original check for a
//! running one.
//!
//! Exit codes: 0 passes, 1 fails; a reason goes to standard output, which kubelet shows in
//! the pod's events.
//!
//! kubelet counts a container's initial delay and its startup probe from the start of the
//! container. Here the application starts much later, at the release, and again after each
//! switchover, while kubelet's startup probe has long passed. So a liveness probe carries the
//! initial delay and the startup check with it, counted from the application's own start,
//! and the gate counts the failures: at the threshold it ends the application itself and
//! reports a failure to the sidecar, which restarts it or hands over. kubelet, whose own
//! threshold is set a little higher, acts only if the gate does not.

mod deadline;
mod exec;
mod grpc;
mod http;
mod tcp;
mod tls;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::status::{Client, Status};

/// The pod's address, set by the operator from `status.podIP`: where kubelet sends the
/// original probe.
const POD_IP: &str = "TWINHULL_POD_IP";

/// One command line of `gate probe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub container: String,
    pub socket: String,
    pub timeout: Duration,
    pub role: Role,
    pub check: Check,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Passes while held, otherwise the check decides.
    Plain,
    Liveness(Liveness),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Liveness {
    pub threshold: u32,
    pub grace_ms: u64,
    pub initial_delay: Duration,
    pub startup: Option<Startup>,
}

/// The startup probe that a liveness probe does again after each start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    pub check: Check,
    /// Time from the application's start within which it must succeed.
    pub window: Duration,
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    None,
    Exec(Vec<String>),
    Http(Http),
    Tcp {
        host: Option<String>,
        port: u16,
    },
    Grpc {
        host: Option<String>,
        port: u16,
        service: String,
    },
}

/// An HTTP GET as kubelet's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    pub host: Option<String>,
    pub port: u16,
    pub path: String,
    pub tls: bool,
    pub headers: Vec<(String, String)>,
}

/// What a check found; the text says why.
pub type Outcome = Result<String, String>;

/// The original probe's host, or the pod's own address, or loopback outside a pod.
fn host(given: Option<&str>) -> String {
    given
        .map(str::to_owned)
        .or_else(|| std::env::var(POD_IP).ok())
        .filter(|host| !host.is_empty())
        .unwrap_or_else(|| "127.0.0.1".to_owned())
}

/// `host:port` as it stands in a URL or a Host header.
fn authority(host: &str, port: u16) -> String {
    match host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

fn perform(check: &Check, timeout: Duration) -> Outcome {
    match check {
        Check::None => Ok("nothing to check".to_owned()),
        Check::Exec(command) => exec::check(command, timeout),
        Check::Http(http) => http::check(http, &host(http.host.as_deref()), timeout),
        Check::Tcp { host: given, port } => tcp::check(&host(given.as_deref()), *port, timeout),
        Check::Grpc {
            host: given,
            port,
            service,
        } => grpc::check(&host(given.as_deref()), *port, service, timeout),
    }
}

/// What a liveness probe has to do at this moment.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    Pass(&'static str),
    Startup(&'a Startup),
    Liveness,
}

fn next_step<'a>(liveness: &'a Liveness, status: &Status) -> Step<'a> {
    match &liveness.startup {
        Some(startup) if !status.started => Step::Startup(startup),
        _ if status.age < liveness.initial_delay => Step::Pass("initial delay"),
        _ => Step::Liveness,
    }
}

/// Does the probe; returns the exit code.
///
/// The outcome is printed before the gate is told of it: a last failure ends the container's processes, this one too.
pub fn run(probe: &Probe) -> i32 {
    let verdict = judge(probe).unwrap_or_else(|text| Verdict {
        outcome: Err(text),
        report: None,
    });
    let code = say(&verdict.outcome);
    match verdict.report.map(Report::send) {
        Some(Err(text)) => say(&Err(text)),
        Some(Ok(())) | None => code,
    }
}

fn say(outcome: &Outcome) -> i32 {
    let (Ok(text) | Err(text)) = outcome;
    println!("{text}");
    i32::from(outcome.is_err())
}

/// What the check found, and what the gate must be told of it.
struct Verdict {
    outcome: Outcome,
    report: Option<Report>,
}

/// A liveness result for the gate to count.
struct Report {
    client: Client,
    container: String,
    epoch: u64,
    ok: bool,
    threshold: u32,
    grace_ms: u64,
}

impl Report {
    fn send(self) -> Result<(), String> {
        self.client
            .liveness(self.epoch, self.ok, self.threshold, self.grace_ms)
            .map_err(|error| unreachable(&self.container, &error))
    }
}

fn unreachable(container: &str, error: &io::Error) -> String {
    format!("the gate of container {container} does not answer: {error}")
}

fn judge(probe: &Probe) -> Result<Verdict, String> {
    let unreachable = |error| unreachable(&probe.container, &error);
    let client = Client::new(&probe.container, &probe.socket).map_err(unreachable)?;
    let status = client.status().map_err(unreachable)?;
    let only = |outcome| Verdict {
        outcome,
        report: None,
    };
    if !status.running {
        return Ok(only(Ok(
            "held: the application does not run here".to_owned()
        )));
    }
    let liveness = match &probe.role {
        Role::Plain => return Ok(only(perform(&probe.check, probe.timeout))),
        Role::Liveness(liveness) => liveness,
    };
    let counted = |outcome: Outcome, client, threshold| Verdict {
        report: Some(Report {
            client,
            container: probe.container.clone(),
            epoch: status.epoch,
            ok: outcome.is_ok(),
            threshold,
            grace_ms: liveness.grace_ms,
        }),
        outcome,
    };
    Ok(match next_step(liveness, &status) {
        Step::Pass(why) => only(Ok(why.to_owned())),
        Step::Startup(startup) => match perform(&startup.check, startup.timeout) {
            Ok(text) => {
                client.started(status.epoch).map_err(unreachable)?;
                only(Ok(format!("started: {text}")))
            }
            Err(text) if status.age < startup.window => only(Ok(format!("still starting: {text}"))),
            // The window already holds the startup probe's whole patience.
            Err(text) => counted(Err(format!("not started in time: {text}")), client, 1),
        },
        Step::Liveness => counted(
            perform(&probe.check, probe.timeout),
            client,
            liveness.threshold,
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(age: u64, started: bool) -> Status {
        Status {
            running: true,
            epoch: 1,
            age: Duration::from_millis(age),
            started,
        }
    }

    #[test]
    fn the_startup_check_comes_before_liveness() {
        let liveness = Liveness {
            threshold: 3,
            grace_ms: 0,
            initial_delay: Duration::from_millis(100),
            startup: Some(Startup {
                check: Check::None,
                window: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
            }),
        };
        assert!(matches!(
            next_step(&liveness, &status(500, false)),
            Step::Startup(_)
        ));
        assert_eq!(
            next_step(&liveness, &status(50, true)),
            Step::Pass("initial delay")
        );
        assert_eq!(next_step(&liveness, &status(500, true)), Step::Liveness);
    }

    #[test]
    fn an_ipv6_host_is_put_in_brackets() {
        assert_eq!(authority("fd00::1", 80), "[fd00::1]:80");
        assert_eq!(authority("10.0.0.1", 80), "10.0.0.1:80");
    }
}
