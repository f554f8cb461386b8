//! Decompresses a file while it arrives.
//!
//! It takes what `zstd -d` takes: any number of frames, and others between them that are skipped. What comes out is
//! written and hashed, and never more of it than was declared: by the frame, or else by the publisher, or else than
//! there is room for. A frame says at its beginning how much memory it takes; one that takes more than [`WINDOW`] is
//! refused, so that memory stays bounded whatever is published. All levels of `zstd` up to 19 keep to that.
//!
//! `zstd` itself, in C, since it is four times as fast as the decompressor in Rust (`ruzstd`) and no larger once
//! all that compresses is left out: the link of a large function would wait for the other.

mod frame;

use sha2::{Digest as _, Sha256};
use zstd_safe::zstd_sys::ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge as WINDOW_TOO_LARGE;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, is_error_kind};

use super::FetchError;
use super::expectation::Expectation;
use super::writer::Whole;
use crate::cache::{Cache, DecompressedFile, is_storage_full};
use crate::ids::Digest;
use frame::Header;

/// The largest window, as a power of two: that of level 19.
const WINDOW_LOG: u32 = 23;
const WINDOW: u64 = 1 << WINDOW_LOG;
/// For how much at a time room is made, where it is not known how much comes out.
const STEP: u64 = 16 * 1024 * 1024;
/// How much is decompressed at once: a whole block.
const BLOCK: usize = 128 * 1024;

/// Why what arrived cannot be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// It is no zstd data, or is no more from some byte on.
    #[error("at byte {at} there is no zstd frame (a name that ends in .zst promises one)")]
    Foreign {
        /// Of the compressed file.
        at: u64,
    },
    /// It ends within a frame.
    #[error("it ends at byte {at}, within a zstd frame: was it uploaded whole?")]
    Truncated {
        /// Of the compressed file.
        at: u64,
    },
    /// The decompressor, or a frame's own checksum, found something wrong.
    #[error("its zstd data are damaged at about byte {at}: {problem}")]
    Damaged {
        /// Of the compressed file.
        at: u64,
        /// In zstd's words.
        problem: &'static str,
    },
    /// More comes out than was declared.
    #[error("more comes out of it than the {declared} bytes that its {} declares", if *.promised { "publisher" } else { "header" })]
    TooLong {
        /// What was declared for all that comes out so far.
        declared: u64,
        /// Whether by the publisher, and not by the frame.
        promised: bool,
    },
    /// It takes more memory than there may be.
    #[error(
        "its window is larger than the {WINDOW} bytes that are allowed, so that memory stays bounded: compress it with \
         a level up to 19, without --long and --ultra"
    )]
    Window,
    /// It was compressed with a dictionary.
    #[error("it was compressed with a dictionary, which is not there: compress it without")]
    Dictionary,
}

impl DecompressError {
    /// Whether bytes that were damaged on the way may be the reason. What a header says is asked for anew as well when
    /// it contradicts what comes out, and not when it alone is the obstacle.
    pub(super) fn is_damage(&self) -> bool {
        !matches!(self, DecompressError::Window | DecompressError::Dictionary)
    }
}

/// Why there is nothing more to write.
pub(super) enum Failure {
    /// There is no room for so many decompressed bytes.
    InsufficientSpace(u64),
    /// Anything else.
    Other(FetchError),
}

impl<E: Into<FetchError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Other(error.into())
    }
}

/// A file on its way out of its frames.
pub(super) struct Unpacker {
    cache: Cache,
    expectation: Expectation,
    decoder: DCtx<'static>,
    /// How far the compressed bytes have been taken.
    at: u64,
    /// The header of the next frame, as far as it is here; empty within a frame.
    header: Vec<u8>,
    is_within: bool,
    limit: Limit,
    /// How many bytes have come out.
    out: u64,
    /// For how many there is room on the disk.
    reserved: u64,
    file: DecompressedFile,
    hash: Sha256,
    block: Vec<u8>,
}

/// How many bytes may come out in all until the end of the present frame: as many as were declared or promised, or as
/// there is room for.
#[derive(Clone, Copy)]
enum Limit {
    Frame(u64),
    Promise(u64),
    None,
}

impl Unpacker {
    /// One that writes to a new file in `cache`, and holds what comes out against `expectation`.
    pub(super) fn new(cache: &Cache, expectation: Expectation) -> Result<Self, Failure> {
        let memory = || std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let mut decoder = DCtx::try_create().ok_or_else(memory)?;
        let limited = decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG));
        limited.map_err(|_| memory())?;
        let file = match cache.unpacked() {
            Ok(file) => file,
            Err(error) if error.is_storage_full() => return Err(Failure::InsufficientSpace(0)),
            Err(error) => return Err(error.into()),
        };
        let mut unpacker = Self {
            cache: cache.clone(),
            decoder,
            at: 0,
            header: Vec::new(),
            is_within: false,
            limit: Limit::None,
            out: 0,
            reserved: 0,
            file,
            hash: Sha256::new(),
            block: vec![0; BLOCK],
            expectation,
        };
        if let Some(size) = unpacker.expectation.promised_size() {
            unpacker.reserve(size)?;
        }
        Ok(unpacker)
    }

    /// Takes the next bytes of the compressed file.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while let Some((first, rest)) = bytes.split_first() {
            if self.is_within {
                let taken = self.decode(bytes)?;
                bytes = &bytes[taken..];
                continue;
            }
            // Byte by byte: it ends where the frame's own data begin, and they may be the last of the file.
            self.header.push(*first);
            bytes = rest;
            match frame::read(&self.header) {
                Header::Incomplete => {}
                Header::Foreign => {
                    let at = self.at;
                    return Err(self.failed(DecompressError::Foreign { at }));
                }
                Header::Frame {
                    dictionary: true, ..
                } => return Err(self.failed(DecompressError::Dictionary)),
                Header::Frame { content, .. } => {
                    self.is_within = true;
                    let header = std::mem::take(&mut self.header);
                    // Nothing comes out of a header alone, and zstd refuses one whose window is too large.
                    self.decode(&header)?;
                    self.begin(content)?;
                }
            }
        }
        Ok(())
    }

    /// The file, once all was taken.
    pub(super) fn finish(self) -> Result<Whole, Failure> {
        if self.is_within || !self.header.is_empty() || self.at == 0 {
            let at = self.at + self.header.len() as u64;
            return Err(self.failed(DecompressError::Truncated { at }));
        }
        self.expectation.hold_length(self.out)?;
        Ok(Whole {
            digest: Digest::of(self.hash),
            size: self.out,
            unpacked: Some(self.file),
        })
    }

    /// A frame begins, which declares its content.
    fn begin(&mut self, content: Option<u64>) -> Result<(), Failure> {
        let promised = self.expectation.promised_size();
        self.limit = match (content, promised) {
            (Some(content), _) => {
                let declared = self.out.saturating_add(content);
                if let Some(promised) = promised.filter(|promised| *promised < declared) {
                    self.limit = Limit::Promise(promised);
                    return Err(self.too_long());
                }
                self.reserve(declared)?;
                Limit::Frame(declared)
            }
            (None, Some(promised)) => Limit::Promise(promised),
            (None, None) => Limit::None,
        };
        Ok(())
    }

    /// Takes room for so many bytes in all.
    fn reserve(&mut self, bytes: u64) -> Result<(), Failure> {
        if bytes > self.reserved {
            self.free_space(bytes)?;
            let reserved = self.file.reserve(bytes);
            reserved.map_err(|error| unwritten(error, bytes))?;
        }
        Ok(())
    }

    /// Sees that there is room for so many bytes in all.
    fn free_space(&mut self, bytes: u64) -> Result<(), Failure> {
        let lacks = bytes - self.reserved.max(self.out);
        let room = self.cache.free_space(lacks, &[]);
        room.map_err(|_| Failure::InsufficientSpace(bytes))?;
        self.reserved = bytes;
        Ok(())
    }

    /// Decompresses bytes of the present frame; how many it has taken.
    fn decode(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let mut input = InBuffer::around(bytes);
        loop {
            let mut output = OutBuffer::around(&mut self.block[..]);
            let left = self.decoder.decompress_stream(&mut output, &mut input);
            let out = output.pos();
            let left = left.map_err(|code| {
                self.failed(if is_error_kind(code, WINDOW_TOO_LARGE) {
                    DecompressError::Window
                } else {
                    DecompressError::Damaged {
                        at: self.at + input.pos() as u64,
                        problem: zstd_safe::get_error_name(code),
                    }
                })
            })?;
            self.write(out)?;
            self.is_within = left > 0;
            let has_more_out = out == self.block.len();
            if !self.is_within || (input.pos() == bytes.len() && !has_more_out) {
                self.at += input.pos() as u64;
                return Ok(input.pos());
            }
        }
    }

    /// Writes the first bytes of the block.
    fn write(&mut self, length: usize) -> Result<(), Failure> {
        let out = self.out + length as u64;
        match self.limit {
            Limit::None if out > self.reserved => {
                let stepped = self.free_space(out + STEP);
                stepped.or_else(|_| self.free_space(out))?;
            }
            Limit::Frame(declared) | Limit::Promise(declared) if out > declared => {
                return Err(self.too_long());
            }
            _ => {}
        }
        let bytes = &self.block[..length];
        let written = self.file.write(bytes);
        written.map_err(|error| unwritten(error, out))?;
        self.hash.update(bytes);
        self.out = out;
        Ok(())
    }

    fn too_long(&self) -> Failure {
        let (declared, promised) = match self.limit {
            Limit::Frame(declared) => (declared, false),
            Limit::Promise(declared) => (declared, true),
            Limit::None => (self.out, false),
        };
        self.failed(DecompressError::TooLong { declared, promised })
    }

    fn failed(&self, reason: DecompressError) -> Failure {
        let uri = self.expectation.uri().to_owned();
        Failure::Other(FetchError::Decompress { uri, reason })
    }
}

/// A write of all that comes out, `out` bytes so far, has failed.
fn unwritten(error: std::io::Error, out: u64) -> Failure {
    if is_storage_full(&error) {
        Failure::InsufficientSpace(out)
    } else {
        error.into()
    }
}

#[cfg(test)]
mod tests;
