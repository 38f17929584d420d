//! Expectation and observation make a verdict. Pure: no clock, no network, no Kubernetes.
//!
//! Inconclusive is not denied: a probe that never left, an agent that died or an answer of somebody else refutes or
//! confirms nothing.

mod partial;
mod verdict;

use cknet_probe::wire::{Observation, Sight};

pub use self::partial::mismatch;
pub use self::verdict::{Judgement, Verdict, Watch};

use crate::scenario::model::Outcome;

/// What one look at the world says about an expectation.
#[derive(Clone, Debug, PartialEq)]
pub enum Look {
    /// It holds; what was seen, in a line.
    Holds(String),
    /// It does not hold.
    Refuted(Seen),
    /// Nothing can be said; why.
    Inconclusive(String),
}

/// What was seen where an expectation did not hold.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Seen {
    /// One word or a few, counted over all looks: `dropped`, `not Ready`.
    pub word: String,
    /// The whole table, where a matrix was probed.
    pub matrix: Option<crate::event::Matrix>,
}

impl Seen {
    pub fn word(word: impl Into<String>) -> Self {
        Self { word: word.into(), matrix: None }
    }
}

/// What became of a flow, or why that cannot be said.
///
/// A reset from a port on which the target listens was made by something on the way; from another port it is the
/// target's own.
pub fn outcome_of(observation: &Observation, target_listens: bool) -> Result<Outcome, String> {
    match &observation.sight {
        Sight::Answered => Ok(Outcome::Allowed),
        Sight::Silent => Ok(Outcome::Dropped),
        Sight::Refused if target_listens => Ok(Outcome::Rejected),
        Sight::Refused => Ok(Outcome::Closed),
        Sight::IcmpError { kind: DESTINATION_UNREACHABLE, code, .. } if ADMINISTRATIVE.contains(code) => {
            Ok(Outcome::Rejected)
        }
        Sight::IcmpError { .. } | Sight::Unreachable { .. } => Ok(Outcome::Unreachable),
        Sight::DnsFailed { reason } => Err(format!("the name was not resolved: {reason}")),
        Sight::Inconclusive { reason, detail } => Err(format!("{reason:?}: {detail}")),
    }
}

/// ICMP type 3 (RFC 792).
const DESTINATION_UNREACHABLE: u8 = 3;

/// Codes by which packet filters refuse: port unreachable, network, host or communication prohibited (RFC 1812).
const ADMINISTRATIVE: [u8; 4] = [3, 9, 10, 13];

/// Whether an outcome is what was expected. `denied` is met by silence and by a refusal.
pub fn meets(expected: Outcome, seen: Outcome) -> bool {
    match expected {
        Outcome::Denied => matches!(seen, Outcome::Dropped | Outcome::Rejected),
        expected => expected == seen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cknet_probe::wire::Doubt;
    use rstest::rstest;

    fn icmp(kind: u8, code: u8) -> Sight {
        Sight::IcmpError { kind, code, from: None }
    }

    #[rstest]
    #[case::echo(Sight::Answered, true, Some(Outcome::Allowed))]
    #[case::silence(Sight::Silent, true, Some(Outcome::Dropped))]
    #[case::reset_by_a_filter(Sight::Refused, true, Some(Outcome::Rejected))]
    #[case::reset_by_the_host(Sight::Refused, false, Some(Outcome::Closed))]
    #[case::administratively_prohibited(icmp(3, 13), true, Some(Outcome::Rejected))]
    #[case::host_unreachable(icmp(3, 1), true, Some(Outcome::Unreachable))]
    #[case::never_left(Sight::Inconclusive { reason: Doubt::NeverLeft, detail: String::new() }, true, None)]
    #[case::wrong_peer(Sight::Inconclusive { reason: Doubt::WrongPeer, detail: String::new() }, true, None)]
    fn sights_become_outcomes(#[case] sight: Sight, #[case] listens: bool, #[case] outcome: Option<Outcome>) {
        assert_eq!(outcome_of(&Observation::of(1, sight), listens).ok(), outcome);
    }

    #[rstest]
    #[case(Outcome::Denied, Outcome::Dropped, true)]
    #[case(Outcome::Denied, Outcome::Rejected, true)]
    #[case(Outcome::Denied, Outcome::Closed, false)]
    #[case(Outcome::Denied, Outcome::Unreachable, false)]
    #[case(Outcome::Dropped, Outcome::Rejected, false)]
    #[case(Outcome::Allowed, Outcome::Allowed, true)]
    fn only_silence_and_refusal_are_denials(#[case] expected: Outcome, #[case] seen: Outcome, #[case] met: bool) {
        assert_eq!(meets(expected, seen), met);
    }
}
