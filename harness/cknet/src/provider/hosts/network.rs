//! What the network of a host is like besides the interfaces that a run may have: by which one ssh comes, and which
//! networks are on the others.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::provider::Segment;

/// Says where ssh comes in (`SSH_CONNECTION` of ssh(1), which sudo keeps from its programs: then it is asked of the
/// processes above), and each interface with each of its addresses.
pub const LOOK: &str = r#"
c=${SSH_CONNECTION:-} p=$$
while [ -z "$c" ] && [ "${p:-0}" -gt 1 ]; do
    p=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$p/status)
    c=$(tr '\0' '\n' </proc/$p/environ 2>/dev/null | sed -n 's/^SSH_CONNECTION=//p')
done
echo "ssh $c"
command -v ip >/dev/null || { echo 'there is no program `ip`: apt-get install iproute2' >&2; exit 1; }
ip -o addr show | while read -r _ interface _ address _; do echo "address $interface $address"; done
"#;

/// A host's interfaces with their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The address and the port at which ssh came.
    pub ssh: Option<(IpAddr, u16)>,
    pub addresses: Vec<(String, IpNet)>,
}

impl Network {
    /// Reads what [`LOOK`] says.
    pub fn read(said: &str) -> Self {
        let mut network = Self::default();
        for line in said.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["ssh", _, _, address, port, ..] => {
                    // An address of a link says of which: `fe80::1%eth0`.
                    let address = address.split('%').next().unwrap_or(address);
                    network.ssh = address.parse().ok().zip(port.parse().ok());
                }
                ["address", interface, address] => {
                    // A device with another end elsewhere is told with it: `veth0@if7`.
                    let name = interface.split('@').next().unwrap_or(interface);
                    let alone = || address.parse::<IpAddr>().map(IpNet::from);
                    if let Ok(address) = address.parse::<IpNet>().or_else(|_| alone()) {
                        network.addresses.push((name.to_string(), address));
                    }
                }
                _ => {}
            }
        }
        network
    }

    /// Why a run cannot have these interfaces for these segments.
    pub fn forbids(&self, free: &BTreeSet<&str>, segments: &[Segment]) -> Option<String> {
        if let Some((address, _)) = self.ssh {
            let by = self.addresses.iter().find(|(name, own)| own.addr() == address && free.contains(name.as_str()));
            if let Some((name, _)) = by {
                return Some(format!("ssh comes by {name}, at {address}: it is not free"));
            }
        }
        let others = self.addresses.iter().filter(|(name, _)| name != "lo" && !free.contains(name.as_str()));
        others.flat_map(|other| segments.iter().map(move |segment| (other, segment))).find_map(
            |((name, own), segment)| {
                let wanted = IpNet::V4(segment.cidr);
                let meet = own.contains(&wanted) || wanted.contains(&own.trunc());
                meet.then(|| {
                    format!("its network {} on {name} overlaps the segment `{}`, {wanted}", own.trunc(), segment.name)
                })
            },
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SAID: &str = "ssh 10.9.0.1 50312 10.9.0.11 22\naddress lo 127.0.0.1/8\naddress mg0@if7 10.9.0.11/24\n\
                        address docker0 172.17.0.1/16\naddress ens4 fe80::1/64\naddress tun0 10.8.0.2\n";

    fn forbids(free: &[&str], cidr: &str) -> Option<String> {
        let segment = Segment { name: "lan".into(), cidr: cidr.parse().unwrap(), mtu: 1500 };
        Network::read(SAID).forbids(&free.iter().copied().collect(), &[segment])
    }

    #[test]
    fn where_ssh_comes_is_known_also_behind_sudo() {
        let said = |script: &str| {
            let mut command = std::process::Command::new("sh");
            command.args(["-c", script, "sh", LOOK]).env("SSH_CONNECTION", "10.9.0.1 50312 10.9.0.11 2222");
            Network::read(&String::from_utf8(command.output().unwrap().stdout).unwrap()).ssh
        };
        let told = Some(("10.9.0.11".parse().unwrap(), 2222));
        assert_eq!(said("eval \"$1\""), told);
        // sudo gives its programs a new environment; the shell above it still has that of sshd.
        assert_eq!(said("env -i PATH=\"$PATH\" sh -c \"$1\"; true"), told);
    }

    #[test]
    fn the_interface_by_which_ssh_comes_is_not_free() {
        assert_eq!(Network::read(SAID).ssh, Some(("10.9.0.11".parse().unwrap(), 22)));
        let said = forbids(&["ens4", "mg0"], "192.168.60.0/24").unwrap();
        assert_eq!(said, "ssh comes by mg0, at 10.9.0.11: it is not free");
        assert_eq!(forbids(&["ens4"], "192.168.60.0/24"), None);
        assert_eq!(Network::read("ssh UNKNOWN 65535 UNKNOWN 65535\n").ssh, None, "sshd -i");
    }

    #[test]
    fn networks_of_other_interfaces_that_overlap_a_segment_are_told() {
        for (cidr, said) in [
            ("172.17.5.0/24", "its network 172.17.0.0/16 on docker0 overlaps the segment `lan`, 172.17.5.0/24"),
            ("10.0.0.0/8", "its network 10.9.0.0/24 on mg0 overlaps the segment `lan`, 10.0.0.0/8"),
            ("10.8.0.0/24", "its network 10.8.0.2/32 on tun0 overlaps the segment `lan`, 10.8.0.0/24"),
        ] {
            assert_eq!(forbids(&["ens4"], cidr).as_deref(), Some(said));
        }
        assert_eq!(forbids(&["ens4", "docker0"], "172.17.5.0/24"), None, "its own address is taken off it");
    }
}
