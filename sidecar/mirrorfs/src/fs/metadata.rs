//! Attributes as the stream carries them.

use rustix::buffer::spare_capacity;
use rustix::fs::{Stat, getxattr, listxattr};
use rustix::io::Errno;

use super::inode::proc_path;
use crate::op::{Meta, Time};

/// Extended attributes of this prefix are ours: invisible through the mount, never replicated.
pub const PRIVATE: &[u8] = b"trusted.twinhull.";

/// Names and values of extended attributes.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Modification time.
pub fn mtime_of(stat: &Stat) -> Time {
    Time { sec: stat.st_mtime, nsec: stat.st_mtime_nsec as u32 }
}

/// Everything but extended attributes.
pub fn plain_meta(stat: &Stat) -> Meta {
    Meta {
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: mtime_of(stat),
        rdev: stat.st_rdev,
        xattrs: Vec::new(),
    }
}

/// Everything, of what the descriptor (an `O_PATH` one will do) opens.
pub fn meta_of(fd: impl std::os::fd::AsFd, stat: &Stat) -> Result<Meta, Errno> {
    Ok(Meta { xattrs: read_xattrs(fd)?, ..plain_meta(stat) })
}

/// Names of the extended attributes, without ours.
pub fn xattr_names(fd: impl std::os::fd::AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let path = proc_path(fd);
    let list = match read_growing(|buffer| listxattr(&path, spare_capacity(buffer))) {
        Err(Errno::OPNOTSUPP) => Vec::new(),
        other => other?,
    };
    let names = list.split(|&byte| byte == 0).filter(|name| !name.is_empty() && !name.starts_with(PRIVATE));
    Ok(names.map(<[u8]>::to_vec).collect())
}

/// The value of one extended attribute.
pub fn xattr_value(fd: impl std::os::fd::AsFd, name: &[u8]) -> Result<Vec<u8>, Errno> {
    if name.starts_with(PRIVATE) {
        return Err(Errno::NODATA);
    }
    let path = proc_path(fd);
    read_growing(|buffer| getxattr(&path, name, spare_capacity(buffer)))
}

/// All extended attributes but ours, sorted by name.
pub fn read_xattrs(fd: impl std::os::fd::AsFd) -> Result<Xattrs, Errno> {
    let fd = fd.as_fd();
    let mut all = Vec::new();
    for name in xattr_names(fd)? {
        match xattr_value(fd, &name) {
            Ok(value) => all.push((name, value)),
            // Removed since it was listed.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error),
        }
    }
    all.sort();
    Ok(all)
}

/// Read something whose size is known only afterwards.
fn read_growing(mut read: impl FnMut(&mut Vec<u8>) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut size = 256;
    loop {
        let mut buffer = Vec::with_capacity(size);
        match read(&mut buffer) {
            Ok(_) => return Ok(buffer),
            // The largest that Linux allows is 64 KiB (XATTR_SIZE_MAX, XATTR_LIST_MAX).
            Err(Errno::RANGE) if size < 128 << 10 => size *= 8,
            Err(error) => return Err(error),
        }
    }
}
