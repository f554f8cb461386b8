//! A stream over a Unix socket that wakes its owner only for what came.
//!
//! tokio's own asks the system to tell of room to write as well. A Unix socket has room again whenever the other side
//! reads, so that its owner is woken by each message that it sent itself: in the middle of the other side's work, and in
//! its way where the two share a CPU. A [`Stream`] asks for room only while it has none.
//!
//! Both ends of the sidecar's socket are such streams: the sidecar's, and its handler's.

use std::io::{self, IoSlice, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// What is to wait on its way to the other side at most. Linux allows no more than twice its `net.core.wmem_max`.
const ROOM: usize = 1 << 20;

/// One end of a connection.
#[derive(Debug)]
pub struct Stream {
    /// Woken by what can be read, and by the other side's end.
    reader: AsyncFd<UnixStream>,
    /// Woken by room to write: a second descriptor, there only while something waits for room.
    writer: Option<AsyncFd<UnixStream>>,
}

impl Stream {
    /// Connects to the socket at this path.
    ///
    /// # Errors
    /// What the system says, such as that there is no such socket, or that nobody listens on it.
    ///
    /// # Panics
    /// Outside of a tokio runtime that has I/O.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        let stream = tokio::net::UnixStream::connect(path).await?;
        stream.into_std()?.try_into()
    }

    /// Writes with `write`, which is to take `all`, what there is room for; waits for room where there is none.
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
                        self.writer = Some(watched(again, Interest::WRITABLE)?);
                    }
                    written => return Poll::Ready(written),
                }
                continue;
            };
            let mut guard = ready!(writer.poll_write_ready(cx))?;
            match guard.try_io(|writer| write(writer.get_ref())) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => {
                    // Of a part, the rest waits for room again.
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

    /// The same connection, which must be a non-blocking one.
    ///
    /// # Errors
    /// What the system says when it is asked to watch the connection.
    ///
    /// # Panics
    /// Outside of a tokio runtime that has I/O.
    fn try_from(stream: UnixStream) -> io::Result<Self> {
        // As much as the system allows; where it does not, a long message takes more turns.
        let _ = SockRef::from(&stream).set_send_buffer_size(ROOM);
        Ok(Self {
            reader: watched(stream, Interest::READABLE)?,
            writer: None,
        })
    }
}

/// The stream, watched by the runtime for this alone.
fn watched(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    // SAFETY: the stream owns its descriptor and keeps it; it is never taken out of what is returned, nor replaced.
    #[expect(unsafe_code, reason = "tokio cannot know that the descriptor stays")]
    let watched = unsafe { AsyncFd::register_with_interest(stream, interest) };
    watched.map_err(|error| error.into_parts().1)
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.reader.poll_read_ready(cx))?;
            // SAFETY: nothing is written to it but by the system, which leaves what it writes initialised.
            #[expect(
                unsafe_code,
                reason = "tokio's buffer gives its uninitialised part only so"
            )]
            let free = unsafe { buffer.unfilled_mut() };
            let room = free.len();
            match guard.try_io(|reader| SockRef::from(reader.get_ref()).recv(free)) {
                Ok(Ok(count)) => {
                    // Less than there was room for is all that there was: what comes next wakes anew.
                    if 0 < count && count < room {
                        guard.clear_ready();
                    }
                    // SAFETY: the system has written so many bytes at the beginning.
                    #[expect(unsafe_code, reason = "the buffer cannot know what the system wrote")]
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
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = pieces.iter().map(|piece| piece.len()).sum();
        self.poll_write_with(cx, all, |mut stream| stream.write_vectored(pieces))
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
