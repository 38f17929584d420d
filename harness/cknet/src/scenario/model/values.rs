//! Owns the small values of a scenario file: blocks of addresses, times, selectors, days.
//! Must not know where they are used.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::super::late::{Late, Text};
use super::super::read::{FromText, Read, Reading, read_text, text};
use super::super::tree::Node;

/// A block of addresses, without bits behind the prefix.
#[derive(serde::Serialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(IpNet);

impl Cidr {
    /// The block that a network is; bits behind its prefix are none of its own.
    #[must_use]
    pub fn of(network: IpNet) -> Self {
        Self(network.trunc())
    }

    /// The block.
    #[must_use]
    pub const fn net(self) -> IpNet {
        self.0
    }

    /// Whether the address is in the block.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether the two blocks share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.0.contains(&other.0.network()) || other.0.contains(&self.0.network())
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text!(Cidr, "Cidr", "a CIDR, like `10.1.0.0/16`",
pattern r"^([0-9a-fA-F.:]+/[0-9]{1,3}|\$\{.+\})$",
parse |text: &str| {
    let net: IpNet = text.parse().map_err(|_| match text.parse::<IpAddr>() {
        Ok(_) => format!("`{text}` has no prefix length; write a CIDR, like `10.1.0.0/16`"),
        Err(_) => format!("`{text}` is not a CIDR; write it like `10.1.0.0/16`"),
    })?;
    if net != net.trunc() {
        return Err(format!("`{text}` has bits behind its prefix; the block is `{}`", net.trunc()));
    }
    Ok(Self(net))
});

/// One address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub IpAddr);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text!(Address, "Address", "an IP address",
    pattern r"^([0-9a-fA-F.:]+|\$\{.+\})$",
    parse |text: &str| text.parse().map(Self).map_err(|_| format!("`{text}` is not an IP address")));

/// A time to wait: more than nothing, at most 30 minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wait(Duration);

/// Longer waits are slips of the pen.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 60);

impl Wait {
    /// How long.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            _ if millis.is_multiple_of(60_000) => write!(f, "{}m", millis / 60_000),
            _ if millis.is_multiple_of(1000) => write!(f, "{}s", millis / 1000),
            _ => write!(f, "{millis}ms"),
        }
    }
}

fn wait(text: &str) -> Result<Wait, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || format!("`{text}` is not a time; write it like `20s`, `500ms` or `2m`");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    if number == 0 {
        return Err("waits for nothing; leave it out to judge once, or write a time, like `20s`".to_owned());
    }
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "" => {
            return Err(format!("`{text}` has no unit; write `{text}s` or `{text}ms`"));
        }
        _ => return Err(wrong()),
    };
    millis
        .map(Duration::from_millis)
        .filter(|wait| *wait <= LONGEST_WAIT)
        .map(Wait)
        .ok_or_else(|| format!("`{text}` is longer than 30 minutes, the most there is"))
}

text!(Wait, "Wait", "a time, like `20s`, `500ms` or `2m`",
    pattern r"^[1-9][0-9]*(ms|s|m)$",
    parse wait);

/// A label selector in Kubernetes' own writing, equality only: `k8s-app=calico-node,tier=net`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(String);

impl Selector {
    /// The selector as the API takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

text!(Selector, "Selector", "a label selector, like `app=web,tier=front`",
pattern r"^([^=,\s]+=[^=,\s]*(,[^=,\s]+=[^=,\s]*)*|\$\{.+\})$",
parse |text: &str| {
    let good = text.split(',').all(|part| {
        part.split_once('=').is_some_and(|(key, value)| {
            !key.is_empty() && !part.contains(char::is_whitespace) && !value.contains('=')
        })
    });
    if good {
        Ok(Self(text.to_owned()))
    } else {
        Err(format!("`{text}` is not a selector; write it like `app=web,tier=front`"))
    }
});

/// A calendar day, `2027-03-31`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub jiff::civil::Date);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text!(Day, "Day", "a day, like `2027-03-31`",
    pattern r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    parse |text: &str| text.parse().map(Self).map_err(|_| format!("`{text}` is not a day; write it like `2027-03-31`")));

impl<T: FromText> Read for Late<T> {
    fn read(node: &Node, r: &mut Reading<'_>) -> Option<Self> {
        let text = r.text(node, T::WANTED)?;
        if text.fixed().is_none() {
            return Some(Self::AtRun(text));
        }
        read_text(node, r).map(Self::Known)
    }
}

impl schemars::JsonSchema for Text {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A text; `${...}` in it refers to a declared thing",
            "type": ["string", "number", "boolean"],
        })
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for Late<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Late{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let known = generator.subschema_for::<T>();
        schemars::json_schema!({
            "anyOf": [known, { "type": "string", "pattern": r"\$\{.+\}" }],
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("20s", 20_000)]
    #[case("500ms", 500)]
    #[case("2m", 120_000)]
    fn times_have_units(#[case] text: &str, #[case] millis: u64) {
        let wait: Wait = text.parse().unwrap();
        assert_eq!(wait.duration(), Duration::from_millis(millis));
        assert_eq!(wait.to_string(), text);
    }

    #[rstest]
    #[case("0", "waits for nothing")]
    #[case("0s", "waits for nothing")]
    #[case("20", "has no unit")]
    #[case("s", "not a time")]
    #[case("1h", "not a time")]
    #[case("31m", "longer than 30 minutes")]
    #[case("99999999999999999999s", "not a time")]
    #[case("18446744073709551615m", "longer than 30 minutes")]
    fn other_times_are_refused(#[case] text: &str, #[case] why: &str) {
        let wrong = text.parse::<Wait>().unwrap_err().to_string();
        assert!(wrong.contains(why), "{wrong}");
    }

    #[test]
    fn blocks_have_no_bits_behind_the_prefix() {
        let wrong = "10.1.0.5/16".parse::<Cidr>().unwrap_err().to_string();
        assert!(wrong.contains("`10.1.0.0/16`"), "{wrong}");
        let a: Cidr = "10.1.0.0/16".parse().unwrap();
        assert!(a.overlaps("10.0.0.0/8".parse().unwrap()));
        assert!(a.overlaps("10.1.2.0/24".parse().unwrap()));
        assert!(!a.overlaps("10.2.0.0/16".parse().unwrap()));
        assert!(!a.overlaps("fd00::/8".parse().unwrap()));
    }
}
