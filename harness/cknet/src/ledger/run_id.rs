//! Owns the form of a run id: `r`, six digits of time, three of chance, in base 32. It is a DNS label, short
//! enough to be part of a device name (15 characters), and sorts by the time of the run.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Crockford's base 32, which has no letter that looks like a digit; in the order of ASCII, so that text sorts
/// as numbers do.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const TIME_DIGITS: u32 = 6;
const CHANCE_DIGITS: u32 = 3;
const LENGTH: usize = 1 + (TIME_DIGITS + CHANCE_DIGITS) as usize;
/// 2024-01-01T00:00:00Z. Six digits from there last until 2058.
const EPOCH: i64 = 1_704_067_200;

/// The name of a run, carried by everything that the run makes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

/// The text is not a run id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a run id: `r` and nine of `0-9a-z` without `i`, `l`, `o`, `u`")]
pub struct InvalidRunId(pub String);

impl RunId {
    /// The id of a run that starts at `at`; `chance` (15 bits are used) tells apart runs of the same second.
    pub fn new(at: Timestamp, chance: u16) -> Self {
        let seconds = (at.as_second() - EPOCH).clamp(0, 32_i64.pow(TIME_DIGITS) - 1);
        let mut text = String::with_capacity(LENGTH);
        text.push('r');
        push_digits(&mut text, seconds.unsigned_abs(), TIME_DIGITS);
        push_digits(&mut text, u64::from(chance), CHANCE_DIGITS);
        Self(text)
    }

    /// The second in which the run started.
    pub fn started_at(&self) -> Timestamp {
        let digits = &self.0.as_bytes()[1..=TIME_DIGITS as usize];
        let seconds = digits.iter().fold(0, |sum, digit| sum * 32 + digit_value(*digit).unwrap_or(0));
        Timestamp::from_second(EPOCH + seconds).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn push_digits(text: &mut String, value: u64, count: u32) {
    for place in (0..count).rev() {
        let digit = (value >> (5 * place)) & 31;
        text.push(char::from(DIGITS[digit as usize]));
    }
}

fn digit_value(digit: u8) -> Option<i64> {
    DIGITS.iter().position(|candidate| *candidate == digit).and_then(|place| i64::try_from(place).ok())
}

impl FromStr for RunId {
    type Err = InvalidRunId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.len() == LENGTH
            && text.starts_with('r')
            && text.bytes().skip(1).all(|digit| digit_value(digit).is_some());
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidRunId(text.to_owned())) }
    }
}

impl TryFrom<String> for RunId {
    type Error = InvalidRunId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    proptest! {
        #[test]
        fn is_a_short_label_and_reads_back(second in EPOCH..EPOCH + 32_i64.pow(6), chance: u16) {
            let id = RunId::new(at(second), chance);
            prop_assert_eq!(id.as_str().len(), 10);
            prop_assert!(id.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
            prop_assert_eq!(id.started_at(), at(second));
            prop_assert_eq!(&id.to_string().parse::<RunId>().unwrap(), &id);
        }

        #[test]
        fn sorts_by_time(a in EPOCH..EPOCH + 32_i64.pow(6), b in EPOCH..EPOCH + 32_i64.pow(6), ca: u16, cb: u16) {
            prop_assume!(a != b);
            let order = RunId::new(at(a), ca).as_str().cmp(RunId::new(at(b), cb).as_str());
            prop_assert_eq!(order, a.cmp(&b));
        }
    }

    #[test]
    fn refuses_what_it_did_not_make() {
        for text in ["", "r", "x000000000", "r00000000", "r0000000000", "r00000000i", "r00000/../", "R000000000"] {
            assert_eq!(text.parse::<RunId>(), Err(InvalidRunId(text.into())));
        }
    }
}
