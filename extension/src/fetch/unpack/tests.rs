use proptest::prelude::*;

use super::*;
use crate::cache::RemoteFile;
use crate::fetch::Compression;
use crate::fetch::tests::pack::{Frame, USUAL, pack, skipped};
use crate::ids::{ETag, Expected, Identity};

/// What comes out of `packed`, given in pieces of so many bytes, or why not.
fn unpack(packed: &[u8], piece: usize, promised: Option<u64>) -> Result<Vec<u8>, String> {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path()).unwrap();
    let wanted = RemoteFile {
        location: "s3://b/m.onnx.zst".to_owned(),
        identity: Identity {
            etag: ETag("1".to_owned()),
            version_id: None,
        },
        size: packed.len() as u64,
        checksum: None,
    };
    let expected = promised.map(|size| Expected {
        size,
        digest: Digest::of(Sha256::new()),
    });
    let expectation = Expectation::of(&wanted, expected.as_ref(), Compression::Zstd).unwrap();
    let said = |failure| match failure {
        Failure::InsufficientSpace(bytes) => format!("no room for {bytes}"),
        Failure::Other(error) => error.to_string(),
    };
    let mut unpacker = Unpacker::new(&cache, expectation).map_err(said)?;
    for bytes in packed.chunks(piece) {
        unpacker.feed(bytes).map_err(said)?;
    }
    let content = unpacker.finish().map_err(said)?;
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

fn assert_refused(packed: &[u8], promised: Option<u64>, words: &[&str]) {
    for piece in [1, 1 << 20] {
        let said = unpack(packed, piece, promised).unwrap_err();
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}

#[test]
fn several_blocks_and_the_largest_window_that_is_allowed_are_taken() {
    let bytes = bytes(20 << 20);
    for window in [10, 23] {
        let packed = Frame {
            level: 1,
            window,
            ..USUAL
        }
        .of(&bytes);
        assert!(unpack(&packed, 100_000, None).unwrap() == bytes);
    }
}

#[test]
fn a_larger_window_is_refused_by_its_header_with_what_to_do() {
    let long = Frame {
        window: 24,
        ..USUAL
    };
    let packed = long.of(&bytes(20 << 20));
    let words = [
        "larger than the 8388608 bytes",
        "without --long",
        "level up to 19",
    ];
    assert_refused(&packed[..20], None, &words);
    // What comes out is smaller than the window: the frame takes no more than that.
    let small = bytes(1 << 20);
    assert!(unpack(&long.of(&small), 100_000, None).unwrap() == small);
}

#[test]
fn memory_stays_bounded_by_the_window() {
    let mut decoder = DCtx::create();
    let limited = decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG));
    limited.unwrap();
    let packed = Frame {
        window: WINDOW_LOG,
        ..USUAL
    }
    .of(&bytes(20 << 20));
    let mut block = vec![0; BLOCK];
    let mut output = OutBuffer::around(&mut block[..]);
    let mut input = InBuffer::around(&packed);
    decoder.decompress_stream(&mut output, &mut input).unwrap();
    let takes = decoder.sizeof() as u64;
    assert!((WINDOW..WINDOW + (1 << 20)).contains(&takes), "{takes}");
}

#[test]
fn what_is_no_zstd_or_no_more_is_told_apart_from_what_ends_early() {
    let packed = USUAL.of(&bytes(1_000));
    let more = |rest: &[u8]| [&packed[..], rest].concat();
    assert_refused(b"\x08\x09onnx", None, &["at byte 0 there is no zstd frame"]);
    let at = format!("at byte {} there is no zstd frame", packed.len());
    assert_refused(&more(b"x"), None, &[&at]);
    assert_refused(&more(&[0; 9]), None, &[&at]);
    assert_refused(b"", None, &["ends at byte 0", "uploaded whole"]);
    for less in 1..packed.len() {
        let at = format!("ends at byte {less}, ");
        assert_refused(&packed[..less], None, &[&at]);
    }
    let skip = skipped(b"abc");
    assert_refused(&more(&skip[..9]), None, &["within a zstd frame"]);
}

#[test]
fn a_frame_that_breaks_its_own_checksum_is_damaged() {
    let mut packed = USUAL.of(&bytes(1_000));
    *packed.last_mut().unwrap() ^= 1;
    assert_refused(&packed, None, &["damaged", "checksum"]);
}

#[test]
fn a_dictionary_is_refused() {
    let mut packed = vec![0x28, 0xB5, 0x2F, 0xFD, 0x21, 7, 3];
    packed.extend([0; 9]);
    assert_refused(&packed, None, &["compressed with a dictionary"]);
}

#[test]
fn no_more_comes_out_than_was_declared_or_promised() {
    let undeclared = Frame {
        declares: false,
        ..USUAL
    };
    let bytes = bytes(500_000);
    let promise = Some(499_999);
    let words = ["more comes out of it than the 499999 bytes that its publisher declares"];
    assert_refused(&USUAL.of(&bytes)[..20], promise, &words);
    assert_refused(&undeclared.of(&bytes), promise, &words);
    let two = [USUAL.of(&bytes[..400_000]), USUAL.of(&bytes[400_000..])].concat();
    assert_refused(&two, promise, &words);
    let words = ["s3://b/m.onnx.zst has 500000 bytes, and 500001 were promised"];
    assert_refused(&two, Some(500_001), &words);
    assert!(unpack(&two, 9_999, Some(500_000)).unwrap() == bytes);
}

#[test]
fn a_header_that_declares_less_than_comes_out_does_not_let_it_out() {
    // The same blocks under a header that declares 99 bytes: one byte each, in a single segment.
    let bytes = bytes(100);
    let mut packed = USUAL.of(&bytes);
    assert_eq!(packed[4] & 0xE0, 0x20);
    assert_eq!(packed[5], 100);
    packed[5] = 99;
    let said = unpack(&packed, 1, None).unwrap_err();
    assert!(
        said.contains("damaged") || said.contains("99 bytes"),
        "{said}"
    );
}

#[test]
fn what_has_no_room_is_refused_by_its_header() {
    let mut packed = vec![0x28, 0xB5, 0x2F, 0xFD, 0xC0, 13 << 3];
    packed.extend((1_u64 << 60).to_le_bytes());
    assert_refused(&packed, None, &["no room for 1152921504606846976"]);
    assert_refused(&packed, Some(1 << 61), &["no room for 2305843009213693952"]);
}

fn frames() -> impl Strategy<Value = Vec<(Frame, usize, bool)>> {
    let frame = (
        -1..6,
        any::<bool>(),
        any::<bool>(),
        prop_oneof![Just(0), 10..13_u32],
    );
    let frame = frame.prop_map(|(level, declares, checks, window)| Frame {
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
    fn any_frames_in_any_pieces_give_the_file(frames in frames(), piece in 1..4_000_usize) {
        let bytes = bytes(24_000);
        let (mut packed, mut at) = (Vec::new(), 0);
        for (frame, length, skips) in frames {
            packed.extend(frame.of(&bytes[at..at + length]));
            at += length;
            if skips {
                packed.extend(skipped(&bytes[..length / 9]));
            }
        }
        prop_assert!(unpack(&packed, piece, None).unwrap() == bytes[..at]);
    }

    #[test]
    fn a_bit_that_flips_is_never_another_file(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let bytes = bytes(3_000);
        let mut packed = [USUAL.of(&bytes[..2_000]), USUAL.of(&bytes[2_000..])].concat();
        let at = at.index(packed.len());
        packed[at] ^= 1 << bit;
        let unpacked = unpack(&packed, 500, None);
        prop_assert!(unpacked.is_err() || unpacked == Ok(bytes));
    }

    #[test]
    fn garbage_is_refused_and_nothing_worse(mut garbage in proptest::collection::vec(any::<u8>(), 0..300)) {
        garbage.splice(0..0, [0x28, 0xB5, 0x2F, 0xFD]);
        let _ = unpack(&garbage, 7, None);
    }
}

#[test]
fn the_helper_packs_what_unpacks() {
    let bytes = bytes(59);
    assert_eq!(unpack(&pack(&bytes), 2, None).unwrap(), bytes);
}
