//! Both ends of a connection in one process, and what the system is asked to tell of.

use std::os::fd::AsRawFd as _;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// epoll's bit for room to write.
const EPOLLOUT: u32 = 0x4;

fn pair() -> (Stream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    ours.set_nonblocking(true).expect("a flag of a socket");
    (ours.try_into().expect("a runtime to watch it"), theirs)
}

/// What the process's epoll instances watch of the connection at `stream`'s end, by either of its descriptors.
fn watched_for(stream: &Stream) -> u32 {
    let descriptors = std::iter::once(&stream.reader).chain(&stream.writer);
    let descriptors: Vec<String> = descriptors.map(|fd| fd.as_raw_fd().to_string()).collect();
    let mut events = 0;
    for about in std::fs::read_dir("/proc/self/fdinfo").expect("a list of descriptors") {
        // One may be closed meanwhile, by another test.
        let path = about.expect("a descriptor").path();
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
async fn only_what_waits_for_room_is_told_of_room() {
    let (mut stream, theirs) = pair();
    stream.write_all(b"a message").await.expect("room for it");
    assert_ne!(watched_for(&stream), 0, "the other side's messages");
    assert_eq!(watched_for(&stream) & EPOLLOUT, 0, "before there was none");

    // More than a socket holds.
    let long = vec![7; 4 << 20];
    let waits = tokio::select! {
        biased;
        _ = stream.write_all(&long) => false,
        () = std::future::ready(()) => true,
    };
    assert!(waits, "4 MB at once");
    assert_eq!(watched_for(&stream) & EPOLLOUT, EPOLLOUT, "none is left");

    let drained = std::thread::spawn(move || {
        std::io::copy(&mut (&theirs), &mut std::io::sink()).expect("all of it")
    });
    stream.write_all(b"the end").await.expect("room again");
    assert_eq!(watched_for(&stream) & EPOLLOUT, 0, "there is room again");
    drop(stream);
    assert!(drained.join().expect("all was read") > 16);
}

#[tokio::test]
async fn long_messages_pass_whole_both_ways_at_once() {
    let (mut ours, theirs) = pair();
    theirs.set_nonblocking(true).expect("a flag of a socket");
    let theirs = Stream::try_from(theirs).expect("a runtime to watch it");
    let message: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let echo = tokio::spawn(async move {
        let (mut from, mut to) = tokio::io::split(theirs);
        tokio::io::copy(&mut from, &mut to).await
    });
    let mut back = vec![0; message.len()];
    {
        let (mut from, mut to) = tokio::io::split(&mut ours);
        let (sent, came) = tokio::join!(to.write_all(&message), from.read_exact(&mut back));
        sent.expect("all of it");
        came.expect("all of it");
    }
    assert!(back == message, "another message came back");
    ours.shutdown().await.expect("an end of ours");
    let copied = echo.await.expect("no panic").expect("no error");
    assert_eq!(copied, 3_000_000);
    assert_eq!(ours.read(&mut back).await.expect("an end of theirs"), 0);
}

#[tokio::test]
async fn pieces_go_out_in_order_in_one_call() {
    let (mut stream, mut theirs) = pair();
    let pieces = [IoSlice::new(b"head "), IoSlice::new(b"body")];
    assert!(stream.is_write_vectored());
    assert_eq!(stream.write_vectored(&pieces).await.expect("room"), 9);
    drop(stream);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut theirs, &mut text).expect("a text");
    assert_eq!(text, "head body");
}

#[tokio::test]
async fn a_peer_that_is_gone_is_an_end_to_readers_and_an_error_to_writers() {
    let (mut stream, theirs) = pair();
    drop(theirs);
    assert_eq!(stream.read(&mut [0; 8]).await.expect("an end"), 0);
    let error = stream.write(b"more").await.expect_err("nobody reads it");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_told_as_the_system_tells_it() {
    let error = Stream::connect(Path::new("/nonexistent/socket")).await;
    assert_eq!(error.expect_err("none").kind(), io::ErrorKind::NotFound);
}
