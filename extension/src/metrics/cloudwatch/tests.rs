//! Tests of the sink and of the HTTP client of `aws`, against a server on loopback with failing connections.

mod credentials;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_async::rt::sleep::{AsyncSleep, Sleep};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::clock::wall::Wall;
use crate::clock::{Clock as _, Thaws, Timestamp};
use crate::metrics::defs;

/// Reaction of the server to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaction {
    Answer,
    /// Behaves like a dead socket: no bytes, and no end of the connection.
    Ignore,
    /// Closes the connection without a response.
    Close,
    Reset,
    Deny,
    /// Rejects a request with the metric `ModelAge` as invalid, and takes any other.
    Validate,
}

/// Number of the connection on which a request arrived, counted from 0.
type ConnectionNumber = usize;

/// Starts a server that reacts with `reactions` in turn, and then answers every request.
async fn server(
    reactions: &'static [Reaction],
) -> (SocketAddr, mpsc::UnboundedReceiver<ConnectionNumber>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, requests) = mpsc::unbounded_channel();
    let reactions = Arc::new(std::sync::Mutex::new(reactions.iter()));
    tokio::spawn(async move {
        for connection in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let (seen, reactions) = (seen.clone(), Arc::clone(&reactions));
            tokio::spawn(async move {
                let next = || {
                    *reactions
                        .lock()
                        .unwrap()
                        .next()
                        .unwrap_or(&Reaction::Answer)
                };
                serve(stream, connection, &seen, next).await;
            });
        }
    });
    (address, requests)
}

/// Response for an invalid parameter, with the type of the error in CBOR.
const INVALID: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    smithy-protocol: rpc-v2-cbor\r\n\
    x-amzn-query-error: InvalidParameterValue;Sender\r\n\
    content-type: application/cbor\r\n\
    content-length: 40\r\n\r\n\
    \xa1\x66__type\x78\x1eInvalidParameterValueException";

async fn serve(
    mut stream: TcpStream,
    connection: ConnectionNumber,
    seen: &mpsc::UnboundedSender<ConnectionNumber>,
    next: impl Fn() -> Reaction,
) {
    while let Some(request) = read_request(&mut stream).await {
        let _ = seen.send(connection);
        let answer = match next() {
            Reaction::Validate if request.contains(defs::MODEL_AGE) => {
                stream.write_all(INVALID).await.unwrap();
                continue;
            }
            Reaction::Answer | Reaction::Validate => "HTTP/1.1 200 OK\r\n",
            Reaction::Deny => "HTTP/1.1 403 Forbidden\r\n",
            Reaction::Ignore => std::future::pending().await,
            Reaction::Close => return,
            Reaction::Reset => {
                stream.set_zero_linger().unwrap();
                return;
            }
        };
        let answer = format!("{answer}smithy-protocol: rpc-v2-cbor\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

/// Reads one request and returns it as text; `None` if the peer is gone.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read);
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1);
            let length = length.and_then(|rest| rest.lines().next()?.parse().ok());
            if read.len() >= head.len() + 4 + length.unwrap_or(0) {
                return Some(text.into_owned());
            }
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
}

/// Sleeper whose timers of a second or more never fire, as on a monotonic clock that stands still.
#[derive(Debug)]
struct Still;

impl AsyncSleep for Still {
    fn sleep(&self, time: Duration) -> Sleep {
        if time >= Duration::from_secs(1) {
            Sleep::new(std::future::pending())
        } else {
            Sleep::new(tokio::time::sleep(time))
        }
    }
}

struct Bench {
    wall: Arc<Wall>,
    thaws: Thaws,
    sink: CloudWatchSink,
}

impl Bench {
    /// A bench whose long timers never fire.
    async fn still(endpoint: &str) -> Self {
        // Uncompressed, because the server searches for the name of a metric.
        Self::new(endpoint, |settings| {
            settings.sleep_impl(Still).disable_request_compression(true)
        })
        .await
    }

    async fn new(
        endpoint: &str,
        change: impl FnOnce(aws_config::ConfigLoader) -> aws_config::ConfigLoader,
    ) -> Self {
        let (wall, thaws) = (Wall::new(), Thaws::default());
        let settings = crate::aws::for_tests(Arc::clone(&wall) as _, thaws.clone());
        let aws = change(settings.endpoint_url(endpoint)).load().await;
        Self {
            wall,
            thaws,
            sink: CloudWatchSink::new(&aws, "Test".to_owned(), Dimensions::default()),
        }
    }

    async fn send(&self) -> Result<(), String> {
        self.deliver(&[datum(defs::INFERENCES)]).await.1
    }

    async fn deliver(&self, data: &[Datum]) -> (DeliveryProgress, Result<(), String>) {
        let progress = DeliveryProgress::default();
        let sent = self.sink.send(data, &progress).await;
        (progress, sent)
    }
}

fn datum(name: &str) -> Datum {
    Datum {
        metric: defs::find(name).unwrap(),
        model: None,
        version: None,
        minute: Timestamp(1_790_000_000_000),
        values: vec![(1.0, 1.0)],
    }
}

/// Time after which a hanging test fails.
const HANGS: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_connection_is_reused_at_once_but_not_after_seconds_or_a_thaw() {
    let (address, mut requests) = server(&[]).await;
    let bench = Bench::still(&format!("http://{address}")).await;
    let mut connections = Vec::new();
    let gaps = [0_u64, 1, 3_600];
    for gap in gaps {
        bench.wall.pass(Duration::from_secs(gap));
        bench.send().await.unwrap();
        connections.push(requests.recv().await.unwrap());
    }
    bench.thaws.note(bench.wall.now());
    bench.send().await.unwrap();
    connections.push(requests.recv().await.unwrap());
    assert_eq!(connections, [0, 0, 1, 2]);
}

#[tokio::test]
async fn a_request_in_flight_at_a_thaw_is_sent_again_on_another_connection() {
    let (address, mut requests) = server(&[Reaction::Answer, Reaction::Ignore]).await;
    let bench = Bench::still(&format!("http://{address}")).await;
    bench.send().await.unwrap();
    assert_eq!(requests.recv().await, Some(0));
    let freeze = async {
        assert_eq!(requests.recv().await, Some(0), "in flight");
        bench.wall.pass(Duration::from_secs(3_600));
        bench.thaws.note(bench.wall.now());
        requests.recv().await
    };
    let both = async { tokio::join!(bench.send(), freeze) };
    let (sent, again) = timeout(HANGS, both).await.expect("the thaw ends the wait");
    sent.unwrap();
    assert_eq!(again, Some(1));
}

#[tokio::test]
async fn a_read_timeout_during_a_clock_jump_leads_to_another_connection() {
    let (address, mut requests) = server(&[Reaction::Answer, Reaction::Ignore]).await;
    let bench = Bench::new(&format!("http://{address}"), |settings| settings).await;
    bench.send().await.unwrap();
    assert_eq!(requests.recv().await, Some(0));
    let freeze = async {
        assert_eq!(requests.recv().await, Some(0), "in flight");
        tokio::time::pause();
        bench.wall.pass(Duration::from_secs(3_600));
        tokio::time::advance(Duration::from_secs(3_600)).await;
        tokio::time::resume();
        requests.recv().await
    };
    let (sent, again) = tokio::join!(bench.send(), freeze);
    sent.unwrap();
    assert_eq!(again, Some(1));
}

#[tokio::test]
async fn a_connection_closed_without_a_response_is_retried() {
    for reactions in [[Reaction::Close], [Reaction::Reset]] {
        let reactions: &'static [Reaction] = Box::leak(Box::new(reactions));
        let (address, mut requests) = server(reactions).await;
        let bench = Bench::still(&format!("http://{address}")).await;
        bench.send().await.unwrap();
        assert_eq!(
            (requests.recv().await, requests.recv().await),
            (Some(0), Some(1))
        );
    }
}

#[tokio::test]
async fn one_invalid_datum_is_found_by_halving_and_the_rest_is_delivered() {
    const MANY: usize = 300;
    let reactions: &'static [Reaction] = &[Reaction::Validate; MAX_REQUESTS];
    for at in [0, 137, MANY - 1] {
        let (address, mut requests) = server(reactions).await;
        let bench = Bench::still(&format!("http://{address}")).await;
        let mut data = vec![datum(defs::INFERENCES); MANY];
        data[at] = datum(defs::MODEL_AGE);
        let (progress, sent) = bench.deliver(&data).await;
        assert_eq!(progress.settled(), MANY);
        assert_eq!(sent, Ok(()));
        let rejected = progress.take_rejected();
        let rejected: Vec<_> = rejected.iter().map(|one| one.metric).collect();
        assert_eq!(rejected, [defs::MODEL_AGE]);
        let mut count = 0;
        while requests.try_recv().is_ok() {
            count += 1;
        }
        assert!(count <= 19, "{count} requests");
    }
}

#[tokio::test]
async fn requests_are_limited_if_all_data_are_invalid() {
    let reactions: &'static [Reaction] = &[Reaction::Validate; MAX_REQUESTS];
    let (address, _came) = server(reactions).await;
    let bench = Bench::still(&format!("http://{address}")).await;
    let data = vec![datum(defs::MODEL_AGE); 300];
    let (progress, sent) = bench.deliver(&data).await;
    assert!(sent.is_err());
    assert_eq!(progress.settled(), progress.take_rejected().len());
    assert!(progress.settled() < MAX_REQUESTS);
}

#[tokio::test]
async fn a_cancelled_delivery_knows_what_was_delivered() {
    const PARTS: usize = 3;
    let (address, mut requests) = server(&[Reaction::Answer, Reaction::Ignore]).await;
    let bench = Bench::still(&format!("http://{address}")).await;
    let data = vec![datum(defs::INFERENCES); PARTS * MAX_METRICS];
    let progress = DeliveryProgress::default();
    let second = async {
        requests.recv().await;
        requests.recv().await;
    };
    tokio::select! {
        sent = bench.sink.send(&data, &progress) => panic!("the second request ended: {sent:?}"),
        () = second => {}
    }
    assert_eq!(progress.settled(), MAX_METRICS);
}

#[tokio::test]
async fn an_access_denied_error_names_the_permission() {
    let (address, _came) = server(&[Reaction::Deny]).await;
    let bench = Bench::still(&format!("http://{address}")).await;
    let error = bench.send().await.unwrap_err();
    assert!(error.contains("cloudwatch:PutMetricData"), "{error}");
    assert!(!error.contains("no connection"), "{error}");
}

#[tokio::test]
async fn refused_hanging_and_unknown_addresses_are_reported_as_unreachable() {
    let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = refusing.local_addr().unwrap();
    drop(refusing);
    let (hanging, _held) = hanging().await;
    // Longer than a DNS label may be, so the resolver sends no query.
    let unknown = format!("http://{}.test", "x".repeat(64));
    for (endpoint, cause) in [
        (format!("http://{refused}"), "Connection refused"),
        (format!("http://{hanging}"), "connect timeout"),
        (unknown, "dns error"),
    ] {
        let bench = Bench::new(&endpoint, |settings| {
            settings.retry_config(aws_smithy_types::retry::RetryConfig::disabled())
        })
        .await;
        let error = bench.send().await.unwrap_err();
        for part in ["no connection to", "AWS_ENDPOINT_URL", cause] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}

#[tokio::test]
async fn a_silent_server_is_not_reported_as_unreachable() {
    let (address, _came) = server(&[Reaction::Ignore]).await;
    let bench = Bench::new(&format!("http://{address}"), |settings| {
        let soon = aws_smithy_types::timeout::TimeoutConfig::builder()
            .read_timeout(Duration::from_millis(50))
            .build();
        settings
            .retry_config(aws_smithy_types::retry::RetryConfig::disabled())
            .timeout_config(soon)
    })
    .await;
    let error = bench.send().await.unwrap_err();
    assert!(error.contains("read timeout"), "{error}");
    assert!(!error.contains("no connection"), "{error}");
}

/// Address of a listener with a full backlog, where connections are neither accepted nor refused.
async fn hanging() -> (SocketAddr, impl Sized) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    for _ in 0..16 {
        match timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            Ok(stream) => held.push(stream.unwrap()),
            Err(_) => return (address, (listener, held)),
        }
    }
    panic!("the backlog never filled");
}
