//! Zstandard frames for tests.

use zstd_safe::{CCtx, CParameter};

/// Settings of a frame.
#[derive(Clone, Copy, Debug)]
pub(in crate::fetch) struct FrameSettings {
    pub(in crate::fetch) level: i32,
    /// `true` if the header declares the content size.
    pub(in crate::fetch) declares: bool,
    /// `true` if the frame ends with a checksum.
    pub(in crate::fetch) checks: bool,
    /// The window as a power of two; 0 for the default of the level.
    pub(in crate::fetch) window: u32,
}

/// Default settings of the command `zstd`.
pub(in crate::fetch) const DEFAULT: FrameSettings = FrameSettings {
    level: 3,
    declares: true,
    checks: true,
    window: 0,
};

impl FrameSettings {
    pub(in crate::fetch) fn compress(self, bytes: &[u8]) -> Vec<u8> {
        let mut encoder = CCtx::create();
        let settings = [
            CParameter::CompressionLevel(self.level),
            CParameter::ContentSizeFlag(self.declares),
            CParameter::ChecksumFlag(self.checks),
            CParameter::WindowLog(self.window),
        ];
        for setting in settings {
            encoder.set_parameter(setting).unwrap();
        }
        let mut compressed = vec![0; zstd_safe::compress_bound(bytes.len())];
        let length = encoder.compress2(&mut compressed[..], bytes).unwrap();
        compressed.truncate(length);
        compressed
    }
}

/// Returns a skippable frame.
pub(in crate::fetch) fn skippable(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    [&[0x5A, 0x2A, 0x4D, 0x18], &length[..], bytes].concat()
}

/// Returns a frame that declares its content size, a skippable frame, and a frame that does not declare it.
pub(in crate::fetch) fn three_frames(bytes: &[u8]) -> Vec<u8> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let undeclared = FrameSettings {
        declares: false,
        ..DEFAULT
    };
    [
        DEFAULT.compress(first),
        skippable(b"!"),
        undeclared.compress(second),
    ]
    .concat()
}
