//! Owns how ports are written: alone, with their protocol, in a row.
//! Must not know who listens on them.

use std::fmt;

use super::super::read::{FromText, Read, Reading, read_text, text, words};
use super::super::tree::Node;

/// A port number, 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortNumber(std::num::NonZeroU16);

impl PortNumber {
    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for PortNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn port_number(text: &str) -> Result<PortNumber, String> {
    let wrong = || format!("`{text}` is not a port; ports are 1 to 65535");
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number: u16 = digits.then(|| text.parse().ok()).flatten().ok_or_else(wrong)?;
    std::num::NonZeroU16::new(number).map(PortNumber).ok_or_else(wrong)
}

impl FromText for PortNumber {
    const WANTED: &'static str = "a port from 1 to 65535";
    fn from_text(text: &str) -> Result<Self, String> {
        port_number(text)
    }
}

impl Read for PortNumber {
    fn read(node: &Node, r: &mut Reading<'_>) -> Option<Self> {
        read_text(node, r)
    }
}

impl schemars::JsonSchema for PortNumber {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PortNumber".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A port from 1 to 65535",
            "type": "integer",
            "minimum": 1,
            "maximum": 65535,
        })
    }
}

words! {
    "a protocol";
    /// A transport protocol.
    pub enum Protocol {
        /// TCP.
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
        /// SCTP.
        Sctp = "sctp",
    }
}

/// A port with its protocol, `8080/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortProto {
    /// The port.
    pub port: PortNumber,
    /// The protocol.
    pub protocol: Protocol,
}

impl PortProto {
    /// The UDP port of that number.
    #[must_use]
    pub const fn udp(port: PortNumber) -> Self {
        Self { port, protocol: Protocol::Udp }
    }
}

impl fmt::Display for PortProto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.port, self.protocol))
    }
}

fn split_protocol(text: &str) -> Result<(&str, Protocol), String> {
    let (ports, protocol) =
        text.split_once('/').ok_or_else(|| format!("`{text}` has no protocol; write it like `8080/tcp`"))?;
    let protocol = Protocol::from_word(protocol)
        .ok_or_else(|| format!("`{protocol}` is not a protocol; use `tcp`, `udp`, `sctp`"))?;
    Ok((ports, protocol))
}

text!(PortProto, "PortProto", "a port with its protocol, like `8080/tcp`",
pattern r"^([0-9]{1,5}|\$\{.+\})/(tcp|udp|sctp)$",
parse |text: &str| {
    let (port, protocol) = split_protocol(text)?;
    Ok(Self { port: port_number(port)?, protocol })
});

/// One or several ports in a row with their protocol, `30000-32767/tcp` or `4789/udp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// First port.
    pub first: PortNumber,
    /// Last port, not less than the first.
    pub last: PortNumber,
    /// The protocol.
    pub protocol: Protocol,
}

impl PortRange {
    /// Whether the port is one of these.
    #[must_use]
    pub fn contains(&self, port: PortProto) -> bool {
        port.protocol == self.protocol && (self.first..=self.last).contains(&port.port)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}/{}", self.first, self.protocol)
        } else {
            write!(f, "{}-{}/{}", self.first, self.last, self.protocol)
        }
    }
}

text!(PortRange, "PortRange", "a port or a range with its protocol, like `4789/udp` or `30000-32767/tcp`",
pattern r"^([0-9]{1,5}|\$\{.+\})(-[0-9]{1,5})?/(tcp|udp|sctp)$",
parse |text: &str| {
    let (ports, protocol) = split_protocol(text)?;
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let range = Self { first: port_number(first)?, last: port_number(last)?, protocol };
    if range.first > range.last {
        return Err(format!("`{ports}` ends before it begins"));
    }
    Ok(range)
});

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("0/tcp")]
    #[case("70000/tcp")]
    #[case("+80/tcp")]
    #[case("80")]
    #[case("80/TCP")]
    #[case("/tcp")]
    #[case("32767-30000/tcp")]
    fn ports_are_1_to_65535_with_a_protocol(#[case] text: &str) {
        assert!(text.parse::<PortRange>().is_err());
        assert!(text.parse::<PortProto>().is_err());
    }

    #[test]
    fn ranges_hold_their_ports() {
        let range: PortRange = "30000-32767/tcp".parse().unwrap();
        assert!(range.contains("30000/tcp".parse().unwrap()));
        assert!(!range.contains("30000/udp".parse().unwrap()));
        assert!(!range.contains("32768/tcp".parse().unwrap()));
        assert_eq!(range.to_string(), "30000-32767/tcp");
        assert_eq!("4789/udp".parse::<PortRange>().unwrap().to_string(), "4789/udp");
    }
}
