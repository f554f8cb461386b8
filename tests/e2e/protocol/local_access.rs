//! Access on a developer's machine, which has other users and a browser.

use std::fmt::Write as _;

use http::header::HeaderValue;
use lab::http::{Client, request};
use lab::ports::Port;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::{Alone, s3_with, to_end};

#[tokio::test(flavor = "multi_thread")]
async fn requests_over_tcp_need_a_loopback_host() {
    let s3 = s3_with("wine-v1.onnx").await;
    let port = Port::lease().unwrap();
    let number = port.number().to_string();
    let alone = Alone::ready(&s3, &[("MODEL_PORT", &number)]).await;
    let ask = async |version: &str, target: &str, hosts: &[&str]| {
        let mut text = format!("GET {target} {version}\r\nConnection: close\r\n");
        for host in hosts {
            let _ = write!(text, "Host: {host}\r\n");
        }
        text.push_str("\r\n");
        let address = (std::net::Ipv4Addr::LOCALHOST, port.number());
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        to_end(&mut stream).await
    };
    let path = "/v2/models/wine";
    let here = format!("localhost:{number}");
    for (version, target, hosts) in [
        ("HTTP/1.1", path, &["localhost"][..]),
        ("HTTP/1.1", path, &[here.as_str()]),
        ("HTTP/1.1", path, &["127.0.0.1:2774"]),
        ("HTTP/1.1", path, &["127.9.9.9"]),
        ("HTTP/1.1", path, &["[::1]:80"]),
        ("HTTP/1.0", path, &[]),
        ("HTTP/1.1", &format!("http://{here}{path}"), &["localhost"]),
    ] {
        let answer = ask(version, target, hosts).await;
        assert!(answer.contains(" 200 OK\r\n"), "{hosts:?}: {answer}");
    }
    for (version, target, hosts) in [
        ("HTTP/1.1", path, &["evil.example"][..]),
        ("HTTP/1.1", path, &["evil.example:2774"]),
        ("HTTP/1.1", path, &["localhost", "evil.example"]),
        ("HTTP/1.1", path, &["localhost.evil.example"]),
        ("HTTP/1.1", path, &[""]),
        ("HTTP/1.1", path, &[]),
        ("HTTP/1.0", path, &["evil.example"]),
        ("HTTP/1.1", "http://evil.example/v2", &["localhost"]),
        ("HTTP/1.1", "/nowhere", &["evil.example"]),
        ("HTTP/1.1", "/v2/health/live", &["evil.example"]),
    ] {
        let answer = ask(version, target, hosts).await;
        assert!(answer.contains(" 403 Forbidden\r\n"), "{hosts:?}: {answer}");
        assert!(answer.contains("header host is"), "{hosts:?}: {answer}");
    }
    // The socket is not checked, since browsers cannot connect to it.
    let answer = Client::unix(alone.socket()).get(path).await.unwrap();
    assert_eq!(answer.status, 200);
    let mut other = request("GET".parse().unwrap(), path, "").unwrap();
    let evil = HeaderValue::from_static("evil.example");
    other.headers_mut().insert(http::header::HOST, evil);
    assert_eq!(alone.client().send(other).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_in_use_is_not_replaced() {
    let s3 = s3_with("wine-v1.onnx").await;
    let first = Alone::ready(&s3, &[]).await;
    let socket = first.socket().display().to_string();
    let second = Alone::start(&s3, &[("MODEL_SOCKET", &socket)]);
    assert_eq!(second.process.wait().await.unwrap().code(), Some(1));
    let log = second.process.log().text();
    assert!(log.contains("another process listens on it"), "{log}");
    assert_eq!(first.predict(1).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_is_private_to_the_user() {
    use std::os::unix::fs::PermissionsExt as _;
    let s3 = s3_with("wine-v1.onnx").await;
    let alone = Alone::ready(&s3, &[]).await;
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&alone.cache()), 0o700);
    assert_eq!(mode(&alone.cache().join("files")), 0o700);
}
