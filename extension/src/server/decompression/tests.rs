use std::io::Write as _;

use flate2::Compression;
use hyper::header::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::server::limits::MAX_BODY;

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn deflate(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn content_encoding_names_an_accepted_coding_or_is_rejected() {
    let coding_of = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
        }
        coding(&headers)
    };
    for (values, expected) in [
        (&[][..], None),
        (&["identity"], None),
        (&["gzip"], Some(Coding::Gzip)),
        (&["X-GZip"], Some(Coding::Gzip)),
        (&["Deflate "], Some(Coding::Deflate)),
    ] {
        assert_eq!(coding_of(values).unwrap(), expected, "{values:?}");
    }
    for (values, given) in [
        (&["br"][..], "br"),
        (&["gzip, gzip"], "gzip, gzip"),
        (&["gzip", "gzip"], "gzip, gzip"),
    ] {
        assert_eq!(coding_of(values).unwrap_err().0, given);
    }
}

#[test]
fn a_body_beyond_the_limit_after_decompression_is_rejected() {
    let limit = 1 << 20;
    let plain = vec![0; limit + 1];
    for (coding, compress) in [
        (Coding::Gzip, gzip as fn(&[u8]) -> Vec<u8>),
        (Coding::Deflate, zlib),
        (Coding::Deflate, deflate),
    ] {
        let fits = coding
            .decompress(&compress(&plain[1..]), limit, &mut Charge::unlimited())
            .unwrap();
        assert_eq!(fits.len(), limit);
        let bomb = compress(&plain);
        assert!(bomb.len() < limit / 50);
        let error = coding
            .decompress(&bomb, limit, &mut Charge::unlimited())
            .unwrap_err();
        assert!(
            matches!(error, RequestDecompressError::TooLarge),
            "{error:?}"
        );
    }
}

#[test]
fn a_body_of_another_format_than_its_header_names_is_rejected() {
    let whole = gzip(b"{\"features\": [1, 2]}");
    let cut = &whole[..whole.len() - 1];
    let mut wrong = whole.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let behind = [&whole[..], b"more"].concat();
    let (cut_zlib, behind_zlib) = (zlib(b"1234"), [&zlib(b"1234")[..], b"more"].concat());
    for (coding, body) in [
        (Coding::Gzip, &b"{}"[..]),
        (Coding::Gzip, b""),
        (Coding::Gzip, cut),
        (Coding::Gzip, &wrong),
        (Coding::Gzip, &behind),
        (Coding::Deflate, &cut_zlib[..cut_zlib.len() - 1]),
        (Coding::Deflate, &behind_zlib),
        (Coding::Deflate, b"{\"features\": 1}"),
    ] {
        let error = coding
            .decompress(body, MAX_BODY, &mut Charge::unlimited())
            .unwrap_err();
        let is_invalid = matches!(error, RequestDecompressError::Invalid { .. });
        assert!(is_invalid, "{body:?}: {error:?}");
    }
}

proptest! {
    #[test]
    fn decompression_restores_the_original(plain: Vec<u8>, more: Vec<u8>) {
        let decompress = |coding: Coding, body: &[u8]| {
            coding.decompress(body, MAX_BODY, &mut Charge::unlimited()).unwrap()
        };
        let gzipped = gzip(&plain);
        prop_assert_eq!(&decompress(Coding::Gzip, &gzipped), &plain);
        let twice = [gzipped, gzip(&more)].concat();
        prop_assert_eq!(&decompress(Coding::Gzip, &twice), &[&plain[..], &more].concat());
        prop_assert_eq!(&decompress(Coding::Deflate, &zlib(&plain)), &plain);
        prop_assert_eq!(&decompress(Coding::Deflate, &deflate(&plain)), &plain);
    }

    #[test]
    fn no_input_causes_a_panic(bytes: Vec<u8>) {
        let _ = Coding::Gzip.decompress(&bytes, MAX_BODY, &mut Charge::unlimited());
        let _ = Coding::Deflate.decompress(&bytes, MAX_BODY, &mut Charge::unlimited());
    }
}
