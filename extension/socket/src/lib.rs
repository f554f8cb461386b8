//! Unix stream that wakes its owner only for received data.
//!
//! tokio's `UnixStream` always registers for writability as well. A Unix socket becomes writable whenever its peer
//! reads, so that each sent message wakes the sender, which competes with the peer for the CPU. A [`Stream`]
//! registers for writability only while its send buffer is full.
//!
//! The sidecar and its handler use this stream on both ends of the sidecar's socket.

use std::io::{self, IoSlice, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// Size of the send buffer in bytes. Linux limits it to twice `net.core.wmem_max`.
const SEND_BUFFER: usize = 1 << 20;

/// End of a connection.
#[derive(Debug)]
pub struct Stream {
    /// Registered for readability and for the end of the peer.
    reader: AsyncFd<UnixStream>,
    /// Second descriptor, registered for writability while the send buffer is full.
    writer: Option<AsyncFd<UnixStream>>,
}

impl Stream {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// The socket does not exist, or no process listens on it.
    ///
    /// # Panics
    /// Outside of a tokio runtime that has I/O.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        let stream = tokio::net::UnixStream::connect(path).await?;
        stream.into_std()?.try_into()
    }

    /// Calls `write`, which has `all` bytes, when the send buffer has space.
    fn poll_write_with(
        &mut self,
        cx: &mut Context<'_>,
        all: usize,
        mut write: impl FnMut(&UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let Some(writer) = &self.writer else {
                match write(self.reader.get_ref()) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        let again = self.reader.get_ref().try_clone()?;
                        self.writer = Some(registered(again, Interest::WRITABLE)?);
                    }
                    written => return Poll::Ready(written),
                }
                continue;
            };
            let mut guard = ready!(writer.poll_write_ready(cx))?;
            match guard.try_io(|writer| write(writer.get_ref())) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => {
                    // After a partial write the rest must wait again.
                    if !matches!(written, Ok(count) if count < all) {
                        self.writer = None;
                    }
                    return Poll::Ready(written);
                }
                Err(_) => {}
            }
        }
    }
}

impl TryFrom<UnixStream> for Stream {
    type Error = io::Error;

    /// Registers a connection, which must be non-blocking.
    ///
    /// # Errors
    /// The connection cannot be registered.
    ///
    /// # Panics
    /// Outside of a tokio runtime that has I/O.
    fn try_from(stream: UnixStream) -> io::Result<Self> {
        // Best effort: with a smaller buffer, a long message needs more writes.
        let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
        Ok(Self {
            reader: registered(stream, Interest::READABLE)?,
            writer: None,
        })
    }
}

/// Registers the stream with the runtime for `interest` alone.
fn registered(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    // SAFETY: the stream owns its descriptor, and is neither taken out of the returned value nor replaced.
    #[expect(
        unsafe_code,
        reason = "tokio cannot check that the descriptor stays open"
    )]
    let registered = unsafe { AsyncFd::register_with_interest(stream, interest) };
    registered.map_err(|error| error.into_parts().1)
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.reader.poll_read_ready(cx))?;
            // SAFETY: only the system writes to the buffer, and what it writes is initialised.
            #[expect(
                unsafe_code,
                reason = "the only access to the uninitialised part of tokio's buffer"
            )]
            let free = unsafe { buffer.unfilled_mut() };
            let space = free.len();
            match guard.try_io(|reader| SockRef::from(reader.get_ref()).recv(free)) {
                Ok(Ok(count)) => {
                    // A short read has emptied the socket: the next data wake the task again.
                    if 0 < count && count < space {
                        guard.clear_ready();
                    }
                    // SAFETY: the system has written `count` bytes at the beginning.
                    #[expect(unsafe_code, reason = "the buffer cannot check what the system wrote")]
                    unsafe {
                        buffer.assume_init(count);
                    }
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, bytes.len(), |mut stream| stream.write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = slices.iter().map(|slice| slice.len()).sum();
        self.poll_write_with(cx, all, |mut stream| stream.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.reader.get_ref().shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests;
