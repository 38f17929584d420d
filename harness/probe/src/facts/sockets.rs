//! Open ports, from the tables in `/proc/net` (proc_net(5)).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// One open port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// `::` takes IPv4 as well, unless the socket was told otherwise.
    pub address: IpAddr,
    pub port: u16,
}

/// The state numbers of sockets that wait for peers.
const TCP_LISTEN: &str = "0A";
const UDP_UNCONNECTED: &str = "07";

/// The open ports of the calling thread's namespace.
pub(super) fn listening() -> io::Result<Vec<Listening>> {
    let mut found = Vec::new();
    for (protocol, state) in [("tcp", TCP_LISTEN), ("udp", UDP_UNCONNECTED)] {
        for suffix in ["", "6"] {
            let table = read(&format!("{protocol}{suffix}"))?;
            found.extend(table.lines().skip(1).filter_map(|line| inet_line(line, protocol, state)));
        }
    }
    found.extend(read("sctp/eps")?.lines().skip(1).flat_map(sctp_line));
    found.sort_by(|a, b| (&a.protocol, a.port, a.address).cmp(&(&b.protocol, b.port, b.address)));
    found.dedup();
    Ok(found)
}

/// A table of this thread's namespace; one that the kernel lacks is empty.
fn read(name: &str) -> io::Result<String> {
    match std::fs::read_to_string(format!("/proc/thread-self/net/{name}")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    }
}

/// `0: 0100007F:1F90 00000000:0000 0A …`: each word of the address in the machine's byte order.
fn inet_line(line: &str, protocol: &str, wanted: &str) -> Option<Listening> {
    let mut words = line.split_whitespace().skip(1);
    let (local, _, state) = (words.next()?, words.next()?, words.next()?);
    if state != wanted {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(Listening { protocol: protocol.to_owned(), address: hex_address(address)?, port })
}

fn hex_address(digits: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(digits.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match digits.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (part, chunk) in bytes.chunks_mut(4).enumerate() {
                chunk.copy_from_slice(&word(part * 8)?);
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// ` ENDPT SOCK STY SST HBKT LPORT UID INODE LADDRS`: state 10 listens.
fn sctp_line(line: &str) -> Vec<Listening> {
    let words: Vec<_> = line.split_whitespace().collect();
    let listens = words.get(3) == Some(&"10");
    let Some(port) = words.get(5).and_then(|port| port.parse().ok()).filter(|_| listens) else {
        return Vec::new();
    };
    let addresses = words.get(8..).unwrap_or_default().iter().filter_map(|word| word.parse().ok());
    addresses.map(|address| Listening { protocol: "sctp".into(), address, port }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0";
        let listening = inet_line(line, "tcp", TCP_LISTEN).unwrap();
        assert_eq!((listening.address, listening.port), ([127, 0, 0, 1].into(), 8080));
        assert_eq!(inet_line(line, "tcp", UDP_UNCONNECTED), None);
        let line = "  1: 000080FE00000000FF00FE02010000FE:0035 0000:0000 07 0";
        assert_eq!(
            inet_line(line, "udp", UDP_UNCONNECTED).unwrap().address,
            "fe80::2fe:ff:fe00:1".parse::<IpAddr>().unwrap()
        );
    }

    #[test]
    fn sctp_endpoints_are_read() {
        let line = "ffff8 ffff8 2   10  29   9     0 1234 10.0.0.1 fd00::1";
        let found = sctp_line(line);
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].address, found[1].port), ("fd00::1".parse().unwrap(), 9));
        assert!(sctp_line("ffff8 ffff8 2   7  29   9     0 1234 10.0.0.1").is_empty());
    }
}
