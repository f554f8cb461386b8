//! Binding the sockets.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
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
    /// Binds both. A socket file that an earlier process left is replaced; any other file is not touched.
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
    if path.exists() && !crate::sys::is_socket(path) {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "another file is in its place",
        ));
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

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
