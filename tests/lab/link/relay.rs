//! One connection of a link: bytes from either side to the other, late and slow as told.

use std::io;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Lane, Settings, lock};

/// The most that is read at once.
const PIECE: usize = 64 * 1024;
/// Pieces under way in one direction: what a latency can hold.
const UNDER_WAY: usize = 256;

/// Serves `client` until both sides are done, one breaks off, or the link is cut.
pub(super) async fn run(mut client: TcpStream, settings: &Settings, mut cut: watch::Receiver<u64>) {
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
        // A reset on one side is one on the other.
        for stream in [&client, &server] {
            let _ = stream.set_zero_linger();
        }
    }
}

/// One direction, to its end.
async fn carry(
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    settings: &Settings,
    lane: &Lane,
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
    settings: &Settings,
    lane: &Lane,
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
        // The other end of this queue is gone only when the connection is.
        let _ = enter
            .send((due, Bytes::copy_from_slice(&buffer[..count])))
            .await;
    }
}

async fn deliver(
    mut to: impl AsyncWrite + Unpin,
    mut leave: mpsc::Receiver<(Instant, Bytes)>,
    settings: &Settings,
    lane: &Lane,
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

impl Settings {
    /// Waits until there is no black hole.
    async fn passable(&self) {
        // The sender is in `self`, so the only end of this wait is the black hole's.
        let _ = self.black_hole.subscribe().wait_for(|on| !on).await;
    }
}
