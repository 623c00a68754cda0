//! Reading directories.

use std::mem::MaybeUninit;
use std::sync::Arc;

use rustix::fs::{FileType, RawDir, SeekFrom, seek};
use rustix::io::Errno;

use super::inode::Inode;
use super::{Core, Found};

/// Bytes for one `getdents64(2)`.
const BUFFER: usize = 32 << 10;

/// One entry, as `readdir` gives it.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    pub ino: u64,
    /// Where the next one is.
    pub next: u64,
    pub kind: FileType,
    pub name: &'a [u8],
}

impl Core {
    /// Call `each` with the entries from position `offset` on (0: the first), until it answers false.
    ///
    /// Positions are the backing file system's own, which stay valid while the directory changes; so nothing is kept
    /// between two calls.
    pub fn list(
        &self,
        directory: &Arc<Inode>,
        offset: u64,
        mut each: impl FnMut(Listed<'_>) -> Result<bool, Errno>,
    ) -> Result<(), Errno> {
        let fd = directory.readable()?;
        if offset != 0 {
            seek(&fd, SeekFrom::Start(offset))?;
        }
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut entries = RawDir::new(fd, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let listed = Listed {
                ino: entry.ino(),
                next: entry.next_entry_cookie(),
                kind: entry.file_type(),
                name: entry.file_name().to_bytes(),
            };
            if !each(listed)? {
                break;
            }
        }
        Ok(())
    }

    /// Names of all entries but `.` and `..`.
    pub(super) fn entry_names(&self, directory: &Arc<Inode>) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = Vec::new();
        self.list(directory, 0, |entry| {
            if !matches!(entry.name, b"." | b"..") {
                names.push(entry.name.to_vec());
            }
            Ok(true)
        })?;
        Ok(names)
    }

    /// An entry with its inode, for `readdirplus`; `None` when it has vanished. The kernel gets a reference.
    pub fn lookup_listed(&self, directory: &Arc<Inode>, name: &[u8]) -> Result<Option<Found>, Errno> {
        match self.lookup(directory, name) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT | Errno::XDEV) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
