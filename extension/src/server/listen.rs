//! Binds the Unix socket and the TCP socket.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

/// Bound sockets.
#[derive(Debug)]
pub struct Listeners {
    /// Unix socket, readable and writable by this user only.
    pub unix: UnixListener,
    /// TCP socket, unless TCP is disabled.
    pub tcp: Option<TcpListener>,
}

/// Error of a socket that cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Error of the Unix socket.
    #[error("cannot listen on the Unix socket {path} (MODEL_SOCKET): {source}")]
    Unix {
        /// Path of the socket.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Error of the TCP socket.
    #[error("cannot listen on {address} (MODEL_PORT; 0 disables TCP): {source}")]
    Tcp {
        /// Address of the socket.
        address: SocketAddr,
        /// Cause.
        source: io::Error,
    },
}

impl Listeners {
    /// Binds both sockets. Replaces the socket file of a process that has ended; never touches a socket on which a
    /// process listens, or any other file.
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

/// Binds under a temporary name, sets the mode, then renames. No other user can connect in between, and a client that
/// finds the socket can connect.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let exists = |reason| Err(io::Error::new(io::ErrorKind::AlreadyExists, reason));
    if path.exists() && !crate::sys::is_socket(path) {
        return exists("the path is another file; remove it, or set another path");
    }
    if is_live(path) {
        return exists("another process listens on it; stop that process, or set another path");
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

/// Returns `true` if a process has this socket open. Connects with a datagram socket, which never waits for a listener
/// with a full backlog. An open socket has the wrong type, and a closed one refuses the connection.
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
    fn an_open_socket_stays_and_a_leftover_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let first = Listeners::bind(&path, None).unwrap();
        let error = Listeners::bind(&path, None).unwrap_err().to_string();
        assert!(error.contains("another process listens on it"), "{error}");
        assert!(error.contains("MODEL_SOCKET"), "{error}");
        UnixStream::connect(&path).unwrap();
        assert!(
            first.unix.accept().is_ok(),
            "the first listener still works"
        );

        drop(first);
        assert!(path.exists(), "the file is left over");
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
        assert!(error.contains("the path is another file"), "{error}");
    }
}
