//! `gate run`: the loop that carries the machine's decisions out.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{kill, SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::Pid;

use crate::child;
use crate::clock::boottime;
use crate::link::{Link, Received};
use crate::machine::{Effect, Event, Machine};
use crate::protocol::{hello, parse_order};
use crate::status::Listener;
use crate::tree;
use crate::volumes::Volumes;

/// Exit code that asks the runtime to create the container again (sysexits.h EX_TEMPFAIL).
const EX_TEMPFAIL: i32 = 75;

/// Command line of `gate run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    pub container: String,
    pub socket: String,
    /// The container has no command: the grant brings the image's.
    pub image_command: bool,
    /// Command with its arguments, or with `image_command` the arguments alone.
    pub args: Vec<String>,
    /// Where the container has its replicated volumes.
    pub volumes: Vec<String>,
    /// End when the sidecar has gone and nothing runs (the *process* workload, whose gate
    /// belongs to one sidecar process).
    pub exit_without_sidecar: bool,
}

struct Gate {
    options: RunOptions,
    machine: Machine,
    link: Link,
    volumes: Volumes,
    /// The sidecar was there once.
    met: bool,
    end: Option<i32>,
}

/// Runs until the container ends; returns the exit code.
///
/// # Errors
/// The system refuses something the gate cannot do without (a signalfd, a timerfd, ...).
pub fn run(options: RunOptions) -> io::Result<i32> {
    tree::adopt_orphans()?;
    let mut mask = SigSet::all();
    // Faults of the gate itself are its end; SIGTTOU and SIGTTIN have no meaning for it.
    for fault in [
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGFPE,
        Signal::SIGILL,
        Signal::SIGABRT,
        Signal::SIGTRAP,
    ] {
        mask.remove(fault);
    }
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let timer = TimerFd::new(
        ClockId::CLOCK_BOOTTIME,
        TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
    )?;
    let listener = Listener::bind(&options.container, &options.socket)?;
    let command = (!options.image_command).then(|| options.args.clone());
    let mut gate = Gate {
        machine: Machine::new(command),
        link: Link::new(options.socket.clone()),
        volumes: Volumes::new(&options.volumes)?,
        options,
        met: false,
        end: None,
    };
    loop {
        if let Some(code) = gate.end {
            return Ok(code);
        }
        gate.wait(&signals, &timer, &listener)?;
        // The deadline first: whatever else is there may have lain for long.
        gate.feed(Event::Tick);
        gate.take_signals(&signals)?;
        gate.reap();
        while let Some(event) = listener.serve(&gate.machine, boottime()) {
            gate.feed(event);
        }
        gate.leave_if_unmounted();
        gate.talk();
    }
}

impl Gate {
    /// Waits for the next thing to happen.
    fn wait(&self, signals: &SignalFd, timer: &TimerFd, listener: &Listener) -> io::Result<()> {
        let deadlines = [self.machine.next_deadline(), self.link.retry_at()];
        match deadlines.into_iter().flatten().min() {
            // Zero would disarm it (timerfd_settime(2)).
            Some(at) => timer.set(
                Expiration::OneShot(TimeSpec::from_duration(at.max(Duration::from_nanos(1)))),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME,
            )?,
            None => timer.unset()?,
        }
        let mut fds = vec![
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(timer.as_fd(), PollFlags::POLLIN),
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(stream) = self.link.as_fd() {
            let mut flags = PollFlags::POLLIN;
            flags.set(PollFlags::POLLOUT, self.link.wants_write());
            fds.push(PollFd::new(stream, flags));
        }
        if self.may_leave() {
            fds.extend(
                self.volumes
                    .as_fd()
                    .map(|died| PollFd::new(died, PollFlags::POLLIN)),
            );
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A volume may be lost with its sidecar: then a new one must come first, to clear the node's dead mount.
    fn may_leave(&self) -> bool {
        self.link.connected() && !self.machine.occupied()
    }

    fn leave_if_unmounted(&mut self) {
        if self.end.is_none() && self.may_leave() && self.volumes.lost() {
            eprintln!(
                "gate: this container was bound to a mount of the mirror that has ended since: ending, to be created \
                 again"
            );
            self.end = Some(EX_TEMPFAIL);
        }
    }

    fn take_signals(&mut self, signals: &SignalFd) -> io::Result<()> {
        while let Some(info) = signals.read_signal()? {
            let Ok(number) = i32::try_from(info.ssi_signo) else {
                continue;
            };
            let child_or_tty = [Signal::SIGCHLD, Signal::SIGTTIN, Signal::SIGTTOU]
                .iter()
                .any(|signal| *signal as i32 == number);
            if !child_or_tty {
                self.feed(Event::Signal(number));
            }
        }
        Ok(())
    }

    fn reap(&mut self) {
        let reaped = tree::reap(self.machine.state().pid);
        if let Some(exit) = reaped.first {
            self.feed(Event::ChildExited(exit));
        }
        if reaped.empty && self.machine.occupied() {
            self.feed(Event::TreeGone);
        }
    }

    fn talk(&mut self) {
        let now = boottime();
        if self.link.try_connect(now) {
            self.met = true;
            let original = (!self.options.image_command).then_some(self.options.args.as_slice());
            let args: &[String] = if self.options.image_command {
                &self.options.args
            } else {
                &[]
            };
            self.link
                .send(&hello(&self.options.container, original, args));
            self.report();
        }
        self.link.flush();
        if let Received::Lines(lines) = self.link.receive() {
            for line in lines {
                match parse_order(&line) {
                    Ok(order) => {
                        self.link.accept();
                        self.feed(Event::Order(order));
                    }
                    Err(why) => {
                        self.link.reject(&why);
                        break;
                    }
                }
            }
        }
        let alone = self.met && !self.link.connected() && !self.machine.occupied();
        if self.options.exit_without_sidecar && alone && self.end.is_none() {
            self.end = Some(0);
        }
    }

    fn feed(&mut self, event: Event) {
        for effect in self.machine.on(event, boottime()) {
            match effect {
                Effect::Spawn(argv) => {
                    let ready = self.volumes.check().map_err(|why| (EX_TEMPFAIL, why));
                    let spawned = match ready.and_then(|()| child::spawn(&argv)) {
                        Ok(pid) => Event::Spawned(pid),
                        Err((code, why)) => {
                            eprintln!("gate: {why}");
                            Event::SpawnFailed(code, why)
                        }
                    };
                    self.feed(spawned);
                }
                Effect::Signal(number) => self.signal(number),
                Effect::KillTree => tree::kill_all(),
                Effect::Report => self.report(),
                Effect::Exit(code) => self.end = Some(code),
            }
        }
    }

    fn report(&mut self) {
        self.link.send(&self.machine.state().encode());
    }

    fn signal(&self, number: i32) {
        let Some(pid) = self.machine.state().pid else {
            return;
        };
        // The child may have ended: it is not reaped yet then, so the pid is still its own.
        let sent = match Signal::try_from(number) {
            Ok(signal) => kill(Pid::from_raw(pid), signal),
            Err(_) => child::signal_realtime(pid, number),
        };
        if let Err(error) = sent {
            eprintln!("gate: cannot send signal {number} to the application: {error}");
        }
    }
}
