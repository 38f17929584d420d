//! Owns the sharing out of scenarios among machines: which share a scenario belongs to, by its id alone.
//!
//! Pure, and the same for ever: a scenario stays in its share when others come and go, so that the times and histories
//! of a share can be compared from night to night.

use std::fmt;
use std::str::FromStr;

use crate::scenario::Scenario;

/// Largest number of shares; GitHub starts at most so many jobs from one matrix.
pub const MOST: u32 = 256;

/// One share of several: `hash:2/3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// From 1.
    index: u32,
    count: u32,
}

impl Partition {
    /// All shares of so many.
    pub fn all(count: u32) -> impl Iterator<Item = Self> {
        (1..=count).map(move |index| Self { index, count })
    }

    /// Whether the scenario belongs to this share.
    pub fn takes(self, scenario: &Scenario) -> bool {
        self.takes_id(scenario.id().as_str())
    }

    fn takes_id(self, id: &str) -> bool {
        hash(id) % u64::from(self.count) == u64::from(self.index - 1)
    }

    /// `2/3`, for people.
    pub fn fraction(self) -> String {
        format!("{}/{}", self.index, self.count)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hash:{}/{}", self.index, self.count)
    }
}

impl FromStr for Partition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a share; write hash:1/3 for the first of three");
        let (index, count) = text.strip_prefix("hash:").and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
        let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
        let (index, count) = (number(index)?, number(count)?);
        if !(1..=MOST).contains(&count) {
            return Err(format!("`{text}`: there can be 1 to {MOST} shares"));
        }
        if !(1..=count).contains(&index) {
            return Err(format!("`{text}`: shares are counted from 1 to {count}"));
        }
        Ok(Self { index, count })
    }
}

/// FNV-1a of 64 bits, with SplitMix64's last step, since the low bits of FNV alone are poor.
fn hash(text: &str) -> u64 {
    let mut mixed = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn every_id_is_in_exactly_one_share_and_no_share_is_far_from_its_part() {
        let ids: Vec<String> = (0..1000).map(|number| format!("area{}.name-{number}", number % 7)).collect();
        for count in [1, 2, 3, 7, 64] {
            let takes: Vec<usize> =
                Partition::all(count).map(|share| ids.iter().filter(|id| share.takes_id(id)).count()).collect();
            assert_eq!(takes.iter().sum::<usize>(), ids.len());
            let fair = ids.len() / count as usize;
            assert!(takes.iter().all(|taken| *taken < 2 * fair + 10), "{count}: {takes:?}");
        }
    }

    /// A share that moves would mix up the histories of all shares.
    #[test]
    fn shares_stay_what_they_are() {
        let share = |id| Partition::all(4).find(|share| share.takes_id(id)).unwrap().to_string();
        assert_eq!(share("policy.deny-all-ingress"), "hash:4/4");
        assert_eq!(share("firewall.vxlan-port-blocked"), "hash:1/4");
    }

    #[test]
    fn what_is_no_share_is_refused_with_the_reason() {
        let refused = |text: &str| text.parse::<Partition>().unwrap_err();
        assert_eq!("hash:2/3".parse::<Partition>().unwrap().to_string(), "hash:2/3");
        assert_eq!(refused("1/3"), "`1/3` is not a share; write hash:1/3 for the first of three");
        assert_eq!(refused("hash:0/3"), "`hash:0/3`: shares are counted from 1 to 3");
        assert_eq!(refused("hash:4/3"), "`hash:4/3`: shares are counted from 1 to 3");
        assert_eq!(refused("hash:1/0"), "`hash:1/0`: there can be 1 to 256 shares");
    }
}
