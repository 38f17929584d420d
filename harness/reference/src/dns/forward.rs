//! Asking name servers outside the cluster: each in turn, and not for long.
//!
//! It passes messages on as they are and knows nothing of what is in them but their number.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::answer::Transport;

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// More than this the resolver of a usual system does not look at either.
const MOST: usize = 3;
const PATIENCE: Duration = Duration::from_millis(1500);

/// The name servers of the machine that cluster DNS runs on.
pub(super) fn upstreams() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    name_servers(&text)
}

fn name_servers(text: &str) -> Vec<SocketAddr> {
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let servers = words.filter_map(|words| match words.as_slice() {
        ["nameserver", address, ..] => address.parse::<IpAddr>().ok(),
        _ => None,
    });
    // In a pod the loopback is not the machine's resolver, but this server itself.
    let servers = servers.filter(|address| !address.is_loopback() && !address.is_unspecified());
    servers.take(MOST).map(|address| SocketAddr::new(address, 53)).collect()
}

/// The first answer that one of `upstreams` gives to `message`.
pub(super) async fn ask(message: &[u8], upstreams: &[SocketAddr], transport: Transport) -> Option<Vec<u8>> {
    for &upstream in upstreams {
        let asked = async {
            match transport {
                Transport::Udp => over_udp(message, upstream).await,
                Transport::Tcp => over_tcp(message, upstream).await,
            }
        };
        if let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, asked).await {
            return Some(answer);
        }
    }
    None
}

async fn over_udp(message: &[u8], upstream: SocketAddr) -> std::io::Result<Vec<u8>> {
    let any: IpAddr = match upstream {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port of its own for each question: an answer to another one cannot be taken for it.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(message).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if buffer[..length].get(..2) == message.get(..2) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn over_tcp(message: &[u8], upstream: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    write(&mut stream, message).await?;
    read(&mut stream).await
}

/// Reads one message with its length before it.
pub(super) async fn read(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes one message with its length before it.
pub(super) async fn write(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend(length.to_be_bytes());
    framed.extend(&message[..usize::from(length)]);
    stream.write_all(&framed).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn name_servers_are_read() {
        let text = "# a comment\nsearch example.org\nnameserver 192.0.2.1\nnameserver nonsense\nnameserver 127.0.0.53\nnameserver 2001:db8::1\n\
                    nameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let servers: Vec<_> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"]);
    }

    #[tokio::test]
    async fn a_server_that_refuses_is_passed_over_at_once() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let good = socket.local_addr().unwrap();
        let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let server = tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            socket.send_to(b"no", from).await.unwrap();
            socket.send_to(&[&buffer[..length], b"!"].concat(), from).await.unwrap();
        });
        let answer = ask(b"question", &[closed, good], Transport::Udp).await;
        assert_eq!(answer.as_deref(), Some(&b"question!"[..]));
        server.await.unwrap();
    }
}
