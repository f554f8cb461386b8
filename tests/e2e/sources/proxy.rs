//! S3 and `CloudWatch` through the proxy of `HTTPS_PROXY`, `HTTP_PROXY` or `ALL_PROXY`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lab::cloudwatch::CloudWatch;
use lab::s3::S3Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Alone, BUCKET, KEY, model, s3_with};
use lab::reference::WINE;

/// Proxy that connects every client to `port` of this machine, for any requested host.
struct Proxy {
    port: u16,
    seen: Arc<Mutex<BTreeSet<String>>>,
}

impl Proxy {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let seen = Arc::<Mutex<BTreeSet<String>>>::default();
        let notes = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                tokio::spawn(relay(caller, port, Arc::clone(&notes)));
            }
        });
        Self { port: own, seen }
    }

    fn url(&self, user: &str) -> String {
        format!("http://{user}127.0.0.1:{}", self.port)
    }

    /// Method, target and user of each request.
    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().cloned().collect()
    }
}

/// Serves one client: a tunnel, or forwarded requests.
async fn relay(mut caller: TcpStream, port: u16, seen: Arc<Mutex<BTreeSet<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match caller.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let text = String::from_utf8(head.clone()).unwrap();
    let first = text.lines().next().unwrap();
    let header = |line: &&str| {
        line.to_ascii_lowercase()
            .starts_with("proxy-authorization: ")
    };
    let who = text
        .lines()
        .find(header)
        .and_then(|line| line.split_once(": "));
    let who = who.map_or("anonymous", |(_, value)| value);
    let (method, to) = first.split_once(' ').unwrap();
    let to = to.split_once(' ').unwrap().0;
    seen.lock()
        .unwrap()
        .insert(format!("{method} {to} by {who}"));
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    if method == "CONNECT" {
        let established = b"HTTP/1.1 200 Connection established\r\n\r\n";
        caller.write_all(established).await.unwrap();
    } else {
        far.write_all(&head).await.unwrap();
    }
    let _ = copy_bidirectional(&mut caller, &mut far).await;
}

/// Credentials of the lab's user in `Proxy-Authorization`.
fn basic() -> String {
    format!("Basic {}", BASE64_STANDARD.encode("lab:secret"))
}

#[tokio::test]
async fn https_uses_a_tunnel() {
    let s3 = S3Server::start_tls().await.unwrap();
    s3.put(BUCKET, KEY, model("wine-v1.onnx"));
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("authority.pem");
    std::fs::write(&trusted, s3.authority().unwrap()).unwrap();
    let proxy = Proxy::to(s3.port()).await;
    let host = format!("s3.{}", lab::tls::DOMAIN);
    let alone = Alone::ready(
        &s3,
        &[
            ("AWS_ENDPOINT_URL_S3", &format!("https://{host}")),
            ("SSL_CERT_FILE", trusted.to_str().unwrap()),
            ("HTTPS_PROXY", &proxy.url("lab:secret@")),
        ],
    )
    .await;
    WINE.v1.check(&alone.predict(9).await.json().unwrap(), 0..9);
    assert_eq!(proxy.seen(), [format!("CONNECT {host}:443 by {}", basic())]);
}

#[tokio::test]
async fn http_requests_are_sent_to_the_proxy() {
    let s3 = s3_with("wine-v1.onnx").await;
    let proxy = Proxy::to(s3.port()).await;
    let endpoint = format!("http://s3.{}", lab::tls::DOMAIN);
    let alone = Alone::ready(
        &s3,
        &[
            ("AWS_ENDPOINT_URL_S3", endpoint.as_str()),
            ("http_proxy", &proxy.url("lab:secret@")),
        ],
    )
    .await;
    WINE.v1.check(&alone.predict(9).await.json().unwrap(), 0..9);
    let asked = format!("GET {endpoint}/{BUCKET}/{KEY}");
    let seen = proxy.seen();
    let is_it = |line: &String| line.starts_with(&asked) && line.ends_with(&basic());
    assert!(!seen.is_empty() && seen.iter().all(is_it), "{seen:?}");
}

#[tokio::test]
async fn metrics_use_the_proxy() {
    let s3 = s3_with("wine-v1.onnx").await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    let proxy = Proxy::to(cloudwatch.port()).await;
    let endpoint = format!("http://monitoring.{}", lab::tls::DOMAIN);
    let mut variables = cloudwatch.env();
    for (name, value) in [
        ("AWS_ENDPOINT_URL_CLOUDWATCH", endpoint.clone()),
        ("ALL_PROXY", proxy.url("")),
        ("MODEL_METRICS", "cloudwatch".to_owned()),
        ("MODEL_METRICS_INTERVAL", "100ms".to_owned()),
    ] {
        variables.push((name.to_owned(), value));
    }
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let _alone = Alone::ready(&s3, &variables).await;
    let sent = cloudwatch.wait_for_requests("metrics", |requests| !requests.is_empty());
    sent.await.unwrap();
    let seen = proxy.seen();
    let is_it = |line: &String| {
        line.starts_with(&format!("POST {endpoint}/")) && line.ends_with("by anonymous")
    };
    assert!(!seen.is_empty() && seen.iter().all(is_it), "{seen:?}");
}

#[tokio::test]
async fn loopback_and_no_proxy_hosts_are_direct() {
    let s3 = s3_with("wine-v1.onnx").await;
    let proxy = Proxy::to(s3.port()).await;
    let alone = Alone::ready(&s3, &[("ALL_PROXY", &proxy.url(""))]).await;
    WINE.v1.check(&alone.predict(9).await.json().unwrap(), 0..9);
    assert_eq!(proxy.seen(), [""; 0], "this machine");

    let endpoint = format!("http://s3.{}", lab::tls::DOMAIN);
    let alone = Alone::start(
        &s3,
        &[
            ("AWS_ENDPOINT_URL_S3", endpoint.as_str()),
            ("ALL_PROXY", &proxy.url("")),
            ("NO_PROXY", lab::tls::DOMAIN),
        ],
    );
    alone
        .process
        .wait_for("no connection to s3.lab.test")
        .await
        .unwrap();
    assert_eq!(proxy.seen(), [""; 0], "an exception");
}

#[tokio::test]
async fn an_unreachable_proxy_is_named() {
    let s3 = s3_with("wine-v1.onnx").await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = closed.local_addr().unwrap();
    drop(closed);
    let endpoint = format!("https://s3.{}", lab::tls::DOMAIN);
    let alone = Alone::start(
        &s3,
        &[
            ("AWS_ENDPOINT_URL_S3", endpoint.as_str()),
            ("HTTPS_PROXY", &format!("http://lab:secret@{at}")),
        ],
    );
    let said = alone
        .process
        .wait_for("no version is loaded")
        .await
        .unwrap();
    assert!(
        said.contains(&format!("cannot connect through the proxy http://{at}/")),
        "{said}"
    );
    assert!(!alone.process.log().text().contains("secret"));
}
