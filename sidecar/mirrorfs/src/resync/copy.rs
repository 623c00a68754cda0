//! Copies and removals of whole files and directories, for what a resynchronisation takes away or brings back.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, fstat, ftruncate, ioctl_ficlone, mkdirat, mknodat, openat, readlinkat,
    statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::extents::data_segments;
use super::sums::read_up_to;
use crate::apply::attributes::Inode;
use crate::apply::operations::write_all;

fn open_directory(directory: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(directory, name, flags, Mode::empty())?)
}

fn names(directory: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Remove a file or a directory with everything in it. What is not there is no error.
pub fn remove_tree(directory: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let inner = open_directory(directory, name)?;
    for name in names(&inner)? {
        remove_tree(&inner, &name)?;
    }
    Ok(unlinkat(directory, name, AtFlags::REMOVEDIR)?)
}

/// Copy a file or a directory with everything in it. Hard links within it become separate files.
pub fn copy_tree(from: &OwnedFd, name: &[u8], to: &OwnedFd, to_name: &[u8]) -> io::Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let path = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match kind {
        FileType::RegularFile => {
            let file = openat(from, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            copy_file(&file, to, to_name)
        }
        FileType::Directory => {
            mkdirat(to, to_name, Mode::from_raw_mode(0o700))?;
            let (source, target) = (open_directory(from, name)?, open_directory(to, to_name)?);
            for name in names(&source)? {
                copy_tree(&source, &name, &target, &name)?;
            }
            Inode::new(&target, kind).set_meta(&Inode::new(&source, kind).meta()?)
        }
        _ => copy_special(&openat(from, name, path, Mode::empty())?, to, to_name),
    }
}

/// Copy a symbolic link, FIFO, socket or device that is open with `O_PATH`.
pub fn copy_special(source: &OwnedFd, to: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let stat = fstat(source)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::Symlink {
        symlinkat(readlinkat(source, "", Vec::new())?, to, name)?;
    } else {
        mknodat(to, name, kind, Mode::from_raw_mode(0o600), stat.st_rdev)?;
    }
    let target = openat(to, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    Inode::new(&target, kind).set_meta(&Inode::new(source, kind).meta()?)
}

/// Copy a regular file with its holes and attributes.
pub fn copy_file(file: &OwnedFd, to: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = openat(to, name, flags, Mode::from_raw_mode(0o600))?;
    if ioctl_ficlone(&copy, file).is_err() {
        let size = u64::try_from(fstat(file)?.st_size).unwrap_or(0);
        ftruncate(&copy, size)?;
        let mut buffer = vec![0; 1 << 20];
        for segment in data_segments(file.as_fd(), 0, size)? {
            let mut at = segment.start;
            while at < segment.end {
                let piece = usize::try_from(segment.end - at).unwrap_or(buffer.len()).min(buffer.len());
                let got = read_up_to(file, &mut buffer[..piece], at)?;
                if got == 0 {
                    break;
                }
                write_all(&copy, &buffer[..got], at)?;
                at += got as u64;
            }
        }
    }
    let kind = FileType::RegularFile;
    Inode::new(&copy, kind).set_meta(&Inode::new(file, kind).meta()?)
}
