//! Command line of the gate.

use std::time::Duration;

use crate::probe::{Check, Http, Liveness, Probe, Role, Startup};
use crate::run::RunOptions;

/// Where the gate's volume is mounted in every container.
pub const DEFAULT_SOCKET: &str = "/twinhull/gate/lease.sock";

pub const USAGE: &str = "\
usage: gate run --container NAME [--socket PATH] [--volume PATH]... [--exit-without-sidecar]
                (-- COMMAND [ARG...] | --image-command -- [ARG...])
       gate probe KIND --container NAME [--socket PATH] [--timeout-ms N]
                [--liveness --threshold N --grace-ms N --initial-delay-ms N
                 [--startup '[\"KIND\", ...]' --startup-window-ms N --startup-timeout-ms N]]
                [CHECK OPTIONS]
         exec -- COMMAND [ARG...]
         http --port N [--host H] [--path /] [--scheme http|https] [--header 'Name: value']...
         tcp  --port N [--host H]
         grpc --port N [--host H] [--service NAME]
         none (with --startup only)
       gate version";

#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Run(RunOptions),
    Probe(Box<Probe>),
    Version,
    Help,
}

/// Options in order; each value is asked for by name, what is left over is an error.
struct Options {
    named: Vec<(String, String)>,
    flags: Vec<String>,
    rest: Option<Vec<String>>,
}

const FLAGS: [&str; 3] = ["--image-command", "--exit-without-sidecar", "--liveness"];

impl Options {
    fn parse(args: &[String]) -> Result<Self, String> {
        let mut options = Options {
            named: vec![],
            flags: vec![],
            rest: None,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if arg == "--" {
                options.rest = Some(args.cloned().collect());
                break;
            }
            if !arg.starts_with("--") {
                return Err(format!("unexpected argument {arg:?}; a command follows --"));
            }
            if FLAGS.contains(&arg.as_str()) {
                options.flags.push(arg.clone());
            } else {
                let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
                options.named.push((arg.clone(), value.clone()));
            }
        }
        Ok(options)
    }

    fn flag(&mut self, name: &str) -> bool {
        let before = self.flags.len();
        self.flags.retain(|flag| flag != name);
        self.flags.len() != before
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.named.iter().position(|(key, _)| key == name)?;
        Some(self.named.remove(at).1)
    }

    fn need(&mut self, name: &str) -> Result<String, String> {
        self.take(name).ok_or_else(|| format!("{name} is missing"))
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| format!("{name} {text:?} is not a whole number")),
        }
    }

    fn finish(self) -> Result<Option<Vec<String>>, String> {
        if let Some((name, _)) = self.named.first() {
            return Err(format!("{name} is not known here"));
        }
        if let Some(name) = self.flags.first() {
            return Err(format!("{name} is not known here"));
        }
        Ok(self.rest)
    }
}

/// Parses the arguments after the program's name. Errors are sentences.
pub fn parse(args: &[String]) -> Result<Command, String> {
    match args.split_first() {
        None => Err("no command given".to_owned()),
        Some((word, rest)) => match word.as_str() {
            "run" => run(rest).map(Command::Run),
            "probe" => probe(rest).map(|probe| Command::Probe(Box::new(probe))),
            "version" | "--version" => Ok(Command::Version),
            "help" | "--help" | "-h" => Ok(Command::Help),
            other => Err(format!("unknown command {other:?}")),
        },
    }
}

fn run(args: &[String]) -> Result<RunOptions, String> {
    let mut options = Options::parse(args)?;
    let container = options.need("--container")?;
    let socket = options.take("--socket");
    let image_command = options.flag("--image-command");
    let exit_without_sidecar = options.flag("--exit-without-sidecar");
    let volumes = std::iter::from_fn(|| options.take("--volume")).collect();
    let args = options.finish()?.unwrap_or_default();
    if args.is_empty() && !image_command {
        return Err("no command after --; a container without one needs --image-command".into());
    }
    Ok(RunOptions {
        container,
        socket: socket.unwrap_or_else(|| DEFAULT_SOCKET.to_owned()),
        image_command,
        args,
        volumes,
        exit_without_sidecar,
    })
}

fn probe(args: &[String]) -> Result<Probe, String> {
    let (kind, rest) = args.split_first().ok_or("probe: no kind given")?;
    let mut options = Options::parse(rest)?;
    let container = options.need("--container")?;
    let socket = options.take("--socket");
    let timeout = options.number("--timeout-ms")?.unwrap_or(1000);
    let liveness = options.flag("--liveness");
    let threshold = options.number("--threshold")?.unwrap_or(3);
    let grace_ms = options.number("--grace-ms")?.unwrap_or(30_000);
    let initial_delay = options.number("--initial-delay-ms")?.unwrap_or(0);
    let startup = options.take("--startup");
    let window = options.number("--startup-window-ms")?.unwrap_or(30_000);
    let startup_timeout = options.number("--startup-timeout-ms")?.unwrap_or(timeout);
    let check = check(kind, options)?;
    if check == Check::None && startup.is_none() {
        return Err("probe none: needs --startup".into());
    }
    if startup.is_some() && !liveness {
        return Err("--startup needs --liveness".into());
    }
    let startup = startup
        .map(|text| -> Result<Startup, String> {
            let words: Vec<String> = serde_json::from_str(&text)
                .map_err(|error| format!("--startup is no JSON array of strings: {error}"))?;
            let (kind, rest) = words.split_first().ok_or("--startup is empty")?;
            Ok(Startup {
                check: self::check(kind, Options::parse(rest)?)?,
                window: Duration::from_millis(window),
                timeout: Duration::from_millis(startup_timeout.max(1)),
            })
        })
        .transpose()?;
    Ok(Probe {
        container,
        socket: socket.unwrap_or_else(|| DEFAULT_SOCKET.to_owned()),
        timeout: Duration::from_millis(timeout.max(1)),
        role: if liveness {
            Role::Liveness(Liveness {
                threshold: u32::try_from(threshold).map_err(|_| "--threshold is too large")?,
                grace_ms,
                initial_delay: Duration::from_millis(initial_delay),
                startup,
            })
        } else {
            Role::Plain
        },
        check,
    })
}

fn check(kind: &str, mut options: Options) -> Result<Check, String> {
    let port = |options: &mut Options| -> Result<u16, String> {
        let text = options.need("--port")?;
        match text.parse() {
            Ok(0) | Err(_) => Err(format!("--port {text:?} is no port number (1 to 65535)")),
            Ok(port) => Ok(port),
        }
    };
    match kind {
        "none" => {
            options.finish()?;
            Ok(Check::None)
        }
        "exec" => match options.finish()? {
            Some(command) if !command.is_empty() => Ok(Check::Exec(command)),
            _ => Err("exec: no command after --".into()),
        },
        "http" => {
            let port = port(&mut options)?;
            let host = options.take("--host");
            let path = options.take("--path").unwrap_or_else(|| "/".to_owned());
            let tls = match options.take("--scheme").map(|s| s.to_ascii_lowercase()) {
                None => false,
                Some(scheme) if scheme == "http" => false,
                Some(scheme) if scheme == "https" => true,
                Some(scheme) => return Err(format!("--scheme {scheme:?} is not http or https")),
            };
            let mut headers = vec![];
            while let Some(header) = options.take("--header") {
                let (name, value) = header
                    .split_once(':')
                    .ok_or_else(|| format!("--header {header:?} has no colon"))?;
                headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            options.finish()?;
            Ok(Check::Http(Http {
                host,
                port,
                path,
                tls,
                headers,
            }))
        }
        "tcp" => {
            let port = port(&mut options)?;
            let host = options.take("--host");
            options.finish()?;
            Ok(Check::Tcp { host, port })
        }
        "grpc" => {
            let port = port(&mut options)?;
            let host = options.take("--host");
            let service = options.take("--service").unwrap_or_default();
            options.finish()?;
            Ok(Check::Grpc {
                host,
                port,
                service,
            })
        }
        other => Err(format!("unknown probe kind {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn run_takes_everything_behind_the_dashes() {
        let command = parse(&words(
            "run --container db --volume /a --volume /b -- postgres --image-command -- x",
        ));
        let expected = RunOptions {
            container: "db".into(),
            socket: DEFAULT_SOCKET.into(),
            image_command: false,
            args: words("postgres --image-command -- x"),
            volumes: vec!["/a".into(), "/b".into()],
            exit_without_sidecar: false,
        };
        assert_eq!(command, Ok(Command::Run(expected)));
    }

    #[test]
    fn an_image_command_needs_no_arguments() {
        let command = parse(&words("run --container db --image-command --"));
        assert!(matches!(
            command,
            Ok(Command::Run(RunOptions { image_command: true, args, .. })) if args.is_empty()
        ));
    }

    #[test]
    fn a_probe_carries_its_startup_check() {
        let mut args = words("probe http --container db --liveness --port 80 --startup");
        args.push(r#"["tcp","--port","81"]"#.into());
        let Ok(Command::Probe(probe)) = parse(&args) else {
            panic!("not a probe");
        };
        let Role::Liveness(liveness) = probe.role else {
            panic!("not a liveness probe");
        };
        assert_eq!(
            liveness.startup.map(|startup| startup.check),
            Some(Check::Tcp {
                host: None,
                port: 81
            })
        );
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("run -- x", "--container is missing"),
            (
                "run --container c",
                "no command after --; a container without one needs --image-command",
            ),
            ("run --container c --foo x -- x", "--foo is not known here"),
            ("run --container", "--container needs a value"),
            ("probe tcp --container c", "--port is missing"),
            (
                "probe tcp --container c --port 0",
                "--port \"0\" is no port number (1 to 65535)",
            ),
            ("probe exec --container c", "exec: no command after --"),
            ("probe ftp --container c", "unknown probe kind \"ftp\""),
            ("probe none --container c", "probe none: needs --startup"),
            (
                "probe http --container c --port 1 --scheme ftp",
                "--scheme \"ftp\" is not http or https",
            ),
            ("go", "unknown command \"go\""),
        ];
        for (line, message) in cases {
            assert_eq!(parse(&words(line)), Err(message.to_owned()), "{line}");
        }
    }
}
