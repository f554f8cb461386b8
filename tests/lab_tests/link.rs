//! The link between an environment and a server.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lab::gate::Gate;
use lab::link::Link;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Echoes its input, and ends when its client does.
async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    address
}

async fn link() -> Link {
    Link::to(echo_server().await).await.unwrap()
}

async fn connect(link: &Link) -> TcpStream {
    TcpStream::connect(link.address()).await.unwrap()
}

async fn ask(stream: &mut TcpStream, text: &str) -> std::io::Result<String> {
    stream.write_all(text.as_bytes()).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    Ok(String::from_utf8(answer).unwrap())
}

#[tokio::test]
async fn bytes_pass_both_ways_unchanged_and_are_counted() {
    let link = link().await;
    let stream = connect(&link).await;
    let sent: Vec<u8> = (0..3_000_000_u32)
        .map(|n| n.to_le_bytes()[n as usize % 3])
        .collect();
    let (mut from, mut to) = stream.into_split();
    let sending = tokio::spawn({
        let sent = sent.clone();
        async move {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
        }
    });
    let mut received = Vec::new();
    from.read_to_end(&mut received).await.unwrap();
    sending.await.unwrap();
    assert!(received == sent);
    link.wait_for_connections(0).await.unwrap();
    assert_eq!(link.bytes(), 6_000_000);
    assert_eq!(link.accepted(), 1);
}

#[tokio::test]
async fn a_bandwidth_is_shared_by_all_connections() {
    let link = link().await;
    link.bandwidth(1_000_000);
    let started = Instant::now();
    let transfer = async || {
        let (mut from, mut to) = connect(&link).await.into_split();
        let sending = tokio::spawn(async move { to.write_all(&vec![7; 150_000]).await });
        let mut received = vec![0; 150_000];
        from.read_exact(&mut received).await.unwrap();
        sending.await.unwrap().unwrap();
    };
    tokio::join!(transfer(), transfer());
    // 300,000 bytes each way, in parallel: a lower bound on any machine.
    assert!(
        started.elapsed() >= Duration::from_millis(300),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_latency_delays_each_direction_and_does_not_make_a_transfer_longer_than_that() {
    let link = link().await;
    link.latency(Duration::from_millis(50));
    let mut stream = connect(&link).await;
    let started = Instant::now();
    ask(&mut stream, "hello").await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(100));
    // Fifty chunks in sequence would take ten seconds.
    link.latency(Duration::from_millis(200));
    let (mut from, mut to) = stream.into_split();
    let sending = tokio::spawn(async move {
        for _ in 0..50 {
            to.write_all(&[7; 1_000]).await.unwrap();
            tokio::task::yield_now().await;
        }
        to
    });
    let started = Instant::now();
    from.read_exact(&mut vec![0; 50_000]).await.unwrap();
    sending.await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(400));
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "one after another"
    );
}

#[tokio::test]
async fn a_cut_resets_open_connections_and_new_ones_work() {
    let link = link().await;
    let mut stream = connect(&link).await;
    ask(&mut stream, "hello").await.unwrap();
    assert_eq!(link.connections(), 1);
    link.cut();
    link.wait_for_connections(0).await.unwrap();
    let error = ask(&mut stream, "again").await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        ),
        "{error}"
    );
    assert_eq!(
        ask(&mut connect(&link).await, "anew").await.unwrap(),
        "anew"
    );
}

#[tokio::test]
async fn a_black_hole_drops_silently_and_delivers_everything_afterwards() {
    let link = link().await;
    let mut stream = connect(&link).await;
    ask(&mut stream, "hello").await.unwrap();
    let before = link.bytes();
    link.black_hole(true);
    // Both an open connection and a new one accept data.
    let mut new = connect(&link).await;
    stream.write_all(b"lost").await.unwrap();
    new.write_all(b"lost").await.unwrap();
    let gate = Gate::new();
    let waiting = tokio::spawn({
        let gate = gate.clone();
        async move {
            let mut answer = [0; 4];
            let (one, other) = (stream.read_exact(&mut answer).await, answer);
            gate.open();
            one.map(|_| other)
        }
    });
    // A black hole has no event to wait for; this is many times the duration of an echo.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    assert_eq!(link.bytes(), before);
    link.black_hole(false);
    assert_eq!(waiting.await.unwrap().unwrap(), *b"lost");
    let mut answer = [0; 4];
    new.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"lost");
}

#[tokio::test]
async fn a_connection_in_a_black_hole_can_be_cut() {
    let link = link().await;
    let mut stream = connect(&link).await;
    ask(&mut stream, "hello").await.unwrap();
    link.black_hole(true);
    stream.write_all(b"lost").await.unwrap();
    link.cut();
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn refused_connections_are_refused_and_those_that_stand_go_on() {
    let link = link().await;
    let mut stream = connect(&link).await;
    ask(&mut stream, "hello").await.unwrap();
    link.refuse(true).await.unwrap();
    link.refuse(true).await.unwrap();
    let error = TcpStream::connect(link.address()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(ask(&mut stream, "still").await.unwrap(), "still");
    link.refuse(false).await.unwrap();
    link.refuse(false).await.unwrap();
    assert_eq!(
        ask(&mut connect(&link).await, "anew").await.unwrap(),
        "anew"
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_resets_and_so_does_the_links_end() {
    let unused = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let link = Link::to(unused).await.unwrap();
    let error = ask(&mut connect(&link).await, "hello").await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        ),
        "{error}"
    );

    let link = self::link().await;
    let mut stream = connect(&link).await;
    ask(&mut stream, "hello").await.unwrap();
    drop(link);
    assert!(stream.read_u8().await.is_err());
}

#[tokio::test]
async fn connecting_to_the_unroutable_does_not_end() {
    let nowhere = Link::unroutable().await.unwrap();
    for _ in 0..3 {
        let connecting = TcpStream::connect(nowhere.address());
        let in_time = tokio::time::timeout(Duration::from_millis(300), connecting).await;
        assert!(in_time.is_err(), "{in_time:?}");
    }
}
