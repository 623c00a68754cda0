//! Starts the application's first process.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::{signal, SigHandler, SigSet, Signal};
use nix::unistd::{getpgrp, isatty, setpgid, tcsetpgrp, Pid};

/// Starts `argv` in a process group of its own, with the gate's environment, directory and
/// standard streams, and returns its pid.
///
/// # Errors
/// The code that a shell would exit with (127 not found, 126 not executable) and a sentence.
pub fn spawn(argv: &[String]) -> Result<i32, (i32, String)> {
    let Some((program, args)) = argv.split_first() else {
        return Err((127, "the command is empty".to_owned()));
    };
    let mut command = Command::new(program);
    command.args(args);
    // SAFETY: between fork and exec the closure makes only system calls (sigprocmask, sigaction, setpgid, isatty,
    // signal, tcsetpgrp, prctl), all async-signal-safe, and allocates nothing.
    unsafe {
        command.pre_exec(in_child);
    }
    match command.spawn() {
        // Dropping the handle neither kills nor reaps; the gate reaps every child itself.
        Ok(child) => i32::try_from(child.id()).map_err(|error| (126, error.to_string())),
        Err(error) => {
            let code = match error.kind() {
                io::ErrorKind::NotFound => 127,
                _ => 126,
            };
            Err((code, format!("cannot start {program}: {error}")))
        }
    }
}

/// Runs in the child before exec. std has put SIGPIPE back, but leaves the signal mask as the
/// gate's own, with everything blocked.
fn in_child() -> io::Result<()> {
    SigSet::empty().thread_set_mask()?;
    reset_dispositions();
    setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    let stdin = io::stdin();
    if isatty(&stdin).unwrap_or(false) {
        // A terminal sends Ctrl-C to its foreground group and stops readers in any other.
        // SAFETY: no handler is installed, only the disposition changes, and it is put back.
        unsafe { signal(Signal::SIGTTOU, SigHandler::SigIgn) }?;
        // Not the controlling terminal: then there is no foreground group to be in.
        let _refused = tcsetpgrp(&stdin, getpgrp());
        // SAFETY: as above.
        unsafe { signal(Signal::SIGTTOU, SigHandler::SigDfl) }?;
    }
    // Where the gate is not PID 1, nobody else would end the application if the gate died.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    Ok(())
}

/// Ignored signals stay ignored over exec(2): whoever started the gate may have left some, and glibc's posix_spawn(3)
/// always leaves the two that it keeps for itself (32 and 33), which its sigaction(3) refuses to set.
fn reset_dispositions() {
    const LAST: i32 = 64;
    // The kernel's struct sigaction: handler (0: SIG_DFL), flags, restorer, mask.
    let default = [0u64; 4];
    for number in 1..=LAST {
        // SAFETY: the kernel only reads the 32 bytes. SIGKILL and SIGSTOP are refused, and need no reset.
        unsafe {
            nix::libc::syscall(
                nix::libc::SYS_rt_sigaction,
                number,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            );
        }
    }
}

/// Sends a real-time signal, which `nix::sys::signal::Signal` has no name for.
pub fn signal_realtime(pid: i32, number: i32) -> nix::Result<()> {
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    let result = unsafe { nix::libc::kill(pid, number) };
    nix::errno::Errno::result(result).map(drop)
}
