//! How what is closed is written and read: on the command line, and in the comments of rules, where the kernel keeps
//! it.

use std::fmt;
use std::str::FromStr;

use super::closure::{Action, Closure, Nic, Place, Ports, Protocol, Scope, Way};

/// A text that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct ParseError {
    pub text: String,
    pub expected: &'static str,
}

impl ParseError {
    pub(super) fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.into(), expected }
    }
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
        let error = || ParseError::new(text, "ports and protocol, such as `4789/udp` or `30000-32767/tcp`");
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

impl fmt::Display for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// For example `closed 4789/udp in from 10.0.0.0/8 through eth1`; [`FromStr`] reads it back.
impl fmt::Display for Closure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match self.action {
            Action::Drop => "closed",
            Action::Reject => "rejected",
        };
        write!(f, "{action} {} {}", self.ports, self.way)?;
        match (self.way, self.scope.far_end) {
            (_, None) => {}
            (Way::In, Some(far_end)) => write!(f, " from {far_end}")?,
            (Way::Out, Some(far_end)) => write!(f, " to {far_end}")?,
        }
        if let Some(nic) = &self.scope.nic {
            write!(f, " through {nic}")?;
        }
        match self.place {
            Place::Filter => Ok(()),
            Place::Early => f.write_str(" early"),
            Place::Forward => f.write_str(" forwarded"),
        }
    }
}

impl FromStr for Closure {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError::new(text, "a closure, such as `closed 4789/udp in`");
        let words: Vec<_> = text.split(' ').collect();
        let [action, ports, way, rest @ ..] = words.as_slice() else { return Err(error()) };
        let action = match *action {
            "closed" => Action::Drop,
            "rejected" => Action::Reject,
            _ => return Err(error()),
        };
        let way = match *way {
            "in" => Way::In,
            "out" => Way::Out,
            _ => return Err(error()),
        };
        let (far_end, rest) = match (way, rest) {
            (Way::In, ["from", block, rest @ ..]) | (Way::Out, ["to", block, rest @ ..]) => {
                (Some(block.parse().map_err(|_| error())?), rest)
            }
            _ => (None, rest),
        };
        let (nic, rest) = match rest {
            ["through", nic, rest @ ..] => (Some(Nic::new(nic)?), rest),
            rest => (None, rest),
        };
        let place = match (way, rest) {
            (_, []) => Place::Filter,
            (Way::In, ["early"]) => Place::Early,
            (Way::In, ["forwarded"]) => Place::Forward,
            _ => return Err(error()),
        };
        Ok(Self { ports: ports.parse()?, way, place, scope: Scope { far_end, nic }, action })
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
    #[case("rejected 179/tcp in")]
    #[case("closed 4789/udp in early")]
    #[case("closed 4789/udp in from 10.0.0.0/8 through eth0 forwarded")]
    #[case("closed 4789/udp out through eth1")]
    #[case("rejected 4789/udp in from 10.0.0.0/8 through vxlan.calico")]
    fn closures_are_read_as_written(#[case] text: &str) {
        assert_eq!(text.parse::<Closure>().unwrap().to_string(), text);
    }

    #[test]
    fn the_longest_closure_fits_into_a_comment() {
        let text = format!(
            "rejected 10000-65535/sctp in from {}/128 through {} forwarded",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "d".repeat(15)
        );
        assert_eq!(text.parse::<Closure>().unwrap().to_string(), text);
        assert!(text.len() <= 127, "{}", text.len());
    }

    #[rstest]
    #[case("closed 80/tcp in to 10.0.0.0/8")]
    #[case("closed 80/tcp out from 10.0.0.0/8")]
    #[case("closed 80/tcp in through eth*")]
    #[case("closed 80/tcp in through a-name-of-16-byt")]
    #[case("closed 80/tcp in through")]
    #[case("opened 80/tcp in")]
    #[case("closed 80/tcp out early")]
    #[case("closed 80/tcp in late")]
    #[case("closed 80/tcp")]
    fn these_are_no_closures(#[case] text: &str) {
        text.parse::<Closure>().unwrap_err();
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
}
