//! Tests with both ends of a connection, and checks of the events that are registered with epoll.

use std::os::fd::AsRawFd as _;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// epoll's bit for writability.
const EPOLLOUT: u32 = 0x4;

fn pair() -> (Stream, UnixStream) {
    let (stream, peer) = UnixStream::pair().expect("a pair of sockets");
    stream.set_nonblocking(true).expect("a flag of a socket");
    (stream.try_into().expect("a runtime to watch it"), peer)
}

/// Events that are registered with epoll for the descriptors of `stream`.
fn registered_events(stream: &Stream) -> u32 {
    let descriptors = std::iter::once(&stream.reader).chain(&stream.writer);
    let descriptors: Vec<String> = descriptors.map(|fd| fd.as_raw_fd().to_string()).collect();
    let mut events = 0;
    for entry in std::fs::read_dir("/proc/self/fdinfo").expect("a list of descriptors") {
        // Another test may have closed the descriptor.
        let path = entry.expect("a descriptor").path();
        let text = std::fs::read_to_string(path).unwrap_or_default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            if let ["tfd:", fd, "events:", mask, ..] = words[..]
                && descriptors.iter().any(|one| one == fd)
            {
                events |= u32::from_str_radix(mask, 16).expect("a mask of events");
            }
        }
    }
    events
}

#[tokio::test]
async fn writability_is_registered_only_while_the_send_buffer_is_full() {
    let (mut stream, peer) = pair();
    stream.write_all(b"a message").await.expect("space for it");
    assert_ne!(registered_events(&stream), 0, "readability is registered");
    assert_eq!(
        registered_events(&stream) & EPOLLOUT,
        0,
        "the buffer has space"
    );

    // More than the send buffer holds.
    let long = vec![7; 4 << 20];
    let waits = tokio::select! {
        biased;
        _ = stream.write_all(&long) => false,
        () = std::future::ready(()) => true,
    };
    assert!(waits, "4 MB at once");
    assert_eq!(
        registered_events(&stream) & EPOLLOUT,
        EPOLLOUT,
        "the buffer is full"
    );

    let drained = std::thread::spawn(move || {
        std::io::copy(&mut (&peer), &mut std::io::sink()).expect("all of it")
    });
    stream.write_all(b"the end").await.expect("space again");
    assert_eq!(
        registered_events(&stream) & EPOLLOUT,
        0,
        "the buffer has space again"
    );
    drop(stream);
    assert!(drained.join().expect("all was read") > 16);
}

#[tokio::test]
async fn long_messages_pass_in_both_directions_at_once() {
    let (mut stream, peer) = pair();
    peer.set_nonblocking(true).expect("a flag of a socket");
    let peer = Stream::try_from(peer).expect("a runtime to watch it");
    let message: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let echo = tokio::spawn(async move {
        let (mut from, mut to) = tokio::io::split(peer);
        tokio::io::copy(&mut from, &mut to).await
    });
    let mut back = vec![0; message.len()];
    {
        let (mut from, mut to) = tokio::io::split(&mut stream);
        let (sent, received) = tokio::join!(to.write_all(&message), from.read_exact(&mut back));
        sent.expect("all of it");
        received.expect("all of it");
    }
    assert!(back == message, "the echo differs");
    stream.shutdown().await.expect("a shutdown");
    let copied = echo.await.expect("no panic").expect("no error");
    assert_eq!(copied, 3_000_000);
    assert_eq!(stream.read(&mut back).await.expect("an end of the peer"), 0);
}

#[tokio::test]
async fn slices_are_written_in_order_in_one_call() {
    let (mut stream, mut peer) = pair();
    let slices = [IoSlice::new(b"head "), IoSlice::new(b"body")];
    assert!(stream.is_write_vectored());
    assert_eq!(stream.write_vectored(&slices).await.expect("space"), 9);
    drop(stream);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut peer, &mut text).expect("a text");
    assert_eq!(text, "head body");
}

#[tokio::test]
async fn a_closed_peer_is_an_end_to_readers_and_an_error_to_writers() {
    let (mut stream, peer) = pair();
    drop(peer);
    assert_eq!(stream.read(&mut [0; 8]).await.expect("an end"), 0);
    let error = stream.write(b"more").await.expect_err("the peer is closed");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_missing_socket_is_reported_as_not_found() {
    let error = Stream::connect(Path::new("/nonexistent/socket")).await;
    assert_eq!(error.expect_err("none").kind(), io::ErrorKind::NotFound);
}
