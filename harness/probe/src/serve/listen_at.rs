//! Where to listen, as it is written on a command line: `8080/tcp`, `[::1]:53/udp`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The transports a server answers on; HTTP is answered on any TCP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenProtocol {
    Tcp,
    Udp,
    Sctp,
}

impl fmt::Display for ListenProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// One port to listen on; without an address, on all of IPv6 and IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenAt {
    pub address: Option<IpAddr>,
    /// Zero lets the kernel choose.
    pub port: u16,
    pub protocol: ListenProtocol,
}

/// The text is no place to listen at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a port to listen on; write `8080/tcp`, `53/udp`, `9/sctp` or `127.0.0.1:8080/tcp`")]
pub struct ParseListenError {
    text: String,
}

impl FromStr for ListenAt {
    type Err = ParseListenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseListenError { text: text.to_owned() };
        let (place, protocol) = text.split_once('/').ok_or_else(error)?;
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" | "http" => ListenProtocol::Tcp,
            "udp" => ListenProtocol::Udp,
            "sctp" => ListenProtocol::Sctp,
            _ => return Err(error()),
        };
        if let Ok(port) = place.parse() {
            return Ok(Self { address: None, port, protocol });
        }
        let address: SocketAddr = place.parse().map_err(|_| error())?;
        Ok(Self { address: Some(address.ip()), port: address.port(), protocol })
    }
}

impl fmt::Display for ListenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(ip) => write!(f, "{}/{}", SocketAddr::new(ip, self.port), self.protocol),
            None => write!(f, "{}/{}", self.port, self.protocol),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("8080/tcp", None, 8080, ListenProtocol::Tcp)]
    #[case("53/UDP", None, 53, ListenProtocol::Udp)]
    #[case("127.0.0.1:9/sctp", Some([127, 0, 0, 1].into()), 9, ListenProtocol::Sctp)]
    fn ports_are_read(
        #[case] text: &str,
        #[case] address: Option<IpAddr>,
        #[case] port: u16,
        #[case] protocol: ListenProtocol,
    ) {
        assert_eq!(text.parse::<ListenAt>().unwrap(), ListenAt { address, port, protocol });
    }

    #[rstest]
    fn other_texts_are_refused(#[values("8080", "8080/icmp", "70000/tcp", "/tcp", "host:80/tcp")] text: &str) {
        assert!(text.parse::<ListenAt>().unwrap_err().to_string().contains(&format!("`{text}`")));
    }
}
