//! Which of a node's addresses Calico uses: `IP_AUTODETECTION_METHOD` of the calico-node container.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use cknet_kernel::link::Link;
use ipnet::Ipv4Net;
use regex_lite::Regex;

/// One of Calico's ways to find a node's address.
#[derive(Clone, Debug)]
pub enum Method {
    /// The first valid address on the first valid link.
    FirstFound,
    /// The node's InternalIP in the Kubernetes API.
    KubernetesInternalIp,
    /// The source address that the kernel would use towards this destination.
    CanReach(Ipv4Addr),
    /// The first link whose name matches.
    Interface(Regex),
    /// The first link whose name does not match.
    SkipInterface(Regex),
    /// The first address inside one of these networks.
    Cidr(Vec<Ipv4Net>),
}

/// A method that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid IP autodetection method `{0}`: use first-found, kubernetes-internal-ip, can-reach=ADDRESS, interface=REGEX, skip-interface=REGEX or cidr=NETWORK[,NETWORK]"
)]
pub struct InvalidMethod(String);

impl std::str::FromStr for Method {
    type Err = InvalidMethod;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidMethod(text.to_string());
        // Several expressions are separated by commas and any of them may match the whole name.
        let names = |list: &str| {
            let alternatives: Vec<_> = list.split(',').map(str::trim).collect();
            Regex::new(&format!("^(?:{})$", alternatives.join("|"))).map_err(|_| invalid())
        };
        match text.split_once('=') {
            None if text.is_empty() || text == "first-found" => Ok(Self::FirstFound),
            None if text == "kubernetes-internal-ip" => Ok(Self::KubernetesInternalIp),
            Some(("can-reach", address)) => Ok(Self::CanReach(address.parse().map_err(|_| invalid())?)),
            Some(("interface", list)) => Ok(Self::Interface(names(list)?)),
            Some(("skip-interface", list)) => Ok(Self::SkipInterface(names(list)?)),
            Some(("cidr", list)) => {
                let networks: Result<_, _> = list.split(',').map(|network| network.trim().parse()).collect();
                Ok(Self::Cidr(networks.map_err(|_| invalid())?))
            }
            _ => Err(invalid()),
        }
    }
}

/// Links that are never a node's own: Calico's built-in exclusions for `first-found` (`DEFAULT_INTERFACES_TO_EXCLUDE`).
const EXCLUDED: [&str; 14] = [
    "docker",
    "cbr",
    "dummy",
    "virbr",
    "lxcbr",
    "veth",
    "lo",
    "cali",
    "tunl",
    "flannel",
    "kube-ipvs",
    "cni",
    "vxlan.calico",
    "cilium",
];

/// Whether `first-found` and `skip-interface` never take an address from a link of this name.
pub fn is_passed_over(link: &str) -> bool {
    EXCLUDED.iter().any(|prefix| link.starts_with(prefix))
}

/// The address and the name of its link, or `None` when nothing fits.
pub fn find(
    method: &Method,
    links: &[Link],
    addresses: &[(u32, Ipv4Net)],
    internal: Ipv4Addr,
) -> Option<(Ipv4Net, String)> {
    let own = links.iter().filter(|link| link.up && !is_passed_over(&link.name));
    let mut candidates = own.flat_map(|link| {
        let of_link = addresses.iter().filter(move |(index, _)| *index == link.index);
        of_link.map(move |(_, address)| (*address, link.name.clone()))
    });
    match method {
        Method::FirstFound => candidates.next(),
        Method::KubernetesInternalIp => candidates.find(|(address, _)| address.addr() == internal),
        Method::CanReach(destination) => {
            let source = source_towards(*destination)?;
            candidates.find(|(address, _)| address.addr() == source)
        }
        Method::Interface(names) => candidates.find(|(_, name)| names.is_match(name)),
        Method::SkipInterface(names) => candidates.find(|(_, name)| !names.is_match(name)),
        Method::Cidr(networks) => {
            candidates.find(|(address, _)| networks.iter().any(|network| network.contains(&address.addr())))
        }
    }
}

/// Asks the kernel's routing by connecting a datagram socket, which sends nothing.
fn source_towards(destination: Ipv4Addr) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((destination, 80)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    fn link(index: u32, name: &str) -> Link {
        Link { index, name: name.into(), up: true, mtu: 1500, mac: None, parent: None, vxlan: None }
    }

    #[rstest]
    #[case::first_found("first-found", Some("eth0"))]
    #[case::nothing_set("", Some("eth0"))]
    #[case::by_name("interface=eth1", Some("eth1"))]
    #[case::by_expression("interface=en.*,eth1", Some("eth1"))]
    #[case::whole_names_only("interface=eth", None)]
    #[case::all_but("skip-interface=eth0", Some("eth1"))]
    #[case::in_a_network("cidr=10.9.0.0/16", Some("eth1"))]
    #[case::internal("kubernetes-internal-ip", Some("eth0"))]
    fn methods_choose_as_documented(#[case] method: &str, #[case] expected: Option<&str>) {
        let links = [link(1, "lo"), link(2, "eth0"), link(3, "eth1"), link(4, "cali123"), link(5, "vxlan.calico")];
        let net = |text: &str| text.parse::<Ipv4Net>().unwrap();
        let addresses =
            [(1, net("127.0.0.1/8")), (2, net("192.168.60.11/24")), (3, net("10.9.0.11/24")), (5, net("10.1.0.0/32"))];
        let method: Method = method.parse().unwrap();
        let found = find(&method, &links, &addresses, Ipv4Addr::new(192, 168, 60, 11));
        assert_eq!(found.map(|(_, name)| name).as_deref(), expected);
    }

    #[test]
    fn an_unknown_method_is_refused() {
        assert!("eth1".parse::<Method>().is_err());
        assert!("interface=(".parse::<Method>().is_err());
    }
}
