//! Decompression of valid, invalid and damaged data.

use proptest::prelude::*;

use super::*;
use crate::cache::RemoteFile;
use crate::fetch::Compression;
use crate::fetch::tests::zstd_frames::{DEFAULT, FrameSettings, skippable, three_frames};
use crate::ids::{ETag, Expected, Identity};

/// Decompresses `compressed`, fed in pieces of this length.
fn decompress(
    compressed: &[u8],
    piece: usize,
    expected_size: Option<u64>,
) -> Result<Vec<u8>, String> {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path()).unwrap();
    let remote = RemoteFile {
        location: "s3://b/m.onnx.zst".to_owned(),
        identity: Identity {
            etag: ETag("1".to_owned()),
            version_id: None,
        },
        size: compressed.len() as u64,
        checksum: None,
    };
    let expected = expected_size.map(|size| Expected {
        size,
        digest: Digest::of(Sha256::new()),
    });
    let expectation = Expectation::new(&remote, expected.as_ref(), Compression::Zstd).unwrap();
    let message = |failure| match failure {
        WriteFailure::InsufficientSpace(bytes) => format!("no space for {bytes}"),
        WriteFailure::Other(error) => error.to_string(),
    };
    let mut decompressor = Decompressor::new(&cache, expectation).map_err(message)?;
    for bytes in compressed.chunks(piece) {
        decompressor.feed(bytes).map_err(message)?;
    }
    let content = decompressor.finish().map_err(message)?;
    let path = std::fs::read_dir(directory.path().join("partials"));
    let path = path.unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(content.size, bytes.len() as u64);
    assert_eq!(
        content.digest,
        Digest::of(Sha256::new().chain_update(&bytes))
    );
    Ok(bytes)
}

fn bytes(length: usize) -> Vec<u8> {
    let words = (0_u64..).flat_map(|n| (n.wrapping_mul(n) / 3).to_le_bytes());
    words.take(length).collect()
}

fn assert_rejected(compressed: &[u8], expected_size: Option<u64>, words: &[&str]) {
    for piece in [1, 1 << 20] {
        let message = decompress(compressed, piece, expected_size).unwrap_err();
        for word in words {
            assert!(message.contains(word), "{word}: {message}");
        }
    }
}

#[test]
fn several_blocks_and_the_maximum_window_are_accepted() {
    let bytes = bytes(20 << 20);
    for window in [10, 23] {
        let compressed = FrameSettings {
            level: 1,
            window,
            ..DEFAULT
        }
        .compress(&bytes);
        assert!(decompress(&compressed, 100_000, None).unwrap() == bytes);
    }
}

#[test]
fn a_larger_window_is_rejected_by_its_header_with_a_remedy() {
    let long = FrameSettings {
        window: 24,
        ..DEFAULT
    };
    let compressed = long.compress(&bytes(20 << 20));
    let words = [
        "maximum of 8388608 bytes",
        "without --long",
        "level up to 19",
    ];
    assert_rejected(&compressed[..20], None, &words);
    // Content smaller than the window: the frame requires no more memory than its content.
    let small = bytes(1 << 20);
    assert!(decompress(&long.compress(&small), 100_000, None).unwrap() == small);
}

#[test]
fn memory_stays_bounded_by_the_window() {
    let mut decoder = DCtx::create();
    let limited = decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG));
    limited.unwrap();
    let compressed = FrameSettings {
        window: MAX_WINDOW_LOG,
        ..DEFAULT
    }
    .compress(&bytes(20 << 20));
    let mut block = vec![0; BLOCK_BYTES];
    let mut output = OutBuffer::around(&mut block[..]);
    let mut input = InBuffer::around(&compressed);
    decoder.decompress_stream(&mut output, &mut input).unwrap();
    let memory = decoder.sizeof() as u64;
    assert!(
        (MAX_WINDOW_BYTES..MAX_WINDOW_BYTES + (1 << 20)).contains(&memory),
        "{memory}"
    );
}

#[test]
fn other_data_are_distinguished_from_truncated_data() {
    let compressed = DEFAULT.compress(&bytes(1_000));
    let more = |rest: &[u8]| [&compressed[..], rest].concat();
    assert_rejected(b"\x08\x09onnx", None, &["there is no zstd frame at byte 0"]);
    let at = format!("there is no zstd frame at byte {}", compressed.len());
    assert_rejected(&more(b"x"), None, &[&at]);
    assert_rejected(&more(&[0; 9]), None, &[&at]);
    assert_rejected(b"", None, &["ends at byte 0", "upload was complete"]);
    for less in 1..compressed.len() {
        let at = format!("ends at byte {less}, ");
        assert_rejected(&compressed[..less], None, &[&at]);
    }
    let skip = skippable(b"abc");
    assert_rejected(&more(&skip[..9]), None, &["within a zstd frame"]);
}

#[test]
fn a_frame_with_a_wrong_checksum_is_damaged() {
    let mut compressed = DEFAULT.compress(&bytes(1_000));
    *compressed.last_mut().unwrap() ^= 1;
    assert_rejected(&compressed, None, &["damaged", "checksum"]);
}

#[test]
fn a_dictionary_is_rejected() {
    let mut compressed = vec![0x28, 0xB5, 0x2F, 0xFD, 0x21, 7, 3];
    compressed.extend([0; 9]);
    assert_rejected(&compressed, None, &["require a dictionary"]);
}

#[test]
fn the_decompressed_size_is_limited_by_the_manifest() {
    let undeclared = FrameSettings {
        declares: false,
        ..DEFAULT
    };
    let bytes = bytes(500_000);
    let expected = Some(499_999);
    let words = ["exceeds the 499999 bytes that the manifest declares"];
    assert_rejected(&DEFAULT.compress(&bytes)[..20], expected, &words);
    assert_rejected(&undeclared.compress(&bytes), expected, &words);
    let two = [
        DEFAULT.compress(&bytes[..400_000]),
        DEFAULT.compress(&bytes[400_000..]),
    ]
    .concat();
    assert_rejected(&two, expected, &words);
    let words = ["s3://b/m.onnx.zst has 500000 bytes, but the manifest declares 500001"];
    assert_rejected(&two, Some(500_001), &words);
    assert!(decompress(&two, 9_999, Some(500_000)).unwrap() == bytes);
}

#[test]
fn the_decompressed_size_is_limited_by_the_header() {
    // The same blocks under a header that declares 99 bytes: one byte each, in a single segment.
    let bytes = bytes(100);
    let mut compressed = DEFAULT.compress(&bytes);
    assert_eq!(compressed[4] & 0xE0, 0x20);
    assert_eq!(compressed[5], 100);
    compressed[5] = 99;
    let message = decompress(&compressed, 1, None).unwrap_err();
    assert!(
        message.contains("damaged") || message.contains("99 bytes"),
        "{message}"
    );
}

#[test]
fn content_without_space_is_rejected_by_its_header() {
    let mut compressed = vec![0x28, 0xB5, 0x2F, 0xFD, 0xC0, 13 << 3];
    compressed.extend((1_u64 << 60).to_le_bytes());
    assert_rejected(&compressed, None, &["no space for 1152921504606846976"]);
    assert_rejected(
        &compressed,
        Some(1 << 61),
        &["no space for 2305843009213693952"],
    );
}

fn frames() -> impl Strategy<Value = Vec<(FrameSettings, usize, bool)>> {
    let frame = (
        -1..6,
        any::<bool>(),
        any::<bool>(),
        prop_oneof![Just(0), 10..13_u32],
    );
    let frame = frame.prop_map(|(level, declares, checks, window)| FrameSettings {
        level,
        declares,
        checks,
        window,
    });
    proptest::collection::vec((frame, 0..6_000_usize, any::<bool>()), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_frames_in_any_pieces_are_decompressed(frames in frames(), piece in 1..4_000_usize) {
        let bytes = bytes(24_000);
        let (mut compressed, mut at) = (Vec::new(), 0);
        for (frame, length, skips) in frames {
            compressed.extend(frame.compress(&bytes[at..at + length]));
            at += length;
            if skips {
                compressed.extend(skippable(&bytes[..length / 9]));
            }
        }
        prop_assert!(decompress(&compressed, piece, None).unwrap() == bytes[..at]);
    }

    #[test]
    fn a_flipped_bit_never_produces_another_file(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let bytes = bytes(3_000);
        let mut compressed = [DEFAULT.compress(&bytes[..2_000]), DEFAULT.compress(&bytes[2_000..])].concat();
        let at = at.index(compressed.len());
        compressed[at] ^= 1 << bit;
        let decompressed = decompress(&compressed, 500, None);
        prop_assert!(decompressed.is_err() || decompressed == Ok(bytes));
    }

    #[test]
    fn garbage_is_rejected_without_a_panic(mut garbage in proptest::collection::vec(any::<u8>(), 0..300)) {
        garbage.splice(0..0, [0x28, 0xB5, 0x2F, 0xFD]);
        let _ = decompress(&garbage, 7, None);
    }
}

#[test]
fn the_test_helper_writes_valid_frames() {
    let bytes = bytes(59);
    assert_eq!(decompress(&three_frames(&bytes), 2, None).unwrap(), bytes);
}
