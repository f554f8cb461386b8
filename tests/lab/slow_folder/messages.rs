//! Messages of FUSE, as in Linux's `include/uapi/linux/fuse.h`, version 7.31. Numbers are in the
//! machine's byte order.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;

/// Size of a request's header, `fuse_in_header`.
const REQUEST_HEADER: usize = 40;
/// Size of a response's header, `fuse_out_header`.
const RESPONSE_HEADER: usize = 16;
/// Version of the protocol: 7.31.
const VERSION: [u32; 2] = [7, 31];

/// Flag of INIT: several reads of a file at the same time, as of a disk.
const ASYNC_READ: u32 = 1;

/// A request of the kernel.
pub(super) struct Request<'a> {
    /// Number that the response repeats.
    pub(super) unique: u64,
    pub(super) call: Call<'a>,
}

pub(super) enum Call<'a> {
    Init {
        readahead: u32,
    },
    Lookup {
        parent: u64,
        name: &'a OsStr,
    },
    Attributes {
        node: u64,
    },
    List {
        node: u64,
        offset: u64,
        size: usize,
    },
    Read(ReadCall),
    /// A request without a response.
    Silent,
    /// A request that the kernel does without: it opens files itself, with their pages kept.
    Unsupported,
}

/// Read of a part of a file.
pub(super) struct ReadCall {
    pub(super) unique: u64,
    pub(super) node: u64,
    pub(super) offset: u64,
    pub(super) size: usize,
}

impl<'a> Request<'a> {
    /// Parses a request; `None` if it is incomplete.
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        let (header, body) = message.split_at_checked(REQUEST_HEADER)?;
        let unique = u64_at(header, 8)?;
        let node = u64_at(header, 16)?;
        let call = match u32_at(header, 4)? {
            1 => Call::Lookup {
                parent: node,
                name: OsStr::from_bytes(body.split(|byte| *byte == 0).next()?),
            },
            // FORGET, INTERRUPT, BATCH_FORGET.
            2 | 36 | 42 => Call::Silent,
            3 => Call::Attributes { node },
            15 => Call::Read(ReadCall {
                unique,
                node,
                offset: u64_at(body, 8)?,
                size: u32_at(body, 16)? as usize,
            }),
            26 => Call::Init {
                readahead: u32_at(body, 8)?,
            },
            28 => Call::List {
                node,
                offset: u64_at(body, 8)?,
                size: u32_at(body, 16)? as usize,
            },
            _ => Call::Unsupported,
        };
        Some(Self { unique, call })
    }
}

/// Attributes of a file or folder, `fuse_attr`.
pub(super) struct Attributes {
    pub(super) node: u64,
    pub(super) size: u64,
    /// Seconds and nanoseconds.
    pub(super) modified: (u64, u32),
    pub(super) mode: u32,
    pub(super) owner: [u32; 2],
}

/// Time for which the kernel may keep names and attributes, in seconds. Nothing changes.
const VALID: u64 = 86_400;

/// Body of the response to INIT. The kernel keeps its own read-ahead.
pub(super) fn init(readahead: u32) -> Vec<u8> {
    let mut body = Body::default();
    body.u32s(&VERSION).u32s(&[readahead, ASYNC_READ]);
    // Requests in the background: the kernel's default. Writes: none. Unused.
    body.u32s(&[0; 12]);
    body.0
}

/// Body of the response to LOOKUP. A name that does not exist has no attributes, and the kernel
/// remembers that as well.
pub(super) fn entry(found: Option<&Attributes>) -> Vec<u8> {
    let mut body = Body::default();
    let node = found.map_or(0, |found| found.node);
    body.u64s(&[node, 0, VALID, VALID]).u32s(&[0, 0]);
    match found {
        Some(found) => body.attributes(found),
        None => body.u32s(&[0; 22]),
    };
    body.0
}

/// Body of the response to GETATTR.
pub(super) fn attributes(found: &Attributes) -> Vec<u8> {
    let mut body = Body::default();
    body.u64s(&[VALID]).u32s(&[0, 0]).attributes(found);
    body.0
}

/// Appends an entry of a folder, `fuse_dirent`; returns `false` if it does not fit into `size`.
pub(super) fn list(
    body: &mut Vec<u8>,
    size: usize,
    next: u64,
    found: &Attributes,
    name: &OsStr,
) -> bool {
    let mut entry = Body::default();
    let name = name.as_bytes();
    entry.u64s(&[found.node, next]);
    // The type is in the mode's upper bits.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a name has at most 255 bytes"
    )]
    entry.u32s(&[name.len() as u32, found.mode >> 12]);
    entry.0.extend_from_slice(name);
    entry.0.resize(entry.0.len().next_multiple_of(8), 0);
    let fits = body.len() + entry.0.len() <= size;
    if fits {
        body.extend_from_slice(&entry.0);
    }
    fits
}

/// Response with a body, or with the number of an error.
pub(super) fn response(unique: u64, content: Result<&[u8], &io::Error>) -> Vec<u8> {
    let (error, content) = match content {
        Ok(content) => (0, content),
        Err(error) => (-error.raw_os_error().unwrap_or(nix::libc::EIO), &[][..]),
    };
    let mut message = Body::default();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most the size that was asked for"
    )]
    message.u32s(&[
        (RESPONSE_HEADER + content.len()) as u32,
        error.cast_unsigned(),
    ]);
    message.u64s(&[unique]);
    message.0.extend_from_slice(content);
    message.0
}

#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn u32s(&mut self, numbers: &[u32]) -> &mut Self {
        self.0
            .extend(numbers.iter().flat_map(|number| number.to_ne_bytes()));
        self
    }

    fn u64s(&mut self, numbers: &[u64]) -> &mut Self {
        self.0
            .extend(numbers.iter().flat_map(|number| number.to_ne_bytes()));
        self
    }

    fn attributes(&mut self, of: &Attributes) -> &mut Self {
        let (seconds, nanoseconds) = of.modified;
        let [user, group] = of.owner;
        self.u64s(&[
            of.node,
            of.size,
            of.size.div_ceil(512),
            seconds,
            seconds,
            seconds,
        ]);
        self.u32s(&[nanoseconds; 3]);
        // One link, no device, blocks of a page, no flags.
        self.u32s(&[of.mode, 1, user, group, 0, 4096, 0])
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}
