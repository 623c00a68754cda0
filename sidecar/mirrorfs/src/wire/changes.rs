//! The secondary's changes as bytes, between `Begin` and `Begun`.

use super::WireError;
use super::codec::{Reader, put_bytes, put_u32, put_u64};
use crate::journal::changes::Change;

/// Append one change.
pub fn encode_change(b: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Directory { volume, path, names } => {
            b.push(1);
            put_u32(b, *volume);
            put_bytes(b, path);
            put_u32(b, u32::try_from(names.len()).unwrap_or(u32::MAX));
            for (name, differs) in names {
                put_bytes(b, name);
                b.push(u8::from(*differs));
            }
        }
        Change::File { volume, path, ranges } => {
            b.push(2);
            put_u32(b, *volume);
            put_bytes(b, path);
            put_u32(b, u32::try_from(ranges.len()).unwrap_or(u32::MAX));
            for (start, end) in ranges {
                put_u64(b, *start);
                put_u64(b, *end);
            }
        }
    }
}

/// All changes of one frame.
pub fn decode_changes(payload: &[u8]) -> Result<Vec<Change>, WireError> {
    let mut r = Reader::new(payload, "change");
    let mut changes = Vec::new();
    while r.end().is_err() {
        changes.push(match r.u8()? {
            1 => {
                let (volume, path) = (r.u32()?, r.path()?);
                let count = r.count(6)?;
                let names = (0..count).map(|_| Ok((r.name()?, r.u8()? != 0))).collect::<Result<_, WireError>>()?;
                Change::Directory { volume, path, names }
            }
            2 => {
                let (volume, path) = (r.u32()?, r.path()?);
                let count = r.count(16)?;
                let ranges = (0..count).map(|_| Ok((r.u64()?, r.u64()?))).collect::<Result<_, WireError>>()?;
                Change::File { volume, path, ranges }
            }
            _ => return Err(WireError::Malformed { what: "change" }),
        });
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_back_and_what_is_cut_or_leaves_the_volume_does_not() -> Result<(), WireError> {
        let changes = vec![
            Change::Directory {
                volume: 1,
                path: Vec::new(),
                names: vec![(b"a".to_vec(), true), (b"b".to_vec(), false)],
            },
            Change::File { volume: 0, path: b"a/b".to_vec(), ranges: vec![(0, 5), (9, u64::MAX)] },
        ];
        let mut bytes = Vec::new();
        changes.iter().for_each(|change| encode_change(&mut bytes, change));
        assert_eq!(decode_changes(&bytes)?, changes);
        assert!(decode_changes(&bytes[..bytes.len() - 1]).is_err());
        for path in ["/a", "a//b", "a/../b", "..", "a/"] {
            let mut bytes = Vec::new();
            encode_change(&mut bytes, &Change::File { volume: 0, path: path.into(), ranges: Vec::new() });
            assert!(decode_changes(&bytes).is_err(), "{path}");
        }
        Ok(())
    }
}
