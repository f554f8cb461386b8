//! Binding the sockets.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

/// Bound sockets.
#[derive(Debug)]
pub struct Listeners {
    /// The Unix socket, readable and writable by this user alone.
    pub unix: UnixListener,
    /// The TCP socket, if there is to be one.
    pub tcp: Option<TcpListener>,
}

/// A socket that could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The Unix socket.
    #[error("cannot listen on the Unix socket {path} (MODEL_SOCKET): {source}")]
    Unix {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The TCP socket.
    #[error("cannot listen on {address} (MODEL_PORT; 0 switches TCP off): {source}")]
    Tcp {
        /// Its address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl Listeners {
    /// Binds both. A socket file that an earlier process left is replaced; one on which a process listens, and any other
    /// file, is not touched.
    pub fn bind(path: &Path, tcp: Option<SocketAddr>) -> Result<Self, BindError> {
        let unix = bind_unix(path).map_err(|source| BindError::Unix {
            path: path.to_owned(),
            source,
        })?;
        let tcp = match tcp {
            Some(address) => {
                let bound = bind_tcp(address);
                Some(bound.map_err(|source| BindError::Tcp { address, source })?)
            }
            None => None,
        };
        Ok(Self { unix, tcp })
    }
}

/// Binds under a temporary name, and renames when the mode is right: nobody else gets in between, and a client
/// that finds the socket can connect.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let refused = |reason| Err(io::Error::new(io::ErrorKind::AlreadyExists, reason));
    if path.exists() && !crate::sys::is_socket(path) {
        return refused("another file is in its place");
    }
    if is_live(path) {
        return refused("another process listens on it; stop that one, or set another path");
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push("~");
    let temporary = PathBuf::from(temporary);
    let _ = fs::remove_file(&temporary);
    let listener = UnixListener::bind(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
    fs::rename(&temporary, path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Whether a process has this socket open. A datagram socket finds out without a connection, for which a listener with a
/// full backlog would have the caller wait: one that is open is of the wrong type, one that was left refuses.
fn is_live(path: &Path) -> bool {
    let connected = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    !connected.is_err_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
        )
    })
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_that_is_listened_on_stays_and_one_that_was_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let first = Listeners::bind(&path, None).unwrap();
        let error = Listeners::bind(&path, None).unwrap_err().to_string();
        assert!(error.contains("another process listens on it"), "{error}");
        assert!(error.contains("MODEL_SOCKET"), "{error}");
        UnixStream::connect(&path).unwrap();
        assert!(first.unix.accept().is_ok(), "the first one is still there");

        drop(first);
        assert!(path.exists(), "nobody removed it");
        let second = Listeners::bind(&path, None).unwrap();
        UnixStream::connect(&path).unwrap();
        assert!(second.unix.accept().is_ok());
    }

    #[test]
    fn a_socket_of_another_type_and_another_file_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let datagram = UnixDatagram::bind(&path).unwrap();
        assert!(Listeners::bind(&path, None).is_err());
        drop(datagram);
        assert!(Listeners::bind(&path, None).is_ok());
        let file = folder.path().join("file");
        fs::write(&file, "text").unwrap();
        let error = Listeners::bind(&file, None).unwrap_err().to_string();
        assert!(error.contains("another file is in its place"), "{error}");
    }
}
