//! Taking over the data of a module that was deleted: its name stays, the UID is a new one.
//!
//! Only what carries exactly the UID that the administrator named is renamed. Everything is checked before anything is
//! changed; then the markers change and, last, the record. Each step is durable before the next and may be repeated, so
//! that an adoption that was interrupted ends at the next start. Generation and history stay as they are: which node
//! has newer data is decided as ever, whenever the other node adopts its own copy.

use std::path::Path;

use crate::marker::{self, MarkerError};
use crate::record::{NO_GENERATION, RecordError, Store};

/// Why data cannot be adopted; nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum AdoptionError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Marker(#[from] MarkerError),
}

/// Rename this node's data from module `old` to module `new`. The result says whether anything had the old name.
pub fn adopt(state_dir: &Path, backings: &[&Path], node: &str, old: &str, new: &str) -> Result<bool, AdoptionError> {
    if old == new {
        return Ok(false);
    }
    let (store, foreign) = match Store::open(state_dir, new, node) {
        Ok(store) => (store, false),
        Err(RecordError::ForeignModule { found, .. }) if found == old => (Store::open(state_dir, old, node)?, true),
        Err(error) => return Err(error.into()),
    };
    // Before the end of a first synchronisation a directory may not be marked yet.
    let all_marked = store.get().is_some_and(|record| record.generation != NO_GENERATION);
    let mut marked = Vec::new();
    for backing in backings {
        let path = || backing.display().to_string();
        match if backing.exists() { marker::read(backing)? } else { None } {
            Some(found) if found == old => marked.push(backing),
            Some(found) if found == new => {}
            Some(found) => return Err(MarkerError::Foreign { path: path(), found, expected: new.to_owned() }.into()),
            None if all_marked => return Err(MarkerError::Missing { path: path() }.into()),
            None => {}
        }
    }
    for backing in &marked {
        marker::replace(backing, new)?;
    }
    if foreign {
        store.update(|record| {
            new.clone_into(&mut record.module);
            Ok(())
        })?;
    }
    Ok(foreign || !marked.is_empty())
}
