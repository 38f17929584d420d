//! Whether the target of a flow was alive when the flow did not get through: a dead server is as silent as a denied
//! one, and a port without its server refuses as a policy may.
//!
//! Together with the flow, each target is asked from inside its own network namespace, which no policy can deny. It
//! must not judge the flow.

use std::collections::BTreeMap;

use cknet_probe::wire::{Expect, Observation, Sight, Target};

use crate::run::stage::{Stage, vantage_of};
use crate::scenario::model::{PortProto, Protocol};
use crate::vantage::Question;

/// The questions that go along with flows, and whom they are about.
#[derive(Default)]
pub struct Witnesses {
    asked: BTreeMap<(String, PortProto), Question>,
}

impl Witnesses {
    /// Adds the workloads with these identities: every port of the protocol on which they listen.
    ///
    /// Workloads in their node's network are left out: the node's firewall is theirs too, and may well close the port.
    pub fn add(&mut self, stage: &Stage<'_>, identities: &[String], protocol: Protocol) {
        for (name, pod) in &stage.placed.pods {
            let identity = format!("{}/{name}", pod.namespace);
            if pod.host_network || !identities.contains(&identity) {
                continue;
            }
            for port in pod.listen.iter().filter(|port| port.protocol == protocol) {
                let address = (pod.address, port.port.get()).into();
                let target = match protocol {
                    Protocol::Tcp => Target::Tcp { address, expect: Expect::Echo },
                    Protocol::Udp => Target::Udp { address, payload: 0 },
                    Protocol::Sctp => Target::Sctp { address, expect: Expect::Echo },
                };
                let question = Question { from: vantage_of(pod), target };
                self.asked.insert((identity.clone(), *port), question);
            }
        }
    }

    pub fn questions(&self) -> impl Iterator<Item = Question> {
        self.asked.values().cloned()
    }

    /// What speaks against a denial by one of these identities, given what was seen of the questions.
    pub fn doubt(&self, identities: &[String], seen: &[Observation]) -> Result<(), String> {
        let dead = self
            .asked
            .keys()
            .zip(seen)
            .find(|((identity, _), seen)| identities.contains(identity) && seen.sight != Sight::Answered);
        match dead {
            None => Ok(()),
            Some(((identity, port), seen)) => Err(format!(
                "`{identity}` does not answer itself on {port} ({:?}), so that it is not reached proves nothing",
                seen.sight
            )),
        }
    }
}
