//! Compressed bodies through the server: never a failure, and compression changes no response.
//!
//! The first byte selects the model, the coding and the form of the rest: compressed bytes, or a
//! body to compress. The second byte repeats that body, so that few bytes become many.

#![no_main]

use std::cell::OnceCell;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use fuzz::Server;
use libfuzzer_sys::fuzz_target;

/// Size of a body with the maximum repetition. With the sanitizer, parsing takes about 1.5 s per MB on a
/// loaded machine, and a response must arrive within the time limit of `fuzz::Server`.
const MAX_BODY: usize = 1 << 20;

thread_local! {
    static SERVER: OnceCell<Server> = const { OnceCell::new() };
}

fuzz_target!(|input: &[u8]| {
    let [which, times, rest @ ..] = input else {
        return;
    };
    let names = fuzz::signatures();
    let (name, _) = &names[usize::from(*which >> 2) % names.len()];
    let coding = if which & 1 == 0 { "gzip" } else { "deflate" };
    let line = format!("content-encoding: {coding}\r\n");
    let path = format!("/models/{name}/predict");
    SERVER.with(|server| {
        let server = server.get_or_init(Server::start);
        if which & 2 == 0 {
            let (status, _, answer) = server.post(&path, &line, rest);
            let words = String::from_utf8_lossy(&answer);
            assert!(matches!(status, 200 | 400 | 413), "{status}: {words}");
            return;
        }
        let count = if *times == 255 {
            MAX_BODY / rest.len().max(1)
        } else {
            usize::from(*times)
        };
        let body = rest.repeat(count);
        let plain = server.post(&path, "", &body);
        let packed = compress(coding, &body);
        let unpacked = server.post(&path, &line, &packed);
        assert!(matches!(plain.0, 200 | 400 | 413), "{}", plain.0);
        assert_eq!(unpacked.0, plain.0);
        assert_eq!(unpacked.2, plain.2);
    });
});

fn compress(coding: &str, body: &[u8]) -> Vec<u8> {
    if coding == "gzip" {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).expect("memory");
        encoder.finish().expect("memory")
    } else {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).expect("memory");
        encoder.finish().expect("memory")
    }
}
