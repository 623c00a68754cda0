//! Mounting and unmounting (`mount(2)`, `umount2(2)`; no `fusermount`: the sidecar is root).

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// File system type, as `/proc/self/mountinfo` shows it: subtype `mirrorfs`.
pub const TYPE: &str = "fuse.mirrorfs";

/// Mount at `mountpoint` (made if missing); answers through the returned descriptor of `/dev/fuse`.
pub fn attach(mountpoint: &Path, max_read: u32) -> Result<OwnedFd, Errno> {
    fs::create_dir_all(mountpoint).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let device = openat(CWD, "/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other,max_read={max_read}",
        device.as_raw_fd()
    );
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    mount("twinhull", mountpoint, TYPE, MountFlags::NOATIME, Some(options.as_c_str()))?;
    Ok(device)
}

/// Abort the FUSE connection and detach the mount: whoever still uses it gets `ENOTCONN`.
pub fn detach(mountpoint: &Path) -> Result<(), Errno> {
    match unmount(mountpoint, UnmountFlags::FORCE | UnmountFlags::DETACH) {
        // Not mounted (any more).
        Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Detach mounts of ours that an earlier process left at `mountpoint`; returns how many.
pub fn clear_stale(mountpoint: &Path) -> io::Result<usize> {
    let mut cleared = 0;
    while mounted_at(mountpoint)? && cleared < 64 {
        detach(mountpoint)?;
        cleared += 1;
    }
    Ok(cleared)
}

fn mounted_at(mountpoint: &Path) -> io::Result<bool> {
    // Not canonicalised: looking at a dead mount fails with ENOTCONN. Only its parent is looked at.
    let wanted = match (mountpoint.parent().map(fs::canonicalize), mountpoint.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => return Ok(false),
    };
    let table = fs::read("/proc/self/mountinfo")?;
    Ok(table
        .split(|&byte| byte == b'\n')
        .filter_map(parse_line)
        .any(|(path, kind)| path == wanted && kind == TYPE.as_bytes()))
}

/// Mount point and type of one line, see proc_pid_mountinfo(5).
fn parse_line(line: &[u8]) -> Option<(PathBuf, &[u8])> {
    let mut fields = line.split(|&byte| byte == b' ');
    let path = unescape(fields.nth(4)?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some((PathBuf::from(std::ffi::OsString::from_vec(path)), kind))
}

/// Blank, tab, newline and backslash stand there as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        if let Some(digits) = digits {
            bytes.push(digits.iter().fold(0_u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
            rest = &after[3..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_line_of_mountinfo_gives_place_and_type() {
        let line = b"36 35 98:0 / /mnt/a\\040b rw,noatime master:1 - fuse.mirrorfs twinhull rw,user_id=0";
        let (path, kind) = parse_line(line).unwrap_or_default();
        assert_eq!(path.as_os_str().as_bytes(), b"/mnt/a b");
        assert_eq!(kind, b"fuse.mirrorfs");
        assert!(parse_line(b"").is_none());
    }
}
