//! What is closed: ports, in which direction, for whom, and what becomes of their packets. Values only: how they are
//! written is in `text`, how the kernel is told in `rules`.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::text::ParseError;

/// A transport protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// Ports of one protocol, both ends included: `4789/udp`, `30000-32767/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    pub first: u16,
    pub last: u16,
    pub protocol: Protocol,
}

impl Ports {
    fn overlaps(self, other: Self) -> bool {
        self.protocol == other.protocol && self.first <= other.last && other.first <= self.last
    }

    /// What is left of these ports without `other`: up to two ranges.
    fn without(self, other: Self) -> impl Iterator<Item = Self> {
        let below = (self.first < other.first).then(|| Self { last: other.first - 1, ..self });
        let above = (self.last > other.last).then(|| Self { first: other.last + 1, ..self });
        below.into_iter().chain(above)
    }
}

/// The way of a packet, seen from the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// To the node, and through it to what its ports are translated to.
    In,
    /// From the node's own processes and tunnels.
    Out,
}

/// Where on its way through the node an inbound packet is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Where the node takes it in, or passes on what it translated, after everybody who accepts at priority filter.
    #[default]
    Filter,
    /// Before anything else of the node sees it, connection tracking and tunnels included.
    Early,
    /// Only where the node passes packets on, whatever they were translated to: never what is for the node itself.
    Forward,
}

/// What becomes of a packet to a closed port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is lost in silence.
    Drop,
    /// It is lost and the sender is told: TCP by a reset, anything else by ICMP "administratively prohibited", which
    /// is what firewalld answers for a zone that lets a port not in.
    Reject,
}

/// The name of a network device, without wildcards.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nic(String);

impl Nic {
    /// Longest name of a device in bytes: `IFNAMSIZ` less the NUL.
    const LONGEST: usize = 15;

    /// What Linux takes for a device's name, less `*`, which stands for other names in rules.
    pub fn new(name: &str) -> Result<Self, ParseError> {
        let bad = |byte: u8| byte.is_ascii_whitespace() || byte.is_ascii_control() || b"/:*".contains(&byte);
        let good = (1..=Self::LONGEST).contains(&name.len()) && !name.bytes().any(bad) && !matches!(name, "." | "..");
        if good { Ok(Self(name.into())) } else { Err(ParseError::new(name, "the name of a network device")) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// For whom something is closed or opened: everybody, unless narrowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// Only packets whose far end is here: the source of what comes in, the destination of what goes out.
    pub far_end: Option<IpNet>,
    /// Only packets that enter or leave the node through this device.
    pub nic: Option<Nic>,
}

impl Scope {
    /// Whether all packets of `other` are packets of this scope.
    fn covers(&self, other: &Self) -> bool {
        let far_end = match (self.far_end, other.far_end) {
            (None, _) => true,
            (Some(own), Some(other)) => own.contains(&other),
            (Some(_), None) => false,
        };
        far_end && (self.nic.is_none() || self.nic == other.nic)
    }

    /// Whether a packet can be of both scopes.
    fn overlaps(&self, other: &Self) -> bool {
        let far_end = match (self.far_end, other.far_end) {
            (Some(own), Some(other)) => own.contains(&other) || other.contains(&own),
            _ => true,
        };
        far_end && (self.nic.is_none() || other.nic.is_none() || self.nic == other.nic)
    }
}

/// One closed way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Closure {
    pub ports: Ports,
    pub way: Way,
    /// Means something on the way in only.
    pub place: Place,
    pub scope: Scope,
    pub action: Action,
}

/// A part of what was to be opened is closed by something wider, of which no part can be taken away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot open `{wanted}` {way}: `{closure}` is wider than what is to be opened")]
pub struct StillClosed {
    pub wanted: Ports,
    pub way: Way,
    pub closure: Box<Closure>,
}

/// All that is closed on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    closed: Vec<Closure>,
}

impl Firewall {
    /// Closures in order, each once.
    pub fn new(closed: impl IntoIterator<Item = Closure>) -> Self {
        let mut closed: Vec<_> = closed.into_iter().collect();
        closed.sort_unstable();
        closed.dedup();
        Self { closed }
    }

    pub fn closed(&self) -> &[Closure] {
        &self.closed
    }

    /// Closes; the same ports for the same far ends are dropped or rejected, whichever was said last.
    ///
    /// Where closures only overlap, the one that was made first decides about a packet.
    pub fn close(&mut self, closure: Closure) {
        let same = |other: &Closure| {
            (other.ports, other.way, other.place, &other.scope)
                == (closure.ports, closure.way, closure.place, &closure.scope)
        };
        self.closed.retain(|other| !same(other));
        *self = Self::new(std::mem::take(&mut self.closed).into_iter().chain([closure]));
    }

    /// Lets these ports through in this way, for `scope`. What is not closed stays open; of a closed range only the
    /// part that is to be opened is taken away.
    ///
    /// # Errors
    /// Something wider than `scope` closes the ports: everybody's closure cannot be opened for one device only.
    pub fn open(&mut self, ports: Ports, way: Way, scope: &Scope) -> Result<(), StillClosed> {
        let mut left = Vec::with_capacity(self.closed.len());
        for closure in &self.closed {
            if closure.way != way || !closure.ports.overlaps(ports) || !closure.scope.overlaps(scope) {
                left.push(closure.clone());
            } else if scope.covers(&closure.scope) {
                left.extend(closure.ports.without(ports).map(|ports| Closure { ports, ..closure.clone() }));
            } else {
                return Err(StillClosed { wanted: ports, way, closure: Box::new(closure.clone()) });
            }
        }
        *self = Self::new(left);
        Ok(())
    }
}

impl TryFrom<String> for Nic {
    type Error = ParseError;

    fn try_from(name: String) -> Result<Self, ParseError> {
        Self::new(&name)
    }
}

impl From<Nic> for String {
    fn from(nic: Nic) -> Self {
        nic.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    fn firewall(closures: &[&str]) -> Firewall {
        Firewall::new(closures.iter().map(|text| text.parse().unwrap()))
    }

    fn scope(far_end: &str, nic: &str) -> Scope {
        Scope { far_end: far_end.parse().ok(), nic: Nic::new(nic).ok() }
    }

    #[rstest]
    #[case::exactly(&["closed 80/tcp in"], "80/tcp", scope("", ""), &[])]
    #[case::nothing_is_closed(&[], "80/tcp", scope("", ""), &[])]
    #[case::other_protocol(&["closed 80/udp in"], "80/tcp", scope("", ""), &["closed 80/udp in"])]
    #[case::other_way(&["closed 80/tcp out"], "80/tcp", scope("", ""), &["closed 80/tcp out"])]
    #[case::rejected_too(&["rejected 80/tcp in"], "80/tcp", scope("", ""), &[])]
    #[case::for_everybody(&["closed 80/tcp in from 10.0.0.0/8", "closed 80/tcp in through eth1"], "80/tcp", scope("", ""), &[])]
    #[case::for_one_device(&["closed 80/tcp in through eth0", "closed 80/tcp in through eth1"], "80/tcp", scope("", "eth1"),
        &["closed 80/tcp in through eth0"])]
    #[case::for_a_wider_block(&["closed 80/tcp in from 10.1.0.0/16"], "80/tcp", scope("10.0.0.0/8", ""), &[])]
    #[case::for_strangers(&["closed 80/tcp in from 10.0.0.0/8"], "80/tcp", scope("192.0.2.0/24", ""),
        &["closed 80/tcp in from 10.0.0.0/8"])]
    #[case::out_of_the_middle(&["closed 30000-32767/tcp in"], "30080/tcp", scope("", ""),
        &["closed 30000-30079/tcp in", "closed 30081-32767/tcp in"])]
    #[case::off_both_edges(&["closed 1-100/tcp in", "closed 200-65535/tcp in"], "50-300/tcp", scope("", ""),
        &["closed 1-49/tcp in", "closed 301-65535/tcp in"])]
    fn opening(#[case] before: &[&str], #[case] ports: &str, #[case] scope: Scope, #[case] after: &[&str]) {
        let mut opened = firewall(before);
        opened.open(ports.parse().unwrap(), Way::In, &scope).unwrap();
        assert_eq!(opened, firewall(after));
    }

    #[rstest]
    #[case(scope("", "eth1"))]
    #[case(scope("10.0.0.0/8", ""))]
    fn what_is_closed_for_everybody_is_not_opened_for_some(#[case] scope: Scope) {
        let mut closed = firewall(&["closed 80/tcp in"]);
        let error = closed.open("80/tcp".parse().unwrap(), Way::In, &scope).unwrap_err();
        assert_eq!(error.to_string(), "cannot open `80/tcp` in: `closed 80/tcp in` is wider than what is to be opened");
        assert_eq!(closed, firewall(&["closed 80/tcp in"]));
    }

    #[test]
    fn the_last_word_on_the_same_ports_counts() {
        let mut firewall = firewall(&["closed 80/tcp in", "closed 80/tcp in through eth1"]);
        firewall.close("rejected 80/tcp in".parse().unwrap());
        firewall.close("rejected 80/tcp in".parse().unwrap());
        let closed: Vec<_> = firewall.closed().iter().map(ToString::to_string).collect();
        assert_eq!(closed, ["rejected 80/tcp in", "closed 80/tcp in through eth1"]);
    }
}
