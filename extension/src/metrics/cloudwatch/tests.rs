//! The sink, and with it the HTTP client of `aws`, against a real server on loopback whose connections die.

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

/// What the server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Answer,
    /// As a dead socket: nothing comes, not even an end.
    Ignore,
    /// As a connection that ended without an answer.
    Close,
    Reset,
    Deny,
    /// Rejects a request that holds the metric `ModelAge` as invalid, and takes any other.
    Validate,
}

/// A request that came: on which connection, counted from 0.
type Came = usize;

/// A server that does these deeds in turn, and from then on answers.
async fn server(deeds: &'static [Deed]) -> (SocketAddr, mpsc::UnboundedReceiver<Came>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (came, requests) = mpsc::unbounded_channel();
    let deeds = Arc::new(std::sync::Mutex::new(deeds.iter()));
    tokio::spawn(async move {
        for connection in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let (came, deeds) = (came.clone(), Arc::clone(&deeds));
            tokio::spawn(async move {
                let next = || *deeds.lock().unwrap().next().unwrap_or(&Deed::Answer);
                serve(stream, connection, &came, next).await;
            });
        }
    });
    (address, requests)
}

/// The error of an invalid parameter, with its type in CBOR.
const INVALID: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    smithy-protocol: rpc-v2-cbor\r\n\
    x-amzn-query-error: InvalidParameterValue;Sender\r\n\
    content-type: application/cbor\r\n\
    content-length: 40\r\n\r\n\
    \xa1\x66__type\x78\x1eInvalidParameterValueException";

async fn serve(
    mut stream: TcpStream,
    connection: Came,
    came: &mpsc::UnboundedSender<Came>,
    next: impl Fn() -> Deed,
) {
    while let Some(request) = read_request(&mut stream).await {
        let _ = came.send(connection);
        let answer = match next() {
            Deed::Validate if request.contains(defs::MODEL_AGE) => {
                stream.write_all(INVALID).await.unwrap();
                continue;
            }
            Deed::Answer | Deed::Validate => "HTTP/1.1 200 OK\r\n",
            Deed::Deny => "HTTP/1.1 403 Forbidden\r\n",
            Deed::Ignore => std::future::pending().await,
            Deed::Close => return,
            Deed::Reset => {
                stream.set_zero_linger().unwrap();
                return;
            }
        };
        let answer = format!("{answer}smithy-protocol: rpc-v2-cbor\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

/// Reads one request to its end and gives it as text; `None` when the peer is gone.
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

/// Timers of a second and more never ring, as on a monotonic clock that stands still; shorter ones do.
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
    /// A sink whose timers would wait for ever.
    async fn still(endpoint: &str) -> Self {
        // Uncompressed, for a server that looks for a metric's name.
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
            sink: CloudWatchSink::new(&aws, "Test".to_owned(), None),
        }
    }

    async fn send(&self) -> Result<(), String> {
        let delivery = self.sink.send(&[datum(defs::INFERENCES)]).await;
        delivery.problem.map_or(Ok(()), Err)
    }
}

fn datum(name: &str) -> Datum {
    Datum {
        metric: defs::find(name).unwrap(),
        model: None,
        minute: Timestamp(1_790_000_000_000),
        values: vec![(1.0, 1.0)],
    }
}

/// Not how long anything takes, but when a test that hangs is given up.
const HANGS: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_connection_is_used_again_at_once_but_not_after_a_few_seconds_or_a_thaw() {
    let (address, mut came) = server(&[]).await;
    let bench = Bench::still(&format!("http://{address}")).await;
    let mut connections = Vec::new();
    let gaps = [0_u64, 1, 3_600];
    for gap in gaps {
        bench.wall.pass(Duration::from_secs(gap));
        bench.send().await.unwrap();
        connections.push(came.recv().await.unwrap());
    }
    bench.thaws.note(bench.wall.now());
    bench.send().await.unwrap();
    connections.push(came.recv().await.unwrap());
    assert_eq!(connections, [0, 0, 1, 2]);
}

#[tokio::test]
async fn a_request_in_flight_at_a_thaw_is_sent_again_on_another_connection() {
    let (address, mut came) = server(&[Deed::Answer, Deed::Ignore]).await;
    let bench = Bench::still(&format!("http://{address}")).await;
    bench.send().await.unwrap();
    assert_eq!(came.recv().await, Some(0));
    let freeze = async {
        assert_eq!(came.recv().await, Some(0), "in flight");
        bench.wall.pass(Duration::from_secs(3_600));
        bench.thaws.note(bench.wall.now());
        came.recv().await
    };
    let both = async { tokio::join!(bench.send(), freeze) };
    let (sent, again) = timeout(HANGS, both).await.expect("the thaw ends the wait");
    sent.unwrap();
    assert_eq!(again, Some(1));
}

#[tokio::test]
async fn a_read_timeout_that_rings_in_a_jump_leads_to_another_connection_too() {
    let (address, mut came) = server(&[Deed::Answer, Deed::Ignore]).await;
    let bench = Bench::new(&format!("http://{address}"), |settings| settings).await;
    bench.send().await.unwrap();
    assert_eq!(came.recv().await, Some(0));
    let freeze = async {
        assert_eq!(came.recv().await, Some(0), "in flight");
        tokio::time::pause();
        bench.wall.pass(Duration::from_secs(3_600));
        tokio::time::advance(Duration::from_secs(3_600)).await;
        tokio::time::resume();
        came.recv().await
    };
    let (sent, again) = tokio::join!(bench.send(), freeze);
    sent.unwrap();
    assert_eq!(again, Some(1));
}

#[tokio::test]
async fn a_connection_that_ends_without_an_answer_is_no_failure() {
    for deeds in [[Deed::Close], [Deed::Reset]] {
        let deeds: &'static [Deed] = Box::leak(Box::new(deeds));
        let (address, mut came) = server(deeds).await;
        let bench = Bench::still(&format!("http://{address}")).await;
        bench.send().await.unwrap();
        assert_eq!((came.recv().await, came.recv().await), (Some(0), Some(1)));
    }
}

#[tokio::test]
async fn one_invalid_datum_is_found_by_halving_and_the_rest_is_delivered() {
    const MANY: usize = 300;
    let deeds: &'static [Deed] = &[Deed::Validate; MAX_REQUESTS];
    for at in [0, 137, MANY - 1] {
        let (address, mut came) = server(deeds).await;
        let bench = Bench::still(&format!("http://{address}")).await;
        let mut data = vec![datum(defs::INFERENCES); MANY];
        data[at] = datum(defs::MODEL_AGE);
        let delivery = bench.sink.send(&data).await;
        assert_eq!(delivery.settled, MANY);
        assert_eq!(delivery.problem, None);
        let rejected: Vec<_> = delivery.rejected.iter().map(|one| one.metric).collect();
        assert_eq!(rejected, [defs::MODEL_AGE]);
        let mut requests = 0;
        while came.try_recv().is_ok() {
            requests += 1;
        }
        assert!(requests <= 19, "{requests} requests");
    }
}

#[tokio::test]
async fn where_everything_is_invalid_the_requests_are_bounded() {
    let deeds: &'static [Deed] = &[Deed::Validate; MAX_REQUESTS];
    let (address, _came) = server(deeds).await;
    let bench = Bench::still(&format!("http://{address}")).await;
    let data = vec![datum(defs::MODEL_AGE); 300];
    let delivery = bench.sink.send(&data).await;
    assert!(delivery.problem.is_some());
    assert_eq!(delivery.settled, delivery.rejected.len());
    assert!(delivery.settled < MAX_REQUESTS);
}

#[tokio::test]
async fn a_refusal_names_the_permission() {
    let (address, _came) = server(&[Deed::Deny]).await;
    let bench = Bench::still(&format!("http://{address}")).await;
    let error = bench.send().await.unwrap_err();
    assert!(error.contains("cloudwatch:PutMetricData"), "{error}");
    assert!(!error.contains("no connection"), "{error}");
}

#[tokio::test]
async fn an_address_that_refuses_hangs_or_has_no_name_is_said_to_be_out_of_reach() {
    let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = refusing.local_addr().unwrap();
    drop(refusing);
    let (hanging, _held) = hanging().await;
    // Too long for a label of a name: the resolver asks nobody.
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
async fn a_server_that_is_connected_and_silent_is_not_said_to_be_out_of_reach() {
    let (address, _came) = server(&[Deed::Ignore]).await;
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

/// An address where connections are neither made nor refused: the backlog of who listens there is full.
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
