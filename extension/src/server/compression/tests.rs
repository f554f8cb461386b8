use proptest::prelude::*;

use super::*;
use crate::server::answer::json;
use hyper::StatusCode;

fn headers(name: &hyper::header::HeaderName, values: &[&'static str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(name, HeaderValue::from_static(value));
    }
    headers
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
fn a_body_says_how_it_is_compressed_or_is_told_how_it_may_be() {
    for (values, expected) in [
        (&[][..], None),
        (&["identity"], None),
        (&["gzip"], Some(Coding::Gzip)),
        (&["X-GZip"], Some(Coding::Gzip)),
        (&["Deflate "], Some(Coding::Deflate)),
    ] {
        let coding = coding(&headers(&CONTENT_ENCODING, values)).unwrap();
        assert_eq!(coding, expected, "{values:?}");
    }
    for (values, given) in [
        (&["br"][..], "\"br\""),
        (&["gzip, gzip"], "\"gzip, gzip\""),
        (&["gzip", "gzip"], "\"gzip, gzip\""),
    ] {
        let error = coding(&headers(&CONTENT_ENCODING, values)).unwrap_err();
        assert_eq!(error.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let words = error.to_string();
        assert!(words.contains(given) && words.contains(TAKEN), "{words}");
    }
}

#[test]
fn whoever_accepts_gzip_is_known_by_the_header() {
    for (value, expected) in [
        ("gzip", true),
        ("deflate, GZIP;q=0.5", true),
        ("br;q=1.0, gzip; q=0.8", true),
        ("gzip;q=0", false),
        ("gzip; q=0.000", false),
        ("deflate, br", false),
        ("", false),
    ] {
        let accepts = accepts_gzip(&headers(&ACCEPT_ENCODING, &[value]));
        assert_eq!(accepts, expected, "{value}");
    }
    assert!(!accepts_gzip(&HeaderMap::new()));
}

#[test]
fn a_small_body_does_not_become_a_larger_one_than_is_taken() {
    let most = 1 << 20;
    let plain = vec![0; most + 1];
    for (coding, compress) in [
        (
            Coding::Gzip,
            (|plain| gzip(plain).unwrap()) as fn(&[u8]) -> Vec<u8>,
        ),
        (Coding::Deflate, zlib),
        (Coding::Deflate, deflate),
    ] {
        let fits = coding
            .decode_now(&compress(&plain[1..]), most, &mut Charge::unlimited())
            .unwrap();
        assert_eq!(fits.len(), most);
        let bomb = compress(&plain);
        assert!(bomb.len() < most / 50);
        let error = coding
            .decode_now(&bomb, most, &mut Charge::unlimited())
            .unwrap_err();
        assert!(matches!(error, ApiError::BodyTooLarge), "{error}");
    }
}

#[test]
fn a_body_that_is_not_what_it_says_is_refused() {
    let whole = gzip(b"{\"features\": [1, 2]}").unwrap();
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
            .decode_now(body, MAX_BODY, &mut Charge::unlimited())
            .unwrap_err();
        assert_eq!(error.status(), StatusCode::BAD_REQUEST, "{body:?}: {error}");
    }
}

#[tokio::test]
async fn an_answer_is_compressed_where_its_caller_takes_that_and_it_is_worth_it() {
    let large = vec![b'1'; usize::try_from(MIN_WORTH).unwrap()];
    let answer =
        async |body: &[u8], accepts| encode(json(StatusCode::OK, body.to_vec()), accepts).await;
    let compressed = answer(&large, true).await;
    assert_eq!(compressed.headers()[CONTENT_ENCODING], "gzip");
    let Ok(body) = compressed.into_body().collect().await;
    let body = body.to_bytes();
    assert!(body.len() < large.len() / 10);
    assert_eq!(
        Coding::Gzip
            .decode_now(&body, MAX_BODY, &mut Charge::unlimited())
            .unwrap(),
        large
    );

    for (body, accepts) in [(&large[..], false), (&large[1..], true)] {
        let plain = answer(body, accepts).await;
        assert_eq!(plain.headers().get(CONTENT_ENCODING), None);
    }
}

proptest! {
    #[test]
    fn what_was_compressed_comes_out_as_it_was(plain: Vec<u8>, more: Vec<u8>) {
        let gzipped = gzip(&plain).unwrap();
        prop_assert_eq!(&Coding::Gzip.decode_now(&gzipped, MAX_BODY, &mut Charge::unlimited()).unwrap(), &plain);
        let twice = [gzipped, gzip(&more).unwrap()].concat();
        prop_assert_eq!(&Coding::Gzip.decode_now(&twice, MAX_BODY, &mut Charge::unlimited()).unwrap(), &[&plain[..], &more].concat());
        prop_assert_eq!(&Coding::Deflate.decode_now(&zlib(&plain), MAX_BODY, &mut Charge::unlimited()).unwrap(), &plain);
        prop_assert_eq!(&Coding::Deflate.decode_now(&deflate(&plain), MAX_BODY, &mut Charge::unlimited()).unwrap(), &plain);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = Coding::Gzip.decode_now(&bytes, MAX_BODY, &mut Charge::unlimited());
        let _ = Coding::Deflate.decode_now(&bytes, MAX_BODY, &mut Charge::unlimited());
    }
}
