//! Serves routes on a listener until it is told to stop, then lets requests under way finish.
//!
//! Here and not in the binary: what is generic in the HTTP server is compiled where it is used, and this crate is optimized in
//! every profile. A boxed future, for what is awaited elsewhere is compiled there.

use std::io;
use std::pin::Pin;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::{TcpListener, UnixListener};

/// A future that says nothing of what it is made of.
type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Serves over TCP.
pub fn tcp(listener: TcpListener, routes: Router, stop: Boxed<()>) -> Boxed<io::Result<()>> {
    // What is sent must not wait for the answer to the packet before it.
    let listener = listener.tap_io(|connection| _ = connection.set_nodelay(true));
    Box::pin(axum::serve(listener, routes).with_graceful_shutdown(stop).into_future())
}

/// Serves on a Unix socket.
pub fn unix(listener: UnixListener, routes: Router, stop: Boxed<()>) -> Boxed<io::Result<()>> {
    Box::pin(axum::serve(listener, routes).with_graceful_shutdown(stop).into_future())
}
