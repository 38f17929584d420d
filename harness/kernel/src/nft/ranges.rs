//! Sets of addresses as ordered, disjoint ranges: the sum and the difference of address blocks.
//!
//! Pure arithmetic; knows no packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Addresses of one IP version as ranges that neither overlap nor touch, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRanges {
    ranges: Vec<(IpAddr, IpAddr)>,
}

impl AddressRanges {
    /// All addresses of `blocks`. Blocks of the other IP version than the first one are left out.
    pub fn of(blocks: impl IntoIterator<Item = IpNet>) -> Self {
        let mut version = None;
        let mut numbers: Vec<_> = blocks
            .into_iter()
            .filter(|block| *version.get_or_insert(block.addr().is_ipv4()) == block.addr().is_ipv4())
            .map(|block| (number(block.network()), number(block.broadcast())))
            .collect();
        numbers.sort_unstable();
        Self::from_numbers(merged(numbers), version.unwrap_or(true))
    }

    /// The addresses of `block` that are in none of `except`.
    pub fn difference(block: IpNet, except: impl IntoIterator<Item = IpNet>) -> Self {
        let v4 = block.addr().is_ipv4();
        let mut left = vec![(number(block.network()), number(block.broadcast()))];
        for hole in except.into_iter().filter(|hole| hole.addr().is_ipv4() == v4) {
            let (from, to) = (number(hole.network()), number(hole.broadcast()));
            left = left.into_iter().flat_map(|range| without(range, from, to)).flatten().collect();
        }
        Self::from_numbers(left, v4)
    }

    /// The ranges, first and last address included.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        self.ranges.iter().copied()
    }

    /// No address at all.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether `address` is in one of the ranges.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|(from, to)| *from <= address && address <= *to)
    }

    fn from_numbers(numbers: Vec<(u128, u128)>, v4: bool) -> Self {
        let address = |number: u128| -> IpAddr {
            if v4 { Ipv4Addr::from_bits(number as u32).into() } else { Ipv6Addr::from_bits(number).into() }
        };
        Self { ranges: numbers.into_iter().map(|(from, to)| (address(from), address(to))).collect() }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// What is left of a range without the addresses from `from` to `to`: nothing, one piece or two.
fn without(range: (u128, u128), from: u128, to: u128) -> [Option<(u128, u128)>; 2] {
    let (first, last) = range;
    if to < first || last < from {
        return [Some(range), None];
    }
    let before = (first < from).then(|| (first, from - 1));
    let after = (to < last).then(|| (to + 1, last));
    [before, after]
}

/// Joins ranges (in order) that overlap or touch.
fn merged(numbers: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    let mut joined: Vec<(u128, u128)> = Vec::with_capacity(numbers.len());
    for (from, to) in numbers {
        match joined.last_mut() {
            Some((_, last)) if from <= last.saturating_add(1) => *last = (*last).max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    fn nets(text: &str) -> Vec<IpNet> {
        text.split_whitespace().map(|net| net.parse().unwrap()).collect()
    }

    fn shown(ranges: &AddressRanges) -> String {
        ranges.iter().map(|(from, to)| format!("{from}-{to}")).collect::<Vec<_>>().join(" ")
    }

    #[rstest]
    #[case("10.0.0.0/8", "", "10.0.0.0-10.255.255.255")]
    #[case("10.0.0.0/8", "10.1.0.0/16", "10.0.0.0-10.0.255.255 10.2.0.0-10.255.255.255")]
    #[case("10.0.0.0/8", "10.0.0.0/9 10.128.0.0/9", "")]
    #[case("10.0.0.0/8", "0.0.0.0/0", "")]
    #[case("10.0.0.0/30", "10.0.0.0/32 10.0.0.3/32", "10.0.0.1-10.0.0.2")]
    #[case("0.0.0.0/0", "255.255.255.255/32", "0.0.0.0-255.255.255.254")]
    #[case("10.0.0.0/8", "fd00::/8 192.168.0.0/16", "10.0.0.0-10.255.255.255")]
    #[case("::/0", "8000::/1", "::-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]
    fn differences(#[case] block: &str, #[case] except: &str, #[case] left: &str) {
        assert_eq!(shown(&AddressRanges::difference(block.parse().unwrap(), nets(except))), left);
    }

    #[rstest]
    #[case("10.0.0.0/25 10.0.0.128/25", "10.0.0.0-10.0.0.255")]
    #[case("10.0.1.0/24 10.0.0.0/16 10.2.0.0/16", "10.0.0.0-10.0.255.255 10.2.0.0-10.2.255.255")]
    #[case("::/0 8000::/1", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]
    fn sums(#[case] blocks: &str, #[case] all: &str) {
        assert_eq!(shown(&AddressRanges::of(nets(blocks))), all);
    }
}
