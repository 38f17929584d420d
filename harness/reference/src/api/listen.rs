//! Connections: accepting, TLS, HTTP/1.1 and HTTP/2, limits and an orderly end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cluster::Cluster;
use super::linger::Linger;
use super::route;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 8192;
/// Requests at a time on one HTTP/2 connection, watches included.
const STREAMS: u32 = 4096;
/// How long a client may take over a handshake or the headers of a request.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long open connections are given at the end.
const FAREWELL: Duration = Duration::from_millis(500);

/// Serves every listener until `shutdown`.
pub(super) async fn serve(
    cluster: Arc<Cluster>,
    listeners: Vec<TcpListener>,
    acceptor: TlsAcceptor,
    shutdown: CancellationToken,
) {
    let tracker = TaskTracker::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    for listener in listeners {
        let (cluster, acceptor) = (Arc::clone(&cluster), acceptor.clone());
        let (room, shutdown, tasks) = (Arc::clone(&room), shutdown.clone(), tracker.clone());
        tracker.spawn(async move { accept(&cluster, &listener, &acceptor, &room, &shutdown, &tasks).await });
    }
    shutdown.cancelled().await;
    tracker.close();
    // Streams of exec are nobody's to wait for; they end with the process.
    let _ = timeout(FAREWELL * 2, tracker.wait()).await;
}

async fn accept(
    cluster: &Arc<Cluster>,
    listener: &TcpListener,
    acceptor: &TlsAcceptor,
    room: &Arc<Semaphore>,
    shutdown: &CancellationToken,
    tasks: &TaskTracker,
) {
    loop {
        let Ok(place) = Arc::clone(room).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            // The process is out of descriptors or the peer has gone; giving others a turn is all there is to do.
            tokio::task::yield_now().await;
            continue;
        };
        let (cluster, acceptor, shutdown) = (Arc::clone(cluster), acceptor.clone(), shutdown.clone());
        tasks.spawn(async move {
            connection(cluster, stream, &acceptor, &shutdown).await;
            drop(place);
        });
    }
}

async fn connection(cluster: Arc<Cluster>, stream: TcpStream, acceptor: &TlsAcceptor, shutdown: &CancellationToken) {
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else {
        return;
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let ending = shutdown.clone();
    let service = service_fn(move |request| {
        let (cluster, ending) = (Arc::clone(&cluster), ending.clone());
        async move { Ok::<_, Infallible>(route::answer(cluster, request, ending).await) }
    });
    let mut served = pin!(builder.serve_connection_with_upgrades(TokioIo::new(Linger::new(stream)), service));
    tokio::select! {
        // A client that breaks the protocol or goes away ends its own connection only.
        _ = served.as_mut() => {}
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            let _ = timeout(FAREWELL, served).await;
        }
    }
}
