//! Work that takes a processor for long while nobody waits for it: whoever serves the application comes first.

use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::gettid;

/// The nice value of such work: half of what others get. A machine that is full must not keep it from ever ending.
const NICE: i32 = 3;

/// Do it with less claim to the processor. No lock may be held that the application's operations need: they would wait
/// for a thread that gives way to everybody.
pub fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let thread = Some(gettid());
    let before = getpriority_process(thread).unwrap_or(NICE);
    let lowered = before < NICE && may_raise() && setpriority_process(thread, NICE).is_ok();
    let result = work();
    if lowered {
        // It has been found to be allowed.
        let _ = setpriority_process(thread, before);
    }
    result
}

/// Whether a thread that has less claim gets it back: not everybody may do that.
fn may_raise() -> bool {
    use std::sync::OnceLock;
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        let tried = std::thread::spawn(|| {
            let thread = Some(gettid());
            let before = getpriority_process(thread)?;
            setpriority_process(thread, before + 1)?;
            setpriority_process(thread, before)
        });
        matches!(tried.join(), Ok(Ok(())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_is_as_before_afterwards() {
        let nice = || getpriority_process(Some(gettid()));
        let before = nice();
        let meanwhile = quietly(nice);
        assert_eq!(nice(), before);
        if may_raise() {
            assert!(meanwhile.is_ok_and(|meanwhile| before.is_ok_and(|before| meanwhile >= before)));
        }
    }
}
