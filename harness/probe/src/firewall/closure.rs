//! What is closed: ports, in which direction, towards whom; as values and as text.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

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

/// The way of a packet, seen from the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// To the node, and through it to what its ports are translated to.
    In,
    /// From the node's own processes and tunnels.
    Out,
}

/// One closed way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Closure {
    pub ports: Ports,
    pub way: Way,
    /// Only packets whose far end is here: the source of what comes in, the destination of what goes out.
    pub far_end: Option<IpNet>,
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

    pub fn close(&mut self, closure: Closure) {
        *self = Self::new(self.closed.iter().copied().chain([closure]));
    }

    /// Takes away what is closed for these ports in this way, towards `far_end` or, without one, towards anybody;
    /// says whether there was anything.
    pub fn open(&mut self, ports: Ports, way: Way, far_end: Option<IpNet>) -> bool {
        let before = self.closed.len();
        self.closed.retain(|closure| {
            closure.ports != ports || closure.way != way || far_end.is_some_and(|_| closure.far_end != far_end)
        });
        self.closed.len() != before
    }
}

/// A text that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct ParseError {
    pub text: String,
    pub expected: &'static str,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.last) {
            (first, last) if first == last => write!(f, "{first}/{}", self.protocol),
            (first, last) => write!(f, "{first}-{last}/{}", self.protocol),
        }
    }
}

impl FromStr for Ports {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError {
            text: text.into(),
            expected: "ports and protocol, such as `4789/udp` or `30000-32767/tcp`",
        };
        let (numbers, protocol) = text.split_once('/').ok_or_else(error)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(error()),
        };
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let number = |text: &str| text.parse::<u16>().ok().filter(|number| *number != 0).ok_or_else(error);
        let (first, last) = (number(first)?, number(last)?);
        if first > last { Err(error()) } else { Ok(Self { first, last, protocol }) }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::In => "in",
            Self::Out => "out",
        })
    }
}

/// For example `closed 4789/udp in from 10.0.0.0/8`; [`FromStr`] reads it back.
impl fmt::Display for Closure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "closed {} {}", self.ports, self.way)?;
        match (self.way, self.far_end) {
            (_, None) => Ok(()),
            (Way::In, Some(far_end)) => write!(f, " from {far_end}"),
            (Way::Out, Some(far_end)) => write!(f, " to {far_end}"),
        }
    }
}

impl FromStr for Closure {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError { text: text.into(), expected: "a closure, such as `closed 4789/udp in`" };
        let words: Vec<_> = text.split(' ').collect();
        let (ports, way, far_end) = match words.as_slice() {
            ["closed", ports, way] => (ports, way, None),
            ["closed", ports, way @ "in", "from", far_end] | ["closed", ports, way @ "out", "to", far_end] => {
                (ports, way, Some(far_end.parse().map_err(|_| error())?))
            }
            _ => return Err(error()),
        };
        let way = match *way {
            "in" => Way::In,
            "out" => Way::Out,
            _ => return Err(error()),
        };
        Ok(Self { ports: ports.parse()?, way, far_end })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("closed 4789/udp in")]
    #[case("closed 30000-32767/tcp out")]
    #[case("closed 9/sctp in from 10.0.0.0/8")]
    #[case("closed 179/tcp out to fd00::/64")]
    fn closures_are_read_as_written(#[case] text: &str) {
        assert_eq!(text.parse::<Closure>().unwrap().to_string(), text);
    }

    #[rstest]
    #[case("4789")]
    #[case("4789/dccp")]
    #[case("2-1/tcp")]
    #[case("0/tcp")]
    #[case("65536/tcp")]
    #[case("-/tcp")]
    fn these_are_no_ports(#[case] text: &str) {
        let error = text.parse::<Ports>().unwrap_err();
        assert!(error.to_string().starts_with(&format!("`{text}` is not ports")), "{error}");
    }

    #[test]
    fn opening_takes_away_what_was_closed() {
        let closure = |text: &str| text.parse::<Closure>().unwrap();
        let (all, some) = (closure("closed 80/tcp in"), closure("closed 80/tcp in from 10.0.0.0/8"));
        let mut firewall = Firewall::new([some, all, all]);
        assert_eq!(firewall.closed().len(), 2);
        assert!(!firewall.open(all.ports, Way::Out, None));
        assert!(firewall.open(some.ports, Way::In, some.far_end));
        assert_eq!(firewall.closed(), [all]);
        firewall.close(some);
        assert!(firewall.open(all.ports, Way::In, None));
        assert!(firewall.closed().is_empty());
    }
}
