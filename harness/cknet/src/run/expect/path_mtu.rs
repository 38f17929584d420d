//! The expectation `pathMtu`: the largest packet that passes whole, found with echo requests that must not be cut into
//! fragments.

use std::net::IpAddr;

use cknet_probe::wire::{Sight, Target};

use super::Looked;
use super::flows::{ask, vantage};
use crate::judge::{Look, Seen};
use crate::run::stage::Stage;
use crate::scenario::model::{Beyond, Endpoint, PathMtu};
use crate::vantage::{Question, Vantage};

/// Headers of an echo request over IPv4: 20 bytes of IP (RFC 791), 8 of ICMP (RFC 792).
const HEADERS: u16 = 28;

/// The largest packet of IPv4.
const LARGEST: u16 = u16::MAX;

/// Sizes that are asked for at once when the largest one is searched.
const AT_ONCE: u16 = 32;

pub async fn look(stage: &Stage<'_>, expected: &PathMtu) -> Looked {
    let path = Path { stage, from: vantage(stage, &expected.from)?, to: address(stage, &expected.to)? };
    let wanted = expected.is.get();
    let sizes: Vec<u16> = [Some(wanted), wanted.checked_add(1)].into_iter().flatten().collect();
    let seen = path.send(&sizes).await?;
    let fits = passes(&seen[0])?;
    let more = seen.get(1).map(passes).transpose()?.unwrap_or(false);
    if fits && !more {
        return Ok(beyond(expected, seen.get(1)));
    }
    let (passing, failing) = if fits { (wanted, LARGEST) } else { (0, wanted) };
    let found = match path.search(passing, failing).await? {
        0 => "nothing passes".to_string(),
        bytes => format!("{bytes} bytes pass, not more"),
    };
    Ok(Look::Refuted(Seen::word(found)))
}

/// Whether larger packets end as is expected.
fn beyond(expected: &PathMtu, seen: Option<&Sight>) -> Look {
    let shown = match seen {
        Some(Sight::Silent) => "larger ones vanish".to_string(),
        Some(Sight::IcmpError { from: Some(from), .. }) => format!("larger ones are refused by {from}"),
        _ => "larger ones are refused by the sender's own kernel".to_string(),
    };
    let silent = matches!(seen, Some(Sight::Silent));
    match expected.larger {
        Some(Beyond::Silent) if !silent => Look::Refuted(Seen::word(shown)),
        Some(Beyond::Reported) if silent => Look::Refuted(Seen::word(shown)),
        _ => Look::Holds(format!("{} bytes pass; {shown}", expected.is)),
    }
}

struct Path<'a> {
    stage: &'a Stage<'a>,
    from: Vantage,
    to: IpAddr,
}

/// One echo request of so many bytes with its headers, which must not be cut.
pub(super) fn question(stage: &Stage<'_>, from: &Endpoint, to: &Endpoint, bytes: u16) -> Result<Question, String> {
    let target = Target::Icmp { address: address(stage, to)?, payload: bytes.saturating_sub(HEADERS), whole: true };
    Ok(Question { from: vantage(stage, from)?, target })
}

impl Path<'_> {
    /// Sends one packet of each size, all at the same time.
    async fn send(&self, sizes: &[u16]) -> Result<Vec<Sight>, String> {
        let question = |size: &u16| {
            let target = Target::Icmp { address: self.to, payload: size.saturating_sub(HEADERS), whole: true };
            Question { from: self.from.clone(), target }
        };
        let seen = ask(self.stage, sizes.iter().map(question).collect()).await?;
        Ok(seen.into_iter().map(|observation| observation.sight).collect())
    }

    /// The largest size that passes, given one that does (0 when none is known) and one that does not.
    async fn search(&self, mut passing: u16, mut failing: u16) -> Result<u16, String> {
        while failing - passing > 1 {
            let sizes = between(passing, failing);
            for (size, seen) in sizes.iter().zip(self.send(&sizes).await?) {
                match passes(&seen)? {
                    true => passing = passing.max(*size),
                    false => failing = failing.min(*size),
                }
            }
            // A packet lost for another reason lets a larger one look as if it passed where a smaller one did not.
            failing = failing.max(passing.saturating_add(1));
        }
        Ok(passing)
    }
}

/// Sizes that divide the room between two evenly.
fn between(passing: u16, failing: u16) -> Vec<u16> {
    let step = (failing - passing).div_ceil(AT_ONCE).max(1);
    (1..AT_ONCE).map_while(|number| passing.checked_add(step * number).filter(|size| *size < failing)).collect()
}

fn passes(seen: &Sight) -> Result<bool, String> {
    match seen {
        Sight::Answered => Ok(true),
        Sight::Inconclusive { detail, .. } => Err(detail.clone()),
        _ => Ok(false),
    }
}

pub(super) fn address(stage: &Stage<'_>, to: &Endpoint) -> Result<IpAddr, String> {
    match to {
        Endpoint::Workload(name) => {
            let pod = stage.placed.pods.get(name).ok_or_else(|| format!("workload `{name}` does not run"))?;
            Ok(pod.address)
        }
        Endpoint::Node(name) => {
            let address = stage.scenario.topology.address(name).ok_or_else(|| format!("no node `{name}`"))?;
            Ok(address)
        }
        Endpoint::Address(address) => Ok(*address),
        Endpoint::Service(_) => Err(format!("`{to}` answers no echo request")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sizes_lie_between_and_narrow_down(passing in 0..u16::MAX - 1, room in 2..u16::MAX) {
            let failing = passing.saturating_add(room).max(passing + 2);
            let sizes = between(passing, failing);
            prop_assert!(!sizes.is_empty() && sizes.len() < usize::from(AT_ONCE));
            prop_assert!(sizes.iter().all(|size| passing < *size && *size < failing));
            let last = sizes[sizes.len() - 1];
            prop_assert!(failing - last <= (failing - passing).div_ceil(AT_ONCE).max(1));
        }
    }
}
