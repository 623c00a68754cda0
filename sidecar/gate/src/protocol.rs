//! The lease protocol between gate and sidecar, version 1: one JSON object a line.
//!
//! gate to sidecar: a `hello` first, then a state line at each change and as the answer to
//! each order. sidecar to gate: `{"run": {...}}` (grant and renewal) or `{"stop": {...}}`.
//! Unknown keys are ignored, so that either side may be the newer one.

use std::time::Duration;

use serde_json::{json, Map, Value};

/// Protocol version sent in `hello`.
pub const VERSION: u64 = 1;
/// Longest line either side may send, newline included.
pub const MAX_LINE: usize = 64 * 1024;

/// An order of the sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    Run(Run),
    Stop(Stop),
    /// A JSON object without a key of this version.
    Unknown,
}

/// Grants or renews the lease of one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub epoch: u64,
    /// The lease counts from the receipt of the line ...
    pub ttl: Duration,
    /// ... and never reaches past this CLOCK_BOOTTIME, so that a line which lay in the socket
    /// while the gate was frozen gives no time that its sender did not mean to give.
    pub until: Option<Duration>,
    /// The full command, where the container has none of its own.
    pub argv: Option<Vec<String>>,
    /// Who restarts an application that exits by itself: the sidecar, or (false) kubelet.
    pub restart_by_sidecar: bool,
    /// The image's STOPSIGNAL; SIGTERM where the sidecar names none.
    pub stop_signal: Option<i32>,
}

/// Orderly stop of an epoch; `grace` zero kills at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    pub epoch: u64,
    pub grace: Duration,
}

fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

fn unsigned(object: &Map<String, Value>, name: &str) -> Result<Option<u64>, String> {
    match field(object, name) {
        None => Ok(None),
        Some(value) => value
            .as_u64()
            .map(Some)
            .ok_or_else(|| format!("{name} is not a whole number of zero or more")),
    }
}

fn required(object: &Map<String, Value>, name: &str) -> Result<u64, String> {
    unsigned(object, name)?.ok_or_else(|| format!("{name} is missing"))
}

fn strings(value: &Value) -> Result<Vec<String>, String> {
    let array = value.as_array().ok_or("argv is not an array")?;
    let items: Option<Vec<String>> = array
        .iter()
        .map(|item| item.as_str().map(str::to_owned))
        .collect();
    items.ok_or_else(|| "argv holds something that is not a string".to_owned())
}

/// Parses one line of the sidecar. Errors are sentences for the log.
pub fn parse_order(line: &[u8]) -> Result<Order, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let object = value.as_object().ok_or("not a JSON object")?;
    if let Some(run) = field(object, "run") {
        let run = run.as_object().ok_or("run is not an object")?;
        let stop_signal = match unsigned(run, "stop_signal")? {
            None => None,
            Some(number @ 1..=64) => i32::try_from(number).ok(),
            Some(number) => return Err(format!("stop_signal {number} is no signal")),
        };
        return Ok(Order::Run(Run {
            epoch: required(run, "epoch")?,
            ttl: Duration::from_millis(required(run, "ttl_ms")?),
            until: unsigned(run, "until_ms")?.map(Duration::from_millis),
            argv: field(run, "argv").map(strings).transpose()?,
            restart_by_sidecar: field(run, "restart").and_then(Value::as_str) == Some("gate"),
            stop_signal,
        }));
    }
    if let Some(stop) = field(object, "stop") {
        let stop = stop.as_object().ok_or("stop is not an object")?;
        return Ok(Order::Stop(Stop {
            epoch: required(stop, "epoch")?,
            grace: Duration::from_millis(required(stop, "grace_ms")?),
        }));
    }
    Ok(Order::Unknown)
}

/// First line of every connection. `original` is the container's own command, `null` where
/// the image's is to be used; `args` are the container's arguments, after kubelet has
/// expanded `$(VAR)` in them.
pub fn hello(container: &str, original: Option<&[String]>, args: &[String]) -> String {
    let line = json!({"v": VERSION, "hello": {
        "container": container,
        "pid": std::process::id(),
        "original": original,
        "args": args,
    }});
    format!("{line}\n")
}

/// How the application ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// The code that a shell would report: 128 + signal for one ended by a signal.
    pub fn shell_code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// What the gate reports at each change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateLine<'a> {
    pub state: &'static str,
    pub pid: Option<i32>,
    pub exit: Option<Exit>,
    pub epoch: u64,
    pub reason: &'a str,
}

impl StateLine<'_> {
    pub fn encode(&self) -> String {
        let (code, signal) = match self.exit {
            None => (None, None),
            Some(Exit::Code(code)) => (Some(code), None),
            Some(Exit::Signal(signal)) => (None, Some(signal)),
        };
        let line = json!({
            "state": self.state,
            "pid": self.pid,
            "code": code,
            "signal": signal,
            "epoch": self.epoch,
            "reason": if self.reason.is_empty() { None } else { Some(self.reason) },
        });
        format!("{line}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_with_all_fields_is_understood() {
        let line = br#"{"run":{"epoch":7,"ttl_ms":1500,"until_ms":99,"argv":["a","b"],
            "restart":"gate","stop_signal":2,"later":1},"more":0}"#;
        let expected = Run {
            epoch: 7,
            ttl: Duration::from_millis(1500),
            until: Some(Duration::from_millis(99)),
            argv: Some(vec!["a".into(), "b".into()]),
            restart_by_sidecar: true,
            stop_signal: Some(2),
        };
        assert_eq!(parse_order(line), Ok(Order::Run(expected)));
    }

    #[test]
    fn a_bad_line_names_the_field() {
        let cases: [(&[u8], &str); 6] = [
            (br#"{"run":{"ttl_ms":1}}"#, "epoch is missing"),
            (br#"{"run":{"epoch":1}}"#, "ttl_ms is missing"),
            (
                br#"{"run":{"epoch":1,"ttl_ms":-1}}"#,
                "ttl_ms is not a whole number of zero or more",
            ),
            (
                br#"{"run":{"epoch":1,"ttl_ms":1,"argv":[1]}}"#,
                "argv holds something that is not a string",
            ),
            (
                br#"{"run":{"epoch":1,"ttl_ms":1,"stop_signal":99}}"#,
                "stop_signal 99 is no signal",
            ),
            (br#"{"stop":{"epoch":1}}"#, "grace_ms is missing"),
        ];
        for (line, message) in cases {
            assert_eq!(parse_order(line), Err(message.to_owned()));
        }
        assert!(parse_order(b"run").is_err());
        assert_eq!(parse_order(b"[]"), Err("not a JSON object".to_owned()));
    }

    #[test]
    fn an_object_of_a_later_version_is_no_error() {
        assert_eq!(parse_order(br#"{"pause":{}}"#), Ok(Order::Unknown));
    }
}
