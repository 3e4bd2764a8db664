//! A PE image as the firmware sees it: its sections and its Authenticode hash.
//!
//! Follows "Microsoft Portable Executable and Common Object File Format Specification" and "Windows Authenticode Portable
//! Executable Signature Format" (2008), "Calculating the PE Image Hash"; where these leave a choice, EDK II's
//! MeasurePeImageAndExtend. Bounded and total: no bytes make it panic.

use iotwasm_values::Digest;
use sha2::{Digest as _, Sha256};

/// Most sections of an image; the Windows loader's own limit.
const MAX_SECTIONS: u16 = 96;
/// How much longer a section may be in memory than in the file, in bytes: a kernel's is by what it unpacks into, some 60 MB;
/// more than this only costs the reader memory.
const MAX_ZEROS: usize = 256 << 20;

/// Where the headers' fields are, relative to the PE signature ("PE\0\0").
const NUMBER_OF_SECTIONS: usize = 6;
const SIZE_OF_OPTIONAL_HEADER: usize = 20;
const OPTIONAL_HEADER: usize = 24;
/// And relative to the optional header; both are the same for PE32 and PE32+.
const SIZE_OF_HEADERS: usize = 60;
const CHECKSUM: usize = 64;
/// Index of the certificate table among the data directories, of 8 bytes each.
const CERTIFICATES: usize = 4;

/// Why bytes are no PE image, or not one whose hash means anything.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PeError {
    /// It ends before a header does.
    #[error("it ends within its headers, at byte {at}")]
    Short {
        /// Where more was expected.
        at: usize,
    },
    /// A signature of the format is missing.
    #[error("it has no {what} signature")]
    Signature {
        /// Which.
        what: &'static str,
    },
    /// Neither PE32 nor PE32+.
    #[error("its optional header is of the unknown kind {magic:#06x}")]
    Magic {
        /// What it says.
        magic: u16,
    },
    /// More sections than any loader takes.
    #[error("it has {count} sections, more than 96")]
    Sections {
        /// How many.
        count: u16,
    },
    /// A part is outside the file, or where it cannot be.
    #[error("its {what} is outside the file or overlaps another part")]
    Bounds {
        /// Which part.
        what: String,
    },
}

/// A PE image: a view of its bytes that was checked.
#[derive(Debug)]
pub struct Pe<'a> {
    bytes: &'a [u8],
    size_of_headers: usize,
    checksum: usize,
    /// Where the certificate table's directory entry is, if the image has one.
    certificates_entry: Option<usize>,
    /// Length of the certificate table, which ends the file.
    certificates: usize,
    sections: Vec<Section<'a>>,
}

/// A section.
#[derive(Debug, Clone)]
pub struct Section<'a> {
    name: &'a [u8],
    virtual_size: u32,
    pointer: u32,
    raw: &'a [u8],
}

impl<'a> Pe<'a> {
    /// Reads an image's headers.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PeError> {
        if bytes.get(..2) != Some(b"MZ") {
            return Err(PeError::Signature { what: "MZ" });
        }
        let pe = u32_at(bytes, 0x3C)? as usize;
        let past = |base: usize, offset: usize| base.checked_add(offset).ok_or(PeError::Short { at: base });
        if bytes.get(pe..past(pe, 4)?) != Some(b"PE\0\0") {
            return Err(PeError::Signature { what: "PE" });
        }
        let count = u16_at(bytes, past(pe, NUMBER_OF_SECTIONS)?)?;
        if count > MAX_SECTIONS {
            return Err(PeError::Sections { count });
        }
        let optional_length = usize::from(u16_at(bytes, past(pe, SIZE_OF_OPTIONAL_HEADER)?)?);
        let optional = past(pe, OPTIONAL_HEADER)?;
        let directories = match u16_at(bytes, optional)? {
            0x10B => past(optional, 96)?,
            0x20B => past(optional, 112)?,
            magic => return Err(PeError::Magic { magic }),
        };
        let size_of_headers = u32_at(bytes, past(optional, SIZE_OF_HEADERS)?)? as usize;
        let number = u32_at(bytes, directories - 4)? as usize;
        let certificates_entry = (number > CERTIFICATES).then_some(directories + 8 * CERTIFICATES);
        let end_of_hole = certificates_entry.map_or(directories, |entry| entry + 8);
        let table = past(optional, optional_length)?;
        let end_of_table = past(table, 40 * usize::from(count))?;
        // Everything that is hashed piece by piece has to lie within the headers, in this order.
        if size_of_headers < end_of_table.max(end_of_hole) || size_of_headers > bytes.len() {
            return Err(PeError::Bounds { what: "header".into() });
        }
        let certificates = match certificates_entry {
            Some(entry) => certificates(bytes, entry)?,
            None => 0,
        };
        let mut sections = Vec::with_capacity(usize::from(count));
        for at in (table..end_of_table).step_by(40) {
            sections.push(Section::parse(bytes, at)?);
        }
        let pe =
            Self { bytes, size_of_headers, checksum: optional + CHECKSUM, certificates_entry, certificates, sections };
        pe.check_layout()?;
        Ok(pe)
    }

    /// The sections, in the table's order.
    pub fn sections(&self) -> &[Section<'a>] {
        &self.sections
    }

    /// The first section of a name.
    pub fn section(&self, name: &str) -> Option<&Section<'a>> {
        self.sections.iter().find(|section| section.name() == name)
    }

    /// Length in bytes of the certificate table at the end: where Secure Boot's signatures are.
    pub fn certificates_length(&self) -> usize {
        self.certificates
    }

    /// The image hash: everything but the checksum, the certificate table and its directory entry.
    pub fn authenticode(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(&self.bytes[..self.checksum]);
        match self.certificates_entry {
            Some(entry) => {
                hash.update(&self.bytes[self.checksum + 4..entry]);
                hash.update(&self.bytes[entry + 8..self.size_of_headers]);
            }
            None => hash.update(&self.bytes[self.checksum + 4..self.size_of_headers]),
        }
        let mut summed = self.size_of_headers;
        for section in self.by_place() {
            hash.update(section.raw);
            summed += section.raw.len();
        }
        // What is behind the sections, if anything.
        let end = self.bytes.len() - self.certificates;
        if summed < end {
            hash.update(&self.bytes[summed..end]);
        }
        Digest::from_bytes(hash.finalize().into())
    }

    fn by_place(&self) -> Vec<&Section<'a>> {
        let mut sections: Vec<_> = self.sections.iter().filter(|section| !section.raw.is_empty()).collect();
        sections.sort_by_key(|section| section.pointer);
        sections
    }

    /// The algorithm counts bytes instead of places: only where sections follow the headers and each other without
    /// overlap does it cover each byte once.
    fn check_layout(&self) -> Result<(), PeError> {
        let mut end = self.size_of_headers;
        for section in self.by_place() {
            if (section.pointer as usize) < end {
                return Err(PeError::Bounds { what: format!("section {}", section.name()) });
            }
            end = section.pointer as usize + section.raw.len();
        }
        if end > self.bytes.len() - self.certificates {
            return Err(PeError::Bounds { what: "certificate table".into() });
        }
        Ok(())
    }
}

impl<'a> Section<'a> {
    fn parse(bytes: &'a [u8], at: usize) -> Result<Self, PeError> {
        let name = bytes.get(at..at + 8).ok_or(PeError::Short { at })?;
        let name = &name[..name.iter().position(|b| *b == 0).unwrap_or(8)];
        let virtual_size = u32_at(bytes, at + 8)?;
        let size = u32_at(bytes, at + 16)?;
        let pointer = u32_at(bytes, at + 20)?;
        let bounds = || PeError::Bounds { what: format!("section {}", String::from_utf8_lossy(name)) };
        let raw = match size {
            0 => &[][..],
            _ => bytes.get(pointer as usize..(pointer as usize).saturating_add(size as usize)).ok_or_else(bounds)?,
        };
        if virtual_size as usize > raw.len().saturating_add(MAX_ZEROS) {
            return Err(bounds());
        }
        Ok(Self { name, virtual_size, pointer, raw })
    }

    /// Its name; one that is not text is nobody's.
    pub fn name(&self) -> &'a str {
        std::str::from_utf8(self.name).unwrap_or_default()
    }

    /// Its contents as they lie in memory: at the virtual size, without the file's padding, zeros where the file has less.
    pub fn in_memory(&self) -> std::borrow::Cow<'a, [u8]> {
        let size = self.virtual_size as usize;
        match self.raw.get(..size) {
            Some(contents) => contents.into(),
            None => {
                let mut contents = self.raw.to_vec();
                contents.resize(size, 0);
                contents.into()
            }
        }
    }
}

/// The length of the certificate table. It has to be the file's end: its place is a file offset, not an address.
fn certificates(bytes: &[u8], entry: usize) -> Result<usize, PeError> {
    let (place, length) = (u32_at(bytes, entry)? as usize, u32_at(bytes, entry + 4)? as usize);
    if length == 0 {
        return Ok(0);
    }
    if place.checked_add(length) != Some(bytes.len()) {
        return Err(PeError::Bounds { what: "certificate table".into() });
    }
    Ok(length)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, PeError> {
    Ok(u16::from_le_bytes(field(bytes, at)?))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, PeError> {
    Ok(u32::from_le_bytes(field(bytes, at)?))
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], PeError> {
    let end = at.checked_add(N).ok_or(PeError::Short { at })?;
    bytes.get(at..end).and_then(|slice| slice.try_into().ok()).ok_or(PeError::Short { at })
}
