//! Requests through io_uring (`Documentation/filesystems/fuse/fuse-io-uring.rst`, Linux 6.14): one system call gives
//! an answer and takes the next request, whose data the kernel has copied to where it lies.
//!
//! The kernel has a queue of entries for each CPU; a request goes to a free entry of the CPU on which the application
//! asks. Here each entry has a thread and a ring of its own: a request that blocks, for the peer or for a disk, holds
//! back no other, and none is handed from one thread to another. The kernel picks the entry that was freed last, so
//! the threads beyond those needed sleep.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use zerocopy::{FromBytes, IntoBytes};

use super::abi::{InHeader, OutHeader, RingCommand, RingHeader, opcode, ring};
use super::channel::{Answer, Channel, Request};
use super::uring::{Mapping, Ring, Submission};

/// Bytes for data in all entries of a volume.
const BUFFERS: usize = 32 << 20;
/// Entries for each CPU, at least and at most; in between, as many as make [`USUAL`]. Blocked requests beyond that number
/// hold back others of the same CPU.
const ENTRIES: (usize, usize) = (4, 16);
const USUAL: usize = 64;
const MOST_CPUS: usize = 64;
/// Data of one entry: not more than is useful, and not less than the largest extended attribute needs.
const DATA: (usize, usize) = (128 << 10, 1 << 20);
/// The head of an entry lies in a page of its own.
const PAGE: usize = 4096;

/// How many entries there are, and how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub queues: u16,
    pub entries: usize,
    /// Largest request and answer.
    pub data: usize,
}

impl Layout {
    /// For this machine. `None`: it has more CPUs than this is made for.
    pub fn of_machine() -> io::Result<Option<Self>> {
        let cpus = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
        Ok(count_cpus(cpus.trim()).and_then(Self::of_cpus))
    }

    /// The kernel wants a queue for each CPU that there could be.
    fn of_cpus(cpus: usize) -> Option<Self> {
        if cpus == 0 || cpus > MOST_CPUS {
            return None;
        }
        let entries = (USUAL / cpus).clamp(ENTRIES.0, ENTRIES.1);
        let data = (BUFFERS / (cpus * entries)).clamp(DATA.0, DATA.1);
        // A whole number of pages of any size.
        let data = 1 << data.ilog2();
        Some(Self { queues: u16::try_from(cpus).ok()?, entries, data })
    }
}

/// Count what a list like `0-3,8` names.
fn count_cpus(list: &str) -> Option<usize> {
    list.split(',').try_fold(0, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        Some(sum + last.checked_sub(first)? + 1)
    })
}

/// One entry of one queue.
pub struct Entry {
    ring: Ring,
    /// A [`RingHeader`], then from the second page on the data. The kernel's while a command is pending.
    memory: ManuallyDrop<Mapping>,
    queue: u16,
    registered: bool,
}

impl Entry {
    /// For the calling thread alone. The kernel learns of it when it waits for its first request.
    pub fn new(device: BorrowedFd<'_>, queue: u16, data: usize) -> Result<Self, Errno> {
        let memory = ManuallyDrop::new(Mapping::anonymous(PAGE + data)?);
        Ok(Self { ring: Ring::new(device)?, memory, queue, registered: false })
    }

    /// The kernel has it: requests may come.
    pub fn is_registered(&self) -> bool {
        self.registered
    }

    /// Let the kernel use the memory, until it has a request.
    fn fetch(&mut self, operation: u32, commit_id: u64) -> Result<(), Errno> {
        let arguments = RingCommand { flags: 0, commit_id, queue: self.queue, padding: [0; 3] };
        let data = self.memory.len() - PAGE;
        let start = self.memory.start();
        let buffers = [
            libc::iovec { iov_base: start.cast(), iov_len: size_of::<RingHeader>() },
            // SAFETY: the second page is inside the mapping.
            libc::iovec { iov_base: unsafe { start.add(PAGE) }.cast(), iov_len: data },
        ];
        let (list, count) =
            if operation == ring::REGISTER { (buffers.as_ptr().addr() as u64, buffers.len() as u32) } else { (0, 0) };
        // SAFETY: the memory is ours, nothing borrows from it (this is `&mut self`), and it stays until the command has
        // completed, see `drop`. The list itself is read during the submission, which `wait` makes before it returns.
        unsafe { self.ring.prepare(&Submission::command(operation, &arguments, list, count)) };
        let result = self.ring.wait()?;
        if result < 0 { Err(Errno::from_raw_os_error(-result)) } else { Ok(()) }
    }

    fn header(&mut self) -> &mut RingHeader {
        // SAFETY: at the start of the mapping, aligned and initialised (any bytes are a `RingHeader`); no command is
        // pending, so the memory is ours alone.
        unsafe { &mut *self.memory.start().cast::<RingHeader>() }
    }

    fn data(&mut self) -> &mut [u8] {
        // SAFETY: the rest of the mapping, initialised; no command is pending, so the memory is ours alone.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start().add(PAGE), self.memory.len() - PAGE) }
    }
}

impl Channel for Entry {
    fn receive(&mut self) -> Result<(Request<'_>, &mut [u8]), Errno> {
        let (operation, commit_id) =
            if self.registered { (ring::COMMIT_AND_FETCH, self.header().commit_id) } else { (ring::REGISTER, 0) };
        self.fetch(operation, commit_id)?;
        self.registered = true;
        let room = self.memory.len() - PAGE;
        let start = self.memory.start();
        // SAFETY: two parts of the mapping that do not overlap, initialised and aligned as in `header` and `data`; no
        // command is pending until the borrows, which are of `self`, have ended.
        let (head, data) =
            unsafe { (&*start.cast::<RingHeader>(), std::slice::from_raw_parts_mut(start.add(PAGE), room)) };
        let (header, _) = InHeader::read_from_prefix(&head.in_out).map_err(|_| Errno::PROTO)?;
        let length = head.payload_size as usize;
        // What needs room brings nothing with it, and what brings something needs none.
        let needs_room = matches!(header.opcode, opcode::READ | opcode::READDIR | opcode::READDIRPLUS);
        let (rest, room) = data.split_at_mut_checked(if needs_room { 0 } else { length }).ok_or(Errno::PROTO)?;
        let room = if needs_room { room } else { &mut [] };
        Ok((Request { header, fixed: Some(&head.op_in), rest }, room))
    }

    fn reply(&mut self, unique: u64, answer: &Answer) {
        let (mut error, mut length) = (0, 0);
        match answer {
            // Nothing comes this way that wants no answer.
            Answer::Silence | Answer::Empty => {}
            Answer::Bytes(bytes) => match self.data().get_mut(..bytes.len()) {
                Some(room) => {
                    room.copy_from_slice(bytes);
                    length = bytes.len();
                }
                None => error = -Errno::IO.raw_os_error(),
            },
            Answer::Room(filled) => length = *filled,
            Answer::Error(errno) => error = -errno.raw_os_error(),
        }
        let out = OutHeader { len: (size_of::<OutHeader>() + length) as u32, error, unique };
        let header = self.header();
        header.in_out[..size_of::<OutHeader>()].copy_from_slice(out.as_bytes());
        header.payload_size = length as u32;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // A command that has not completed (its ring failed) may still use the memory: then it stays.
        if !self.ring.is_pending() {
            // SAFETY: it is dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_counted() {
        assert_eq!(count_cpus("0-1"), Some(2));
        assert_eq!(count_cpus("0"), Some(1));
        assert_eq!(count_cpus("0-3,8,10-11"), Some(7));
        assert_eq!(count_cpus(""), None);
        assert_eq!(count_cpus("3-1"), None);
    }

    #[test]
    fn all_entries_together_are_bounded() {
        assert_eq!(Layout::of_cpus(2), Some(Layout { queues: 2, entries: 16, data: 1 << 20 }));
        assert_eq!(Layout::of_cpus(64), Some(Layout { queues: 64, entries: 4, data: 128 << 10 }));
        assert_eq!(Layout::of_cpus(65), None);
        for cpus in 1..=MOST_CPUS {
            let layout = Layout::of_cpus(cpus).unwrap_or(Layout { queues: 0, entries: 0, data: 0 });
            assert!(layout.data * layout.entries * cpus <= BUFFERS && layout.data >= 128 << 10, "{layout:?}");
        }
    }
}
