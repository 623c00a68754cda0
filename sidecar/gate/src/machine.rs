//! The decision of the gate: what happens to the application at each event. Pure: no clock,
//! no process, no socket; `run.rs` carries the effects out.
//!
//! Invariant: the application runs only while a lease of its epoch holds. The lease bounds an
//! orderly stop too: one deadline, known to the peer node, ends everything the application
//! may still do.

use std::time::Duration;

use crate::protocol::{Exit, Order, Run, StateLine, Stop};

/// SIGINT, SIGQUIT, SIGKILL and SIGTERM by number, the same on every Linux architecture.
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;
const SIGTERM: i32 = 15;
/// SIGRTMIN+3, which systemd takes as its order to halt.
const SIGHALT: i32 = 37;

/// How often a killed tree that is not gone yet is killed again: a process may fork between
/// the look at the tree and the signal.
const KILL_AGAIN: Duration = Duration::from_millis(100);

/// What the gate is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time has passed; sent before anything else is looked at.
    Tick,
    Order(Order),
    /// The effect `Spawn` was carried out ...
    Spawned(i32),
    /// ... or could not be: exit code as a shell would give, and why.
    SpawnFailed(i32, String),
    ChildExited(Exit),
    /// No process of the application is left.
    TreeGone,
    /// A signal that someone sent to the gate.
    Signal(i32),
    /// Result of a liveness check of this epoch.
    Liveness {
        epoch: u64,
        ok: bool,
        threshold: u32,
        grace: Duration,
    },
    /// The startup check of this epoch has succeeded.
    Started {
        epoch: u64,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Spawn(Vec<String>),
    /// Signal to the application's first process.
    Signal(i32),
    /// SIGKILL to every process of the application.
    KillTree,
    /// Tell the sidecar the state.
    Report,
    /// End the gate with this code.
    Exit(i32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Held,
    Running,
    /// Asked to end; killed at `kill_at` (None: by the lease or by kubelet alone).
    Stopping {
        kill_at: Option<Duration>,
    },
    /// Killed, or its first process has ended; waiting until the whole tree is gone.
    Ending {
        kill_again: Duration,
    },
    Exited,
}

/// Why the application ends, which decides what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    ByItself,
    Liveness,
    Stopped,
    LeaseExpired,
}

/// State of one gate.
#[derive(Debug)]
pub struct Machine {
    /// The container's own command; None: each grant brings the image's.
    command: Option<Vec<String>>,
    phase: Phase,
    cause: Cause,
    /// Highest epoch ever granted or stopped; only a higher one starts the application.
    epoch: u64,
    lease: Duration,
    restart_by_sidecar: bool,
    stop_signal: i32,
    pid: Option<i32>,
    exit: Option<Exit>,
    reason: String,
    /// Someone other than the sidecar ends this container: pod deletion, or kubelet.
    terminated: bool,
    started_at: Duration,
    started: bool,
    liveness_failures: u32,
}

impl Machine {
    pub fn new(command: Option<Vec<String>>) -> Self {
        Machine {
            command,
            phase: Phase::Held,
            cause: Cause::Stopped,
            epoch: 0,
            lease: Duration::ZERO,
            restart_by_sidecar: false,
            stop_signal: SIGTERM,
            pid: None,
            exit: None,
            reason: String::new(),
            terminated: false,
            started_at: Duration::ZERO,
            started: false,
            liveness_failures: 0,
        }
    }

    pub fn state(&self) -> StateLine<'_> {
        StateLine {
            state: match self.phase {
                Phase::Held => "held",
                Phase::Running => "running",
                Phase::Stopping { .. } | Phase::Ending { .. } => "stopping",
                Phase::Exited => "exited",
            },
            pid: self.pid,
            exit: self.exit,
            epoch: self.epoch,
            reason: &self.reason,
        }
    }

    /// Whether any process of the application may exist.
    pub fn occupied(&self) -> bool {
        !matches!(self.phase, Phase::Held | Phase::Exited)
    }

    /// How long the application has run, for the probes' initial delays.
    pub fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.started_at)
    }

    /// Whether the startup check of this epoch has succeeded.
    pub fn started(&self) -> bool {
        self.started
    }

    /// When `Event::Tick` is due at the latest.
    pub fn next_deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Held | Phase::Exited => None,
            Phase::Running => Some(self.lease),
            Phase::Stopping { kill_at } => {
                Some(kill_at.map_or(self.lease, |at| at.min(self.lease)))
            }
            Phase::Ending { kill_again } => Some(kill_again),
        }
    }

    /// Takes one event and says what is to be done, in order.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        match event {
            Event::Tick => self.tick(now),
            Event::Order(Order::Run(run)) => self.run(run, now),
            Event::Order(Order::Stop(stop)) => self.stop(&stop, now),
            Event::Order(Order::Unknown) => vec![Effect::Report],
            Event::Spawned(pid) => {
                self.pid = Some(pid);
                self.phase = Phase::Running;
                vec![Effect::Report]
            }
            Event::SpawnFailed(code, why) => {
                self.cause = Cause::ByItself;
                self.exit = Some(Exit::Code(code));
                self.reason = why;
                self.settle()
            }
            Event::ChildExited(exit) => self.child_exited(exit, now),
            Event::TreeGone => match self.phase {
                Phase::Ending { .. } => self.settle(),
                _ => vec![],
            },
            Event::Signal(signal) => self.signal(signal),
            Event::Liveness {
                epoch,
                ok,
                threshold,
                grace,
            } => self.liveness(epoch, ok, threshold, grace, now),
            Event::Started { epoch } => {
                self.started |= self.phase == Phase::Running && epoch == self.epoch;
                vec![]
            }
        }
    }

    fn tick(&mut self, now: Duration) -> Vec<Effect> {
        match self.phase {
            Phase::Running | Phase::Stopping { .. } if now >= self.lease => {
                self.cause = Cause::LeaseExpired;
                self.kill(now, "the lease ran out")
            }
            Phase::Stopping { kill_at: Some(at) } if now >= at => {
                self.kill(now, "the grace period ran out")
            }
            Phase::Ending { kill_again } if now >= kill_again => {
                self.phase = Phase::Ending {
                    kill_again: now + KILL_AGAIN,
                };
                vec![Effect::KillTree]
            }
            _ => vec![],
        }
    }

    fn kill(&mut self, now: Duration, why: &str) -> Vec<Effect> {
        self.phase = Phase::Ending {
            kill_again: now + KILL_AGAIN,
        };
        if !self.terminated {
            self.reason = why.to_owned();
        }
        vec![Effect::KillTree, Effect::Report]
    }

    fn run(&mut self, run: Run, now: Duration) -> Vec<Effect> {
        let received = now.saturating_add(run.ttl);
        let lease = run.until.map_or(received, |until| until.min(received));
        if self.occupied() {
            // A renewal. A higher epoch does not replace a running application: it would
            // have to be stopped first, and only the sidecar knows with what grace.
            if run.epoch == self.epoch {
                self.lease = lease;
            }
            return vec![Effect::Report];
        }
        if run.epoch <= self.epoch || self.terminated || lease <= now {
            return vec![Effect::Report];
        }
        let Some(argv) = self
            .command
            .clone()
            .or(run.argv)
            .filter(|argv| !argv.is_empty())
        else {
            self.reason = "held: the grant brought no command, and the container has none".into();
            return vec![Effect::Report];
        };
        self.epoch = run.epoch;
        self.lease = lease;
        self.restart_by_sidecar = run.restart_by_sidecar;
        self.stop_signal = run.stop_signal.unwrap_or(SIGTERM);
        self.cause = Cause::ByItself;
        self.exit = None;
        self.reason.clear();
        self.started_at = now;
        self.started = false;
        self.liveness_failures = 0;
        vec![Effect::Spawn(argv)]
    }

    fn stop(&mut self, stop: &Stop, now: Duration) -> Vec<Effect> {
        if stop.epoch < self.epoch {
            return vec![Effect::Report]; // a stale order, of before the last start
        }
        self.epoch = stop.epoch;
        match self.phase {
            Phase::Held => vec![Effect::Report],
            Phase::Exited => {
                self.phase = Phase::Held;
                vec![Effect::Report]
            }
            Phase::Ending { .. } => {
                self.cause = Cause::Stopped;
                vec![Effect::Report]
            }
            Phase::Running | Phase::Stopping { .. } if stop.grace.is_zero() => {
                self.cause = Cause::Stopped;
                self.kill(now, "killed by order")
            }
            Phase::Running => {
                self.cause = Cause::Stopped;
                self.ask_to_end(Some(now.saturating_add(stop.grace)), "stopped by order")
            }
            Phase::Stopping { kill_at } => {
                // A second order may shorten the grace, never extend it.
                let at = now.saturating_add(stop.grace);
                self.cause = Cause::Stopped;
                self.phase = Phase::Stopping {
                    kill_at: Some(kill_at.map_or(at, |earlier| earlier.min(at))),
                };
                vec![Effect::Report]
            }
        }
    }

    fn ask_to_end(&mut self, kill_at: Option<Duration>, why: &str) -> Vec<Effect> {
        self.phase = Phase::Stopping { kill_at };
        self.reason = why.to_owned();
        vec![Effect::Signal(self.stop_signal), Effect::Report]
    }

    fn child_exited(&mut self, exit: Exit, now: Duration) -> Vec<Effect> {
        self.pid = None;
        self.exit = Some(exit);
        // The end of a container's first process ends all its processes; so it is here.
        self.phase = Phase::Ending {
            kill_again: now + KILL_AGAIN,
        };
        vec![Effect::KillTree]
    }

    /// The application is gone entirely: decides what the gate is now.
    fn settle(&mut self) -> Vec<Effect> {
        self.pid = None;
        let code = self.exit.map_or(0, Exit::shell_code);
        if self.terminated {
            self.phase = Phase::Exited;
            return vec![Effect::Report, Effect::Exit(code)];
        }
        match self.cause {
            Cause::Stopped | Cause::LeaseExpired => {
                self.phase = Phase::Held;
                vec![Effect::Report]
            }
            Cause::ByItself | Cause::Liveness => {
                self.phase = Phase::Exited;
                if self.restart_by_sidecar {
                    vec![Effect::Report]
                } else {
                    vec![Effect::Report, Effect::Exit(code)]
                }
            }
        }
    }

    fn signal(&mut self, signal: i32) -> Vec<Effect> {
        let ends = if self.occupied() {
            signal == SIGTERM || signal == self.stop_signal
        } else {
            // Held, the gate is all there is, and any image's STOPSIGNAL may come.
            matches!(signal, SIGTERM | SIGINT | SIGQUIT | SIGHALT)
        };
        if !ends {
            return if self.pid.is_some() {
                vec![Effect::Signal(signal)]
            } else {
                vec![]
            };
        }
        self.terminated = true;
        self.reason = "terminated".to_owned();
        match self.phase {
            Phase::Held | Phase::Exited => {
                let code = self.exit.filter(|_| self.phase == Phase::Exited);
                self.phase = Phase::Exited;
                vec![
                    Effect::Report,
                    Effect::Exit(code.map_or(0, Exit::shell_code)),
                ]
            }
            Phase::Running => {
                self.phase = Phase::Stopping { kill_at: None };
                vec![Effect::Report, Effect::Signal(signal)]
            }
            Phase::Stopping { .. } | Phase::Ending { .. } => {
                let mut effects = vec![Effect::Report];
                if self.pid.is_some() {
                    effects.push(Effect::Signal(signal));
                }
                effects
            }
        }
    }

    fn liveness(
        &mut self,
        epoch: u64,
        ok: bool,
        threshold: u32,
        grace: Duration,
        now: Duration,
    ) -> Vec<Effect> {
        if self.phase != Phase::Running || epoch != self.epoch {
            return vec![];
        }
        if ok {
            self.liveness_failures = 0;
            return vec![];
        }
        self.liveness_failures = self.liveness_failures.saturating_add(1);
        if self.liveness_failures < threshold {
            return vec![];
        }
        self.cause = Cause::Liveness;
        self.ask_to_end(Some(now.saturating_add(grace)), "the liveness probe failed")
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
