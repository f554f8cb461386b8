//! Shared parts of the targets: signatures to decode for, and the server with models that return
//! their inputs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model_sidecar::clock::{SystemClock, Thaws, Timestamp};
use model_sidecar::engine::{Cancel, EngineError, Session};
use model_sidecar::ids::{Digest, ModelName, VersionName};
use model_sidecar::models::{LoadedModel, Models};
use model_sidecar::scheduler::ExecutorLimits;
use model_sidecar::server::{self, Listeners, ServerContext};
use model_sidecar::status::Status;
use model_sidecar::tensor::{Datatype, Kind, Port, Signature, Value};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

/// Longer than any response to a complete or closed request takes.
const HANG: Duration = Duration::from_secs(5);

/// One signature per datatype, with two free dimensions; and one with several inputs of all ranks.
pub fn signatures() -> Vec<(String, Signature)> {
    let port = |name: &str, datatype, shape: &[Option<usize>]| Port {
        name: name.to_owned(),
        kind: Kind::Tensor {
            datatype,
            shape: shape.to_vec(),
        },
    };
    let of = |ports: Vec<Port>| Signature {
        inputs: ports.clone(),
        outputs: ports,
    };
    let one = |datatype: &Datatype| {
        let name = datatype.name().to_lowercase();
        (name, of(vec![port("x", *datatype, &[None, None])]))
    };
    let several = of(vec![
        port("scalar", Datatype::Fp64, &[]),
        port("column", Datatype::Int64, &[None, Some(1)]),
        port("words", Datatype::Bytes, &[None]),
    ]);
    let all = Datatype::ALL.iter().map(one);
    all.chain([("several".to_owned(), several)]).collect()
}

/// Checks that decoded inputs have the model's datatypes and shapes.
///
/// # Panics
/// If they do not.
pub fn check_inputs(signature: &Signature, inputs: &[(String, Value)]) {
    assert_eq!(inputs.len(), signature.inputs.len());
    for (name, value) in inputs {
        let port = signature.input(name).expect("an input of the model");
        let (Kind::Tensor { datatype, shape }, Value::Tensor(tensor)) = (&port.kind, value) else {
            panic!("{name} is no tensor");
        };
        assert_eq!(tensor.data().datatype(), *datatype);
        assert_eq!(
            tensor.data().len(),
            tensor.shape().iter().product::<usize>()
        );
        // An open rank is declared as a scalar's, and is checked by ONNX Runtime.
        if !shape.is_empty() {
            assert_eq!(tensor.shape().len(), shape.len());
        }
        for (given, declared) in tensor.shape().iter().zip(shape) {
            assert!(declared.is_none_or(|declared| declared == *given));
        }
    }
}

/// A model whose outputs are its inputs.
struct Echo(Signature);

impl Session for Echo {
    fn signature(&self) -> &Signature {
        &self.0
    }

    fn run(
        &self,
        inputs: &[(String, Value)],
        outputs: &[String],
        _: &Cancel,
    ) -> Result<Vec<(String, Value)>, EngineError> {
        let is_asked = |name: &String| outputs.is_empty() || outputs.contains(name);
        let asked = inputs.iter().filter(|(name, _)| is_asked(name));
        Ok(asked.cloned().collect())
    }
}

/// The server on a Unix socket, and the runtime of its clients.
pub struct Server {
    runtime: Runtime,
    socket: PathBuf,
    _folder: tempfile::TempDir,
    /// The server stops when this is dropped.
    _running: tokio::sync::watch::Sender<bool>,
}

impl Server {
    /// Starts the server with a model for each of [`signatures`].
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let names = signatures().into_iter().map(|(name, signature)| {
            let name = ModelName::parse(&name).expect("a model's name");
            (name, signature)
        });
        let names: Vec<(ModelName, Signature)> = names.collect();
        let models = Models::new(names.iter().map(|(name, _)| name.clone()));
        let (status, _) = Status::new(names.iter().map(|(name, _)| name.clone()));
        for (name, signature) in names {
            let digest = Digest::of(Sha256::new());
            models.swap(LoadedModel::new(
                name,
                VersionName::derived(&digest),
                digest,
                Timestamp(0),
                Box::new(Echo(signature)),
            ));
        }
        let context = ServerContext::new(
            Arc::new(models),
            Arc::new(status),
            ExecutorLimits::default(),
            Arc::new(SystemClock),
            Thaws::default(),
            None,
        );
        let (running, stop) = tokio::sync::watch::channel(false);
        let listeners = Listeners::bind(&socket, None).expect("a socket");
        let context = Arc::new(context);
        let serving = server::start(listeners, &context, 1, stop, Duration::ZERO);
        drop(serving.expect("a thread"));
        Self {
            runtime,
            socket,
            _folder: folder,
            _running: running,
        }
    }

    /// Sends bytes, closes the sending side if `hangs_up`, and returns all bytes received. A client
    /// that has hung up need not get a response.
    ///
    /// # Panics
    /// If the server does not close the connection in time.
    pub fn exchange(&self, sent: &[u8], hangs_up: bool) -> Vec<u8> {
        let exchange = async {
            let stream = UnixStream::connect(&self.socket).await.expect("a server");
            let (mut from, mut to) = stream.into_split();
            let mut got = Vec::new();
            // The server may close the connection before it has read everything.
            let send = async {
                let _ = to.write_all(sent).await;
                if hangs_up {
                    let _ = to.shutdown().await;
                }
                to
            };
            let receive = async {
                let _ = from.read_to_end(&mut got).await;
            };
            let both = async { tokio::join!(send, receive) };
            let ended = tokio::time::timeout(HANG, both).await;
            assert!(ended.is_ok(), "the server hangs");
            got
        };
        self.runtime.block_on(exchange)
    }

    /// Posts this body with additional header lines; returns status, headers and body of the
    /// response.
    ///
    /// # Panics
    /// If there is no response.
    pub fn post(&self, path: &str, lines: &str, body: &[u8]) -> (u16, Vec<u8>, Vec<u8>) {
        let mut sent = format!(
            "POST {path} HTTP/1.1\r\nhost: sidecar\r\nconnection: close\r\ncontent-length: {}\r\n{lines}\r\n",
            body.len()
        )
        .into_bytes();
        sent.extend_from_slice(body);
        let got = self.exchange(&sent, false);
        let end = got.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.expect("a whole head") + 4;
        let (head, body) = got.split_at(end);
        let status = std::str::from_utf8(&head[9..12]).expect("digits");
        let status = status.parse().expect("a status");
        (status, head.to_vec(), body.to_vec())
    }
}
