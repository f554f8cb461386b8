//! Writer of zip files with the same bytes on every machine.
//!
//! Entries are sorted by name, dated 1980-01-01 00:00 (the format's first date), and carry one of two modes. They are
//! compressed by the `flate2` of `Cargo.lock`, so that the bytes depend on the content and on `Cargo.lock` alone. The
//! format is that of PKWARE's APPNOTE 6.3.3 without Zip64.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::{Context as _, Result, bail};
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

/// 1980-01-01 as MS-DOS date: bits 0–4 day, 5–8 month, 9–15 years since 1980.
const DATE: u16 = (1 << 5) | 1;
/// Deflate, which version 2.0 of the format introduced.
const VERSION: u16 = 20;
const DEFLATED: u16 = 8;
/// Entries' names are UTF-8.
const UTF_8: u16 = 1 << 11;
/// System of the modes in the central directory.
const UNIX: u16 = 3 << 8;
/// `S_IFREG`: a regular file.
const REGULAR_FILE: u32 = 0o100_000;

/// Files of an archive by their names.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    entries: BTreeMap<String, Vec<u8>>,
}

impl Archive {
    /// Adds a file.
    ///
    /// # Errors
    /// If the name is taken.
    pub(crate) fn add(&mut self, name: impl Into<String>, content: Vec<u8>) -> Result<()> {
        let name = name.into();
        if self.entries.contains_key(&name) {
            bail!("cannot add {name}: the archive has a file of this name");
        }
        self.entries.insert(name, content);
        Ok(())
    }

    /// Files in the order of the archive.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let entries = self.entries.iter();
        entries.map(|(name, content)| (name.as_str(), content.as_slice()))
    }

    /// Total size of the files, in bytes.
    pub(crate) fn unzipped(&self) -> u64 {
        self.entries.values().map(|file| file.len() as u64).sum()
    }

    /// Bytes of the zip file.
    ///
    /// # Errors
    /// If a file, the archive or the number of files exceeds the format's limits without Zip64.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut zip = Vec::new();
        let mut directory = Vec::new();
        for (name, content) in &self.entries {
            let offset = size(zip.len())?;
            let header = Header::new(name, content)?;
            zip.extend(b"PK\x03\x04");
            zip.extend(&header.common);
            zip.extend(0u16.to_le_bytes()); // extra field
            zip.extend(name.as_bytes());
            zip.extend(&header.compressed);

            directory.extend(b"PK\x01\x02");
            directory.extend((UNIX | VERSION).to_le_bytes());
            directory.extend(&header.common);
            directory.extend([0; 2 + 2 + 2 + 2]); // extra field, comment, disk, internal attributes
            directory.extend(((REGULAR_FILE | mode(content)) << 16).to_le_bytes());
            directory.extend(offset.to_le_bytes());
            directory.extend(name.as_bytes());
        }
        let count =
            u16::try_from(self.entries.len()).context("cannot write more than 65,535 files")?;
        let start = size(zip.len())?;
        let length = size(directory.len())?;
        zip.extend(&directory);
        zip.extend(b"PK\x05\x06");
        zip.extend([0; 2 + 2]); // numbers of disks
        zip.extend(count.to_le_bytes());
        zip.extend(count.to_le_bytes());
        zip.extend(length.to_le_bytes());
        zip.extend(start.to_le_bytes());
        zip.extend(0u16.to_le_bytes()); // comment
        Ok(zip)
    }
}

/// Part that the local header and the central directory share, and the compressed content.
struct Header {
    common: Vec<u8>,
    compressed: Vec<u8>,
}

impl Header {
    fn new(name: &str, content: &[u8]) -> Result<Self> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content)?;
        let compressed = encoder.finish()?;
        let mut crc = Crc::new();
        crc.update(content);
        let length = u16::try_from(name.len())
            .with_context(|| format!("cannot write {name}: the name is too long"))?;

        let mut common = Vec::new();
        for field in [VERSION, UTF_8, DEFLATED, 0, DATE] {
            common.extend(field.to_le_bytes());
        }
        common.extend(crc.sum().to_le_bytes());
        common.extend(size(compressed.len())?.to_le_bytes());
        common.extend(size(content.len())?.to_le_bytes());
        common.extend(length.to_le_bytes());
        Ok(Self { common, compressed })
    }
}

fn size(bytes: usize) -> Result<u32> {
    u32::try_from(bytes)
        .with_context(|| format!("cannot write {bytes} bytes: a zip file has at most 4 GiB"))
}

/// Permissions of a file: 0755 for programs and libraries (ELF) and for scripts, 0644 otherwise. Modes of the machine
/// that packs have no influence.
fn mode(content: &[u8]) -> u32 {
    let executable = content.starts_with(b"\x7fELF") || content.starts_with(b"#!");
    if executable { 0o755 } else { 0o644 }
}
