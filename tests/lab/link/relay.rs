//! One connection of a link: forwards bytes in both directions with the set delay and bandwidth.

use std::io;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Direction, LinkSettings, lock};

/// Maximum number of bytes per read.
const PIECE: usize = 64 * 1024;
/// Maximum number of chunks in transit per direction, which bounds the buffered latency.
const UNDER_WAY: usize = 256;

/// Serves `client` until both directions end, one fails, or the link is cut.
pub(super) async fn run(
    mut client: TcpStream,
    settings: &LinkSettings,
    mut cut: watch::Receiver<u64>,
) {
    let connect = async {
        settings.passable().await;
        TcpStream::connect(settings.target).await
    };
    let server = tokio::select! {
        server = connect => server,
        _ = cut.changed() => Err(io::ErrorKind::ConnectionReset.into()),
    };
    let Ok(mut server) = server else {
        let _ = client.set_zero_linger();
        return;
    };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let in_good_order = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let both = async {
            tokio::try_join!(
                carry(from_client, to_server, settings, &settings.up),
                carry(from_server, to_client, settings, &settings.down),
            )
        };
        tokio::select! {
            result = both => result.is_ok(),
            _ = cut.changed() => false,
        }
    };
    if !in_good_order {
        // A reset on one side resets the other.
        for stream in [&client, &server] {
            let _ = stream.set_zero_linger();
        }
    }
}

/// Forwards one direction to its end.
async fn carry(
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    settings: &LinkSettings,
    lane: &Direction,
) -> io::Result<()> {
    let (enter, leave) = mpsc::channel(UNDER_WAY);
    tokio::try_join!(
        take(from, enter, settings, lane),
        deliver(to, leave, settings, lane),
    )?;
    Ok(())
}

async fn take(
    mut from: impl AsyncRead + Unpin,
    enter: mpsc::Sender<(Instant, Bytes)>,
    settings: &LinkSettings,
    lane: &Direction,
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let bandwidth = lock(&lane.bandwidth).clone();
        let most = bandwidth
            .as_ref()
            .map_or(PIECE, |bandwidth| bandwidth.slice().min(PIECE));
        let count = from.read(&mut buffer[..most]).await?;
        if count == 0 {
            return Ok(());
        }
        if let Some(bandwidth) = bandwidth {
            bandwidth.pass(count).await;
        }
        let due = Instant::now() + *lock(&settings.latency);
        // The queue's receiver is dropped only with the connection.
        let _ = enter
            .send((due, Bytes::copy_from_slice(&buffer[..count])))
            .await;
    }
}

async fn deliver(
    mut to: impl AsyncWrite + Unpin,
    mut leave: mpsc::Receiver<(Instant, Bytes)>,
    settings: &LinkSettings,
    lane: &Direction,
) -> io::Result<()> {
    while let Some((due, piece)) = leave.recv().await {
        tokio::time::sleep_until(due).await;
        settings.passable().await;
        to.write_all(&piece).await?;
        lane.delivered
            .fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
    settings.passable().await;
    to.shutdown().await
}

impl LinkSettings {
    /// Waits until there is no black hole.
    async fn passable(&self) {
        // The sender is owned by `self`, so this wait ends only when the black hole does.
        let _ = self.black_hole.subscribe().wait_for(|on| !on).await;
    }
}
