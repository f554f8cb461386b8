//! Arbitrary bytes on a connection: the server closes it in the end, responds in HTTP/1.1 if at
//! all, and never with 500.

#![no_main]

use std::cell::OnceCell;

use fuzz::Server;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static SERVER: OnceCell<Server> = const { OnceCell::new() };
}

fuzz_target!(|input: &[u8]| {
    SERVER.with(|server| {
        let got = server.get_or_init(Server::start).exchange(input, true);
        if got.is_empty() {
            return;
        }
        let words = String::from_utf8_lossy(&got[..got.len().min(200)]).into_owned();
        let is_http = got.starts_with(b"HTTP/1.1 ") || got.starts_with(b"HTTP/1.0 ");
        assert!(is_http, "{words}");
        assert_ne!(&got[9..12], b"500", "{words}");
    });
});
