//! Records of the journal's file, as bytes.

use crate::fs::FileHandle;

/// A number that only grows: hot regions cool together with all others of their era.
pub type Era = u64;

/// One record of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Directory {
        era: Era,
        volume: u32,
        directory: FileHandle,
    },
    /// Segments `first .. first + count`; none: attributes only.
    Large {
        era: Era,
        volume: u32,
        file: FileHandle,
        parent: FileHandle,
        name: Box<[u8]>,
        first: u64,
        count: u64,
    },
    Placed {
        era: Era,
        volume: u32,
        object: FileHandle,
        several: bool,
    },
    /// Everything up to this era is equal and durable on both nodes.
    Cooled {
        era: Era,
    },
}

impl Entry {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut b = Vec::new();
        let number = |b: &mut Vec<u8>, value: u64| b.extend_from_slice(&value.to_le_bytes());
        let bytes = |b: &mut Vec<u8>, value: &[u8]| {
            b.extend_from_slice(&(value.len() as u16).to_le_bytes());
            b.extend_from_slice(value);
        };
        match self {
            Self::Directory { era, volume, directory } => {
                b.push(1);
                number(&mut b, *era);
                b.extend_from_slice(&volume.to_le_bytes());
                bytes(&mut b, &directory.to_bytes());
            }
            Self::Large { era, volume, file, parent, name, first, count } => {
                b.push(2);
                number(&mut b, *era);
                b.extend_from_slice(&volume.to_le_bytes());
                bytes(&mut b, &file.to_bytes());
                bytes(&mut b, &parent.to_bytes());
                bytes(&mut b, name);
                number(&mut b, *first);
                number(&mut b, *count);
            }
            Self::Placed { era, volume, object, several } => {
                b.push(3);
                number(&mut b, *era);
                b.extend_from_slice(&volume.to_le_bytes());
                bytes(&mut b, &object.to_bytes());
                b.push(u8::from(*several));
            }
            Self::Cooled { era } => {
                b.push(4);
                number(&mut b, *era);
            }
        }
        b
    }

    /// `None`: not what [`Self::to_bytes`] gives.
    pub fn from_bytes(payload: &[u8]) -> Option<Self> {
        let mut r = Fields(payload);
        let entry = match r.take(1)?[0] {
            1 => Self::Directory { era: r.number()?, volume: r.volume()?, directory: r.handle()? },
            2 => Self::Large {
                era: r.number()?,
                volume: r.volume()?,
                file: r.handle()?,
                parent: r.handle()?,
                name: r.bytes()?.into(),
                first: r.number()?,
                count: r.number()?,
            },
            3 => {
                Self::Placed { era: r.number()?, volume: r.volume()?, object: r.handle()?, several: r.take(1)?[0] != 0 }
            }
            4 => Self::Cooled { era: r.number()? },
            _ => return None,
        };
        r.0.is_empty().then_some(entry)
    }

    pub fn era(&self) -> Era {
        match self {
            Self::Directory { era, .. } | Self::Large { era, .. } | Self::Placed { era, .. } | Self::Cooled { era } => {
                *era
            }
        }
    }
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn volume(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_le_bytes(self.take(2)?.try_into().ok()?);
        self.take(length as usize)
    }

    fn handle(&mut self) -> Option<FileHandle> {
        FileHandle::from_bytes(self.bytes()?)
    }
}

/// Entries for the tests of this folder.
#[cfg(test)]
pub(super) mod samples {
    use super::*;

    pub fn handle(number: u64) -> Option<FileHandle> {
        let words = [8_u64 | 1 << 32, number];
        FileHandle::from_bytes(&words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>())
    }

    pub fn large(era: Era, first: u64, count: u64) -> Option<Entry> {
        let (file, parent) = (handle(5)?, handle(1)?);
        Some(Entry::Large { era, volume: 0, file, parent, name: b"f"[..].into(), first, count })
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{handle, large};
    use super::*;

    #[test]
    fn entries_come_back_from_bytes_and_nonsense_does_not() -> Result<(), &'static str> {
        let handles = (handle(3).ok_or("handle")?, handle(4).ok_or("handle")?);
        let entries = [
            Entry::Directory { era: 7, volume: 1, directory: handles.0.clone() },
            large(9, 3, 2).ok_or("large")?,
            Entry::Placed { era: 8, volume: 0, object: handles.1, several: true },
            Entry::Cooled { era: 2 },
        ];
        for entry in entries {
            let bytes = entry.to_bytes();
            assert_eq!(Entry::from_bytes(&bytes).as_ref(), Some(&entry));
            assert_eq!(Entry::from_bytes(&bytes[..bytes.len() - 1]), None);
            assert_eq!(Entry::from_bytes(&[bytes, vec![0]].concat()), None);
        }
        assert_eq!(Entry::from_bytes(&[]), None);
        assert_eq!(Entry::from_bytes(&[9, 9]), None);
        Ok(())
    }
}
