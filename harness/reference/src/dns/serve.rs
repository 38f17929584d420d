//! The sockets of cluster DNS. What is known is answered where it is read; only questions to the outside wait, and
//! those in tasks of their own, so nobody waits for them.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::answer::{Reply, Transport, answer, unready};
use super::index::Index;
use super::options::Options;
use super::query::Query;
use super::{DnsError, forward, log};

/// Questions to the outside that are under way at the same time; more get the answer that it cannot be had.
const FORWARDED: usize = 256;
const CONNECTIONS: usize = 256;
const IDLE: Duration = Duration::from_secs(10);

pub(super) struct Server {
    /// None until the API has been read once: before that nothing may be denied.
    index: RwLock<Option<Arc<Index>>>,
    upstreams: Vec<SocketAddr>,
    forwarded: Semaphore,
    log: bool,
}

impl Server {
    pub(super) fn new(options: &Options) -> Self {
        Self::with_upstreams(options, forward::upstreams())
    }

    fn with_upstreams(options: &Options, upstreams: Vec<SocketAddr>) -> Self {
        Self { index: RwLock::default(), upstreams, forwarded: Semaphore::new(FORWARDED), log: options.log }
    }

    pub(super) fn set_index(&self, index: Index) {
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(index));
    }

    pub(super) fn is_ready(&self) -> bool {
        self.index().is_some()
    }

    fn index(&self) -> Option<Arc<Index>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn answer(&self, message: &[u8], transport: Transport) -> Reply {
        match self.index() {
            Some(index) => answer(&index, message, transport),
            None => unready(message),
        }
    }

    /// What the outside says, or `otherwise`.
    async fn elsewhere(&self, message: &[u8], otherwise: Vec<u8>, transport: Transport) -> Vec<u8> {
        let Ok(_permit) = self.forwarded.try_acquire() else {
            return otherwise;
        };
        // Asking oneself through the service would go round in circles.
        let own = self.index().and_then(|index| index.own).map(IpAddr::V4);
        let upstreams: Vec<_> = self.upstreams.iter().copied().filter(|upstream| Some(upstream.ip()) != own).collect();
        forward::ask(message, &upstreams, transport).await.unwrap_or(otherwise)
    }

    fn tell(&self, message: &[u8], reply: &[u8], from: SocketAddr, began: Instant) {
        if !self.log {
            return;
        }
        let asked = match Query::read(message) {
            Ok(query) => format!("{} \"{:?} {}.\"", query.id, query.question.qtype, query.name),
            Err(_) => "-".to_owned(),
        };
        let code = reply.get(3).map_or(0, |flags| flags & 0xf);
        let took = began.elapsed().as_secs_f64();
        log("INFO", format_args!("{from} - {asked} rcode {code} {} {took:.9}s", reply.len()));
    }
}

/// Opens both sockets at `address` and answers there for as long as the runtime lives.
pub(super) async fn listen(server: Arc<Server>, address: SocketAddr) -> Result<(), DnsError> {
    let problem = |cause| DnsError::Listen { address, cause };
    let udp = Arc::new(UdpSocket::bind(address).await.map_err(problem)?);
    // With port 0 both are to have the same one.
    let address = udp.local_addr().map_err(problem)?;
    let tcp = TcpListener::bind(address).await.map_err(problem)?;
    tokio::spawn(datagrams(server.clone(), udp));
    tokio::spawn(connections(server, tcp));
    Ok(())
}

async fn datagrams(server: Arc<Server>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        // Errors of this socket are those of earlier answers that could not be delivered.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let (message, began) = (&buffer[..length], Instant::now());
        match server.answer(message, Transport::Udp) {
            Reply::Nothing => {}
            Reply::Message(reply) => {
                let _ = socket.send_to(&reply, from).await;
                server.tell(message, &reply, from, began);
            }
            Reply::Elsewhere { otherwise } => {
                let (server, socket, message) = (server.clone(), socket.clone(), message.to_vec());
                tokio::spawn(async move {
                    let reply = server.elsewhere(&message, otherwise, Transport::Udp).await;
                    let _ = socket.send_to(&reply, from).await;
                    server.tell(&message, &reply, from, began);
                });
            }
        }
    }
}

async fn connections(server: Arc<Server>, listener: TcpListener) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, from)) => {
                let server = server.clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    // A connection ends as it ends: there is nobody to tell.
                    let _ = connection(&server, stream, from).await;
                });
            }
            // Out of descriptors, most likely: others have to end first.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connection(server: &Server, mut stream: TcpStream, from: SocketAddr) -> std::io::Result<()> {
    loop {
        let message = tokio::time::timeout(IDLE, forward::read(&mut stream)).await??;
        let began = Instant::now();
        let reply = match server.answer(&message, Transport::Tcp) {
            Reply::Nothing => return Ok(()),
            Reply::Message(reply) => reply,
            Reply::Elsewhere { otherwise } => server.elsewhere(&message, otherwise, Transport::Tcp).await,
        };
        tokio::time::timeout(IDLE, forward::write(&mut stream, &reply)).await??;
        server.tell(&message, &reply, from, began);
    }
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
