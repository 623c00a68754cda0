//! The marker on each backing directory: which module's data it holds.
//!
//! An extended attribute that a mirror's own mount hides and never replicates. A node that has a record but finds a
//! backing directory without the marker has a disk that is not mounted, or a replaced one: it must neither serve nor
//! replicate that emptiness.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::io::Errno;

const NAME: &str = "trusted.twinhull.module";

/// What may be wrong with a backing directory.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    #[error("backing directory {path}: {source}")]
    Io { path: String, source: io::Error },
    #[error(
        "backing directory {path} does not carry the module's marker: it is not mounted, or was replaced; mount it, or \
         remove the record so that it is synchronised again"
    )]
    Missing { path: String },
    #[error("backing directory {path} belongs to module {found}, this is module {expected}")]
    Foreign { path: String, found: String, expected: String },
}

/// The module that the directory is marked for, if any.
pub fn read(backing: &Path) -> Result<Option<String>, MarkerError> {
    let mut value = [0; 256];
    match getxattr(backing, NAME, &mut value) {
        Ok(len) => Ok(Some(String::from_utf8_lossy(&value[..len]).into_owned())),
        Err(Errno::NODATA) => Ok(None),
        Err(error) => Err(MarkerError::Io { path: backing.display().to_string(), source: error.into() }),
    }
}

/// Refuse a directory that does not carry this module's marker.
pub fn check(backing: &Path, module: &str) -> Result<(), MarkerError> {
    match read(backing)? {
        Some(found) if found == module => Ok(()),
        Some(found) => {
            Err(MarkerError::Foreign { path: backing.display().to_string(), found, expected: module.to_owned() })
        }
        None => Err(MarkerError::Missing { path: backing.display().to_string() }),
    }
}

/// Mark the directory; one that is marked for another module is refused.
pub fn set(backing: &Path, module: &str) -> Result<(), MarkerError> {
    match read(backing)? {
        Some(found) if found == module => Ok(()),
        Some(found) => {
            Err(MarkerError::Foreign { path: backing.display().to_string(), found, expected: module.to_owned() })
        }
        None => setxattr(backing, NAME, module.as_bytes(), XattrFlags::CREATE)
            .map_err(|error| MarkerError::Io { path: backing.display().to_string(), source: error.into() }),
    }
}

/// Mark the directory for another module than before; durable when this returns.
pub fn replace(backing: &Path, module: &str) -> Result<(), MarkerError> {
    setxattr(backing, NAME, module.as_bytes(), XattrFlags::REPLACE)
        .map_err(io::Error::from)
        .and_then(|()| File::open(backing)?.sync_all())
        .map_err(|source| MarkerError::Io { path: backing.display().to_string(), source })
}

/// Does the directory have any entry, apart from what `mke2fs` puts there?
pub fn has_data(backing: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(backing)? {
        if entry?.file_name() != "lost+found" {
            return Ok(true);
        }
    }
    Ok(false)
}
