//! Decompression of a file while it arrives.
//!
//! Accepts what `zstd -d` accepts: any number of frames, and skippable frames between them. The decompressed bytes are
//! written and hashed. Their number is limited: by the frame header, otherwise by the manifest, otherwise by the
//! available space. A frame header also declares the memory that the frame requires. A frame that requires more than
//! [`MAX_WINDOW_BYTES`] is rejected, so that memory stays bounded whatever is published. All levels up to 19 comply.
//!
//! The C library decompresses four times as fast as the Rust implementation (`ruzstd`) and, without compression, is not
//! larger. With `ruzstd`, the network link of a large function would wait for the decompression.

mod frame;

use sha2::{Digest as _, Sha256};
use zstd_safe::zstd_sys::ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge as WINDOW_TOO_LARGE;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, is_error_kind};

use super::complete_file::{CompleteFile, WriteFailure};
use super::error::{DecompressError, FetchError};
use super::expectation::Expectation;
use crate::cache::{Cache, DecompressedFile, is_storage_full};
use crate::ids::Digest;
use frame::FrameHeader;

/// Maximum window, as a power of two: that of level 19.
const MAX_WINDOW_LOG: u32 = 23;
/// Maximum window in bytes.
const MAX_WINDOW_BYTES: u64 = 1 << MAX_WINDOW_LOG;
/// Space to free at once while the decompressed size is unknown, in bytes.
const SPACE_STEP: u64 = 16 * 1024 * 1024;
/// Number of bytes to decompress at once: the maximum block size of zstd.
const BLOCK_BYTES: usize = 128 * 1024;

/// Decompressor of one file.
pub(super) struct Decompressor {
    cache: Cache,
    expectation: Expectation,
    decoder: DCtx<'static>,
    /// Offset of the next compressed byte.
    at: u64,
    /// Received bytes of the next frame header; empty within a frame.
    header: Vec<u8>,
    is_within_frame: bool,
    limit: OutputLimit,
    /// Number of decompressed bytes.
    output_bytes: u64,
    /// Number of bytes that have been reserved or freed on disk.
    reserved: u64,
    file: DecompressedFile,
    hash: Sha256,
    block: Vec<u8>,
}

/// Maximum number of decompressed bytes until the end of the current frame.
#[derive(Clone, Copy)]
enum OutputLimit {
    /// Declared by the frame header.
    Frame(u64),
    /// Declared by the manifest.
    Manifest(u64),
    /// Undeclared: the available space.
    Space,
}

impl Decompressor {
    /// Decompressor that writes to a new file in `cache`, and compares the content with `expectation`.
    pub(super) fn new(cache: &Cache, expectation: Expectation) -> Result<Self, WriteFailure> {
        let out_of_memory = || std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let mut decoder = DCtx::try_create().ok_or_else(out_of_memory)?;
        let limited = decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG));
        limited.map_err(|_| out_of_memory())?;
        let file = match cache.create_decompressed() {
            Ok(file) => file,
            Err(error) if error.is_storage_full() => {
                return Err(WriteFailure::InsufficientSpace(0));
            }
            Err(error) => return Err(error.into()),
        };
        let mut decompressor = Self {
            cache: cache.clone(),
            decoder,
            at: 0,
            header: Vec::new(),
            is_within_frame: false,
            limit: OutputLimit::Space,
            output_bytes: 0,
            reserved: 0,
            file,
            hash: Sha256::new(),
            block: vec![0; BLOCK_BYTES],
            expectation,
        };
        if let Some(size) = decompressor.expectation.size() {
            decompressor.reserve(size)?;
        }
        Ok(decompressor)
    }

    /// Decompresses the next bytes of the compressed file.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), WriteFailure> {
        while let Some((first, rest)) = bytes.split_first() {
            if self.is_within_frame {
                let taken = self.decode(bytes)?;
                bytes = &bytes[taken..];
                continue;
            }
            // Byte by byte, since the header's length is unknown and its last byte can be the last one of the file.
            self.header.push(*first);
            bytes = rest;
            match frame::read(&self.header) {
                FrameHeader::Incomplete => {}
                FrameHeader::NotZstd => {
                    let at = self.at;
                    return Err(self.failed(DecompressError::NotZstd { at }));
                }
                FrameHeader::Frame {
                    dictionary: true, ..
                } => return Err(self.failed(DecompressError::Dictionary)),
                FrameHeader::Frame { content, .. } => {
                    self.is_within_frame = true;
                    let header = std::mem::take(&mut self.header);
                    // A header produces no output, but zstd rejects one whose window is too large.
                    self.decode(&header)?;
                    self.begin_frame(content)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the decompressed file after the last byte.
    pub(super) fn finish(self) -> Result<CompleteFile, WriteFailure> {
        if self.is_within_frame || !self.header.is_empty() || self.at == 0 {
            let at = self.at + self.header.len() as u64;
            return Err(self.failed(DecompressError::Truncated { at }));
        }
        self.expectation.check_length(self.output_bytes)?;
        Ok(CompleteFile {
            digest: Digest::of(self.hash),
            size: self.output_bytes,
            decompressed: Some(self.file),
        })
    }

    /// Sets the limit for a frame that declares its content size.
    fn begin_frame(&mut self, content: Option<u64>) -> Result<(), WriteFailure> {
        let expected = self.expectation.size();
        self.limit = match (content, expected) {
            (Some(content), _) => {
                let declared = self.output_bytes.saturating_add(content);
                if let Some(expected) = expected.filter(|expected| *expected < declared) {
                    self.limit = OutputLimit::Manifest(expected);
                    return Err(self.too_long());
                }
                self.reserve(declared)?;
                OutputLimit::Frame(declared)
            }
            (None, Some(expected)) => OutputLimit::Manifest(expected),
            (None, None) => OutputLimit::Space,
        };
        Ok(())
    }

    /// Reserves space for a total of `bytes`.
    fn reserve(&mut self, bytes: u64) -> Result<(), WriteFailure> {
        if bytes > self.reserved {
            self.free_space(bytes)?;
            let reserved = self.file.reserve(bytes);
            reserved.map_err(|error| write_failure(error, bytes))?;
        }
        Ok(())
    }

    /// Frees space for a total of `bytes`.
    fn free_space(&mut self, bytes: u64) -> Result<(), WriteFailure> {
        let missing = bytes - self.reserved.max(self.output_bytes);
        let freed = self.cache.free_space(missing, &[]);
        freed.map_err(|_| WriteFailure::InsufficientSpace(bytes))?;
        self.reserved = bytes;
        Ok(())
    }

    /// Decompresses bytes of the current frame. Returns the number of bytes consumed.
    fn decode(&mut self, bytes: &[u8]) -> Result<usize, WriteFailure> {
        let mut input = InBuffer::around(bytes);
        loop {
            let mut output = OutBuffer::around(&mut self.block[..]);
            let left = self.decoder.decompress_stream(&mut output, &mut input);
            let length = output.pos();
            let left = left.map_err(|code| {
                self.failed(if is_error_kind(code, WINDOW_TOO_LARGE) {
                    DecompressError::Window {
                        max_bytes: MAX_WINDOW_BYTES,
                    }
                } else {
                    DecompressError::Damaged {
                        at: self.at + input.pos() as u64,
                        problem: zstd_safe::get_error_name(code),
                    }
                })
            })?;
            self.write(length)?;
            self.is_within_frame = left > 0;
            let has_more_output = length == self.block.len();
            if !self.is_within_frame || (input.pos() == bytes.len() && !has_more_output) {
                self.at += input.pos() as u64;
                return Ok(input.pos());
            }
        }
    }

    /// Writes the first `length` bytes of the block.
    fn write(&mut self, length: usize) -> Result<(), WriteFailure> {
        let output_bytes = self.output_bytes + length as u64;
        match self.limit {
            OutputLimit::Space if output_bytes > self.reserved => {
                let stepped = self.free_space(output_bytes + SPACE_STEP);
                stepped.or_else(|_| self.free_space(output_bytes))?;
            }
            OutputLimit::Frame(declared) | OutputLimit::Manifest(declared)
                if output_bytes > declared =>
            {
                return Err(self.too_long());
            }
            _ => {}
        }
        let bytes = &self.block[..length];
        let written = self.file.write(bytes);
        written.map_err(|error| write_failure(error, output_bytes))?;
        self.hash.update(bytes);
        self.output_bytes = output_bytes;
        Ok(())
    }

    fn too_long(&self) -> WriteFailure {
        let (declared, by_manifest) = match self.limit {
            OutputLimit::Frame(declared) => (declared, false),
            OutputLimit::Manifest(declared) => (declared, true),
            OutputLimit::Space => (self.output_bytes, false),
        };
        self.failed(DecompressError::TooLong {
            declared,
            by_manifest,
        })
    }

    fn failed(&self, reason: DecompressError) -> WriteFailure {
        let uri = self.expectation.uri().to_owned();
        WriteFailure::Other(FetchError::Decompress { uri, reason })
    }
}

/// Returns the failure of a write that would have made a total of `output_bytes`.
fn write_failure(error: std::io::Error, output_bytes: u64) -> WriteFailure {
    if is_storage_full(&error) {
        WriteFailure::InsufficientSpace(output_bytes)
    } else {
        error.into()
    }
}

#[cfg(test)]
mod tests;
