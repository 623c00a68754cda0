//! File handles (`name_to_handle_at(2)`): an inode's identity that outlives its descriptors.
//!
//! A handle holds the inode's generation, so it never opens another file that got the same inode number.

use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

const HEADER: usize = size_of::<libc::file_handle>();

/// An opaque handle, as the kernel gave it (aligned for `struct file_handle`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileHandle(Box<[u64]>);

#[repr(C, align(8))]
struct Buffer([u8; HEADER + libc::MAX_HANDLE_SZ as usize]);

impl FileHandle {
    /// The handle of the open file (an `O_PATH` descriptor will do).
    ///
    /// # Errors
    /// `EOPNOTSUPP` on a file system without handles.
    pub fn of(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        let mut buffer = Buffer([0; HEADER + libc::MAX_HANDLE_SZ as usize]);
        buffer.0[..4].copy_from_slice(&(libc::MAX_HANDLE_SZ as u32).to_ne_bytes());
        let mut mount_id: libc::c_int = 0;
        // SAFETY: the buffer is aligned for `file_handle`, and its `handle_bytes` says how much room follows it.
        let result = unsafe {
            libc::name_to_handle_at(
                fd.as_raw_fd(),
                c"".as_ptr(),
                buffer.0.as_mut_ptr().cast(),
                &raw mut mount_id,
                libc::AT_EMPTY_PATH,
            )
        };
        if result < 0 {
            return Err(last_errno());
        }
        let mut length = [0; 4];
        length.copy_from_slice(&buffer.0[..4]);
        let used = HEADER + u32::from_ne_bytes(length) as usize;
        let words = buffer.0[..used.next_multiple_of(8).min(buffer.0.len())].chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        });
        Ok(Self(words.collect()))
    }

    /// As the journal stores it.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// What [`Self::to_bytes`] gave; `None` if it cannot have given that.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let most = HEADER + libc::MAX_HANDLE_SZ as usize;
        if bytes.len() % 8 != 0 || bytes.len() < HEADER || bytes.len() > most.next_multiple_of(8) {
            return None;
        }
        let words: Box<[u64]> = bytes
            .chunks(8)
            .map(|chunk| {
                let mut word = [0; 8];
                word.copy_from_slice(chunk);
                u64::from_le_bytes(word)
            })
            .collect();
        // The kernel reads as many bytes as the handle says that it has.
        let said = (words[0] & 0xffff_ffff) as usize;
        (HEADER + said <= bytes.len()).then_some(Self(words))
    }

    /// Open the inode again. `mount` is any real (not `O_PATH`) descriptor on the same file system.
    ///
    /// # Errors
    /// `ESTALE` when the inode is gone.
    pub fn open(&self, mount: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
        // The kernel takes the handle by a mutable pointer in libc's signature, so it gets a copy.
        let mut copy = self.0.clone();
        let flags = libc::c_int::try_from(flags.bits()).map_err(|_| Errno::INVAL)?;
        // SAFETY: the copy is a whole, aligned `file_handle` as `name_to_handle_at` filled it in.
        let fd = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), copy.as_mut_ptr().cast(), flags) };
        if fd < 0 {
            return Err(last_errno());
        }
        // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, fstat, openat};
    use std::os::fd::AsFd;

    #[test]
    fn a_handle_opens_the_same_inode_and_nothing_after_it_is_gone() -> std::io::Result<()> {
        let directory = std::env::temp_dir().join(format!("mirrorfs-handle-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let root = openat(CWD, &directory, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        let file = openat(&root, "f", OFlags::CREATE | OFlags::RDWR, Mode::from_bits_retain(0o600))?;
        let handle = FileHandle::of(file.as_fd())?;
        let again = handle.open(root.as_fd(), OFlags::PATH)?;
        assert_eq!(fstat(&again)?.st_ino, fstat(&file)?.st_ino);
        drop((again, file));
        std::fs::remove_file(directory.join("f"))?;
        assert_eq!(handle.open(root.as_fd(), OFlags::PATH).err(), Some(Errno::STALE));
        std::fs::remove_dir(&directory)
    }
}
