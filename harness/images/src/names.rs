//! Host names to addresses: the hosts file first, then the servers of resolv.conf. Never the C library.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use cknet_probe::dns_client::{LookupError, Resolver};
use cknet_probe::wire::RecordType;

/// How long a resolver tries in all, unless resolv.conf says less: two times five seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAddress {
    /// The servers do not know it; the one that said so last.
    Unknown { server: String },
    /// No server answered; the one that was asked last.
    NoAnswer { server: String },
}

impl NoAddress {
    /// As Go says it.
    pub fn in_go_words(&self, name: &str) -> String {
        match self {
            Self::Unknown { server } => format!("lookup {name} on {server}: no such host"),
            Self::NoAnswer { server } => format!("lookup {name} on {server}: i/o timeout"),
        }
    }
}

/// All addresses of `host`, which may be an address itself.
pub fn addresses(host: &str) -> Result<Vec<IpAddr>, NoAddress> {
    addresses_within(host, PATIENCE)
}

/// The same, with another limit.
pub fn addresses_within(host: &str, patience: Duration) -> Result<Vec<IpAddr>, NoAddress> {
    if host.is_empty() {
        return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
    }
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        return Ok(vec![address]);
    }
    let known = in_hosts(&fs::read_to_string("/etc/hosts").unwrap_or_default(), host);
    if !known.is_empty() {
        return Ok(known);
    }
    ask(host, patience)
}

fn ask(host: &str, patience: Duration) -> Result<Vec<IpAddr>, NoAddress> {
    let mut resolver = Resolver::of_this_host().map_err(|_| NoAddress::NoAnswer { server: "127.0.0.1:53".into() })?;
    let found = resolver.resolve(host, RecordType::A, patience).map_err(no_address)?;
    let addresses: Vec<IpAddr> = found.addresses().collect();
    if addresses.is_empty() { Err(NoAddress::Unknown { server: found.server.to_string() }) } else { Ok(addresses) }
}

fn no_address(error: LookupError) -> NoAddress {
    let last = |tries: &[cknet_probe::dns_client::Try]| {
        tries.last().map_or_else(|| "127.0.0.1:53".to_string(), |last| last.server.to_string())
    };
    match error {
        LookupError::NotFound { tries, .. } => NoAddress::Unknown { server: last(&tries) },
        LookupError::NoAnswer { tries, .. } => NoAddress::NoAnswer { server: last(&tries) },
        _ => NoAddress::Unknown { server: last(&[]) },
    }
}

fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| line.split('#').next());
    let mut found: Vec<IpAddr> = lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
        })
        .collect();
    // As for programs on a machine without IPv6, which pods are.
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

/// `HOST:PORT`, `[V6]:PORT`; `None` when there is no port.
pub fn split(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    if host.contains(':') && !host.starts_with('[') {
        return None;
    }
    Some((host.trim_matches(['[', ']']), port.parse().ok()?))
}

/// The first address of `host` with `port`.
pub fn socket_address(host: &str, port: u16) -> Result<SocketAddr, NoAddress> {
    let first = addresses(host)?.into_iter().next();
    first.map(|address| SocketAddr::new(address, port)).ok_or(NoAddress::Unknown { server: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_file_knows_names_and_aliases() {
        let text = "127.0.0.1 localhost\n::1 localhost\n10.1.0.5\tweb-1 # me\n192.0.2.9 db db.x\n# 1.2.3.4 no\n";
        let of = |host: &str| in_hosts(text, host).iter().map(IpAddr::to_string).collect::<Vec<_>>();
        assert_eq!(of("localhost"), ["127.0.0.1", "::1"]);
        assert_eq!(of("DB.x"), ["192.0.2.9"]);
        assert_eq!(of("web-1"), ["10.1.0.5"]);
        assert!(of("no").is_empty() && of("me").is_empty());
    }

    #[test]
    fn a_place_is_a_host_and_a_port() {
        assert_eq!(split("web.x:80"), Some(("web.x", 80)));
        assert_eq!(split("[fd00::1]:80"), Some(("fd00::1", 80)));
        assert_eq!((split("web"), split("fd00::1"), split("web:http")), (None, None, None));
    }
}
