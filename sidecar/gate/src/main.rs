//! gate: first process of every application container of a module.
//!
//! It runs the application as its child while the sidecar renews a lease, and answers the
//! probes that kubelet would otherwise ask of a held application.

mod child;
mod cli;
mod clock;
mod link;
mod machine;
mod probe;
mod protocol;
mod run;
mod status;
mod tree;
mod volumes;

use std::process::ExitCode;

use cli::Command;

/// Exit code of a wrong command line (sysexits.h EX_USAGE) and of a refusing system (EX_OSERR).
const EX_USAGE: i32 = 64;
const EX_OSERR: i32 = 71;

fn main() -> ExitCode {
    let args: Result<Vec<String>, _> = std::env::args_os()
        .skip(1)
        .map(std::ffi::OsString::into_string)
        .collect();
    let parsed = match args {
        Ok(args) => cli::parse(&args),
        // Kubernetes manifests are JSON, so the arguments are UTF-8 there.
        Err(arg) => Err(format!("argument {arg:?} is not UTF-8")),
    };
    let code = match parsed {
        Ok(Command::Run(options)) => run::run(options).unwrap_or_else(|error| {
            eprintln!("gate: {error}");
            EX_OSERR
        }),
        Ok(Command::Probe(probe)) => probe::run(&probe),
        Ok(Command::Version) => {
            println!("gate {}", env!("CARGO_PKG_VERSION"));
            0
        }
        Ok(Command::Help) => {
            println!("{}", cli::USAGE);
            0
        }
        Err(why) => {
            eprintln!("gate: {why}\n{}", cli::USAGE);
            EX_USAGE
        }
    };
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
}
