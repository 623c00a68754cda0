//! The smallest io_uring that can carry FUSE requests: of one thread, with one command at a time.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fd::AsRawFd;
use rustix::io::Errno;
use rustix::io_uring::{
    IORING_OFF_SQ_RING, IORING_OFF_SQES, IoringEnterFlags, IoringFeatureFlags, IoringRegisterOp, IoringSetupFlags,
    io_uring_cqe, io_uring_enter, io_uring_params, io_uring_register, io_uring_setup,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use zerocopy::{Immutable, IntoBytes};

/// A submission of 128 bytes (`IORING_SETUP_SQE128`), as `struct io_uring_sqe` lays it out for `IORING_OP_URING_CMD`.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub struct Submission {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    cmd_op: u32,
    pad: u32,
    addr: u64,
    len: u32,
    op_flags: u32,
    user_data: u64,
    buf_index: u16,
    personality: u16,
    file_index: u32,
    command: [u8; 80],
}

const URING_CMD: u8 = 46;
/// `fd` is a number in the table of registered files.
const FIXED_FILE: u8 = 1 << 0;

impl Submission {
    /// Command `operation` for the ring's file, with arguments of the file's own and a list of `count` buffers.
    pub fn command(operation: u32, arguments: &(impl IntoBytes + Immutable), buffers: u64, count: u32) -> Self {
        let mut command = [0; 80];
        let bytes = arguments.as_bytes();
        command[..bytes.len()].copy_from_slice(bytes);
        Self {
            opcode: URING_CMD,
            flags: FIXED_FILE,
            ioprio: 0,
            fd: 0,
            cmd_op: operation,
            pad: 0,
            addr: buffers,
            len: count,
            op_flags: 0,
            user_data: 0,
            buf_index: 0,
            personality: 0,
            file_index: 0,
            command,
        }
    }
}

/// Pages of our own or shared with the kernel.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: it is memory that nothing but this value leads to, as a `Box` would be.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Zeroed pages; they are touched as they are needed.
    pub fn anonymous(length: usize) -> Result<Self, Errno> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, flags) }?;
        Self::of(start, length)
    }

    fn of_ring(ring: &OwnedFd, offset: u64, length: usize) -> Result<Self, Errno> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let start = unsafe { mmap(ptr::null_mut(), length, protection, flags, ring, offset) }?;
        Self::of(start, length)
    }

    fn of(start: *mut std::ffi::c_void, length: usize) -> Result<Self, Errno> {
        Ok(Self { start: NonNull::new(start.cast()).ok_or(Errno::NOMEM)?, length })
    }

    pub fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub fn len(&self) -> usize {
        self.length
    }

    /// A counter at this offset, which the kernel changes too.
    fn counter(&self, offset: u32) -> &AtomicU32 {
        debug_assert!(offset as usize + 4 <= self.length && offset % 4 == 0);
        // SAFETY: inside the mapping and aligned, as the kernel has laid it out; it is only ever used atomically.
        unsafe { AtomicU32::from_ptr(self.start().add(offset as usize).cast()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length; whoever borrowed from it borrowed this value.
        let _ = unsafe { munmap(self.start().cast(), self.length) };
    }
}

/// One ring, for commands to one file.
#[derive(Debug)]
pub struct Ring {
    ring: OwnedFd,
    queues: Mapping,
    submissions: Mapping,
    layout: io_uring_params,
    submitted: bool,
    pending: bool,
}

impl Ring {
    /// For the calling thread alone.
    ///
    /// # Errors
    /// What the kernel refuses: it is too old, or a policy forbids io_uring.
    pub fn new(file: BorrowedFd<'_>) -> Result<Self, Errno> {
        let mut layout = io_uring_params::default();
        // The kernel's work for us is done where we wait for it: nothing interrupts the thread elsewhere.
        layout.flags = IoringSetupFlags::SQE128
            | IoringSetupFlags::SINGLE_ISSUER
            | IoringSetupFlags::DEFER_TASKRUN
            | IoringSetupFlags::NO_SQARRAY;
        // SAFETY: no descriptor of another ring is named (`ATTACH_WQ`).
        let ring = unsafe { io_uring_setup(1, &mut layout) }?;
        if !layout.features.contains(IoringFeatureFlags::SINGLE_MMAP) {
            return Err(Errno::NOSYS);
        }
        let completions = layout.cq_off.cqes as usize + layout.cq_entries as usize * size_of::<io_uring_cqe>();
        let queues = Mapping::of_ring(&ring, IORING_OFF_SQ_RING, completions)?;
        let submissions =
            Mapping::of_ring(&ring, IORING_OFF_SQES, layout.sq_entries as usize * size_of::<Submission>())?;
        let files = [file.as_raw_fd()];
        // SAFETY: one descriptor, which is open; the kernel reads it during the call only.
        unsafe { io_uring_register(&ring, IoringRegisterOp::RegisterFiles, files.as_ptr().cast(), 1) }?;
        Ok(Self { ring, queues, submissions, layout, submitted: true, pending: false })
    }

    /// Whether a command has been prepared and has not completed: the kernel may use its buffers.
    pub fn is_pending(&self) -> bool {
        self.pending
    }

    /// Prepare a command. It goes to the kernel with the next [`Self::wait`].
    ///
    /// # Safety
    /// Nothing else may use the buffers that it names, and they must stay, until the command has completed.
    ///
    /// # Panics
    /// When there is one already.
    pub unsafe fn prepare(&mut self, submission: &Submission) {
        assert!(!self.pending, "one command at a time");
        let tail = self.queues.counter(self.layout.sq_off.tail);
        let position = tail.load(Ordering::Relaxed);
        let mask = self.queues.counter(self.layout.sq_off.ring_mask).load(Ordering::Relaxed);
        let slot = (position & mask) as usize * size_of::<Submission>();
        debug_assert!(slot + size_of::<Submission>() <= self.submissions.len());
        // SAFETY: inside the mapping; the kernel has taken what was there, as only one command is under way at a time.
        unsafe { self.submissions.start().add(slot).cast::<Submission>().write_unaligned(*submission) };
        tail.store(position.wrapping_add(1), Ordering::Release);
        (self.submitted, self.pending) = (false, true);
    }

    /// Wait until the command has completed; returns its result.
    pub fn wait(&mut self) -> Result<i32, Errno> {
        loop {
            if let Some(result) = self.take_completion() {
                self.pending = false;
                return Ok(result);
            }
            let submit = u32::from(!self.submitted);
            // SAFETY: no extended argument is passed; what is submitted is as `prepare` demands.
            match unsafe { io_uring_enter(self.ring.as_fd(), submit, 1, IoringEnterFlags::GETEVENTS) } {
                // With something to submit, an interruption of the wait that follows is not told.
                Ok(count) => self.submitted |= count > 0,
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take_completion(&mut self) -> Option<i32> {
        let head = self.queues.counter(self.layout.cq_off.head);
        let position = head.load(Ordering::Relaxed);
        if position == self.queues.counter(self.layout.cq_off.tail).load(Ordering::Acquire) {
            return None;
        }
        let mask = self.queues.counter(self.layout.cq_off.ring_mask).load(Ordering::Relaxed);
        let offset = self.layout.cq_off.cqes as usize + (position & mask) as usize * size_of::<io_uring_cqe>();
        debug_assert!(offset + size_of::<io_uring_cqe>() <= self.queues.len());
        // The result follows the 64 bits of `user_data`.
        // SAFETY: inside the mapping; the kernel has written this completion and leaves it until the head passes it.
        let result = unsafe { self.queues.start().add(offset + 8).cast::<i32>().read_unaligned() };
        head.store(position.wrapping_add(1), Ordering::Release);
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_has_the_kernels_size() {
        assert_eq!(size_of::<Submission>(), 128);
        assert_eq!(std::mem::offset_of!(Submission, command), 48);
    }

    #[test]
    fn a_command_that_the_file_does_not_know_completes_with_an_error() -> Result<(), Errno> {
        let file = rustix::fs::memfd_create("ring", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut ring = match Ring::new(file.as_fd()) {
            // Forbidden here, or an old kernel.
            Err(Errno::PERM | Errno::NOSYS | Errno::INVAL) => return Ok(()),
            other => other?,
        };
        for _ in 0..3 {
            // SAFETY: it names no buffers.
            unsafe { ring.prepare(&Submission::command(1, &[0_u8; 8], 0, 0)) };
            assert!(ring.is_pending());
            assert_eq!(ring.wait()?, -Errno::OPNOTSUPP.raw_os_error());
            assert!(!ring.is_pending());
        }
        Ok(())
    }
}
