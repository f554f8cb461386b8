//! What `zstd` writes.

use zstd_safe::{CCtx, CParameter};

/// How a frame is written.
#[derive(Clone, Copy, Debug)]
pub(in crate::fetch) struct Frame {
    pub(in crate::fetch) level: i32,
    /// Whether its header says how much comes out.
    pub(in crate::fetch) declares: bool,
    /// Whether it ends with a checksum.
    pub(in crate::fetch) checks: bool,
    /// The window as a power of two; 0 for what the level takes.
    pub(in crate::fetch) window: u32,
}

/// What the command writes without further words.
pub(in crate::fetch) const USUAL: Frame = Frame {
    level: 3,
    declares: true,
    checks: true,
    window: 0,
};

impl Frame {
    pub(in crate::fetch) fn of(self, bytes: &[u8]) -> Vec<u8> {
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
        let mut packed = vec![0; zstd_safe::compress_bound(bytes.len())];
        let length = encoder.compress2(&mut packed[..], bytes).unwrap();
        packed.truncate(length);
        packed
    }
}

/// A frame that is skipped.
pub(in crate::fetch) fn skipped(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    [&[0x5A, 0x2A, 0x4D, 0x18], &length[..], bytes].concat()
}

/// Two frames, of which one declares its content, and one between them that is skipped.
pub(in crate::fetch) fn pack(bytes: &[u8]) -> Vec<u8> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let undeclared = Frame {
        declares: false,
        ..USUAL
    };
    [USUAL.of(first), skipped(b"!"), undeclared.of(second)].concat()
}
