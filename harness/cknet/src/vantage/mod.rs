//! Where probes leave from and how they are asked for: one agent per node, all questions of a moment in one batch.
//!
//! The agents are reached through the Node seam, never over the network under test. Everybody who asks at the same
//! time shares one batch per node and so one deadline for silence.

mod agent;
mod tap;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cknet_probe::wire::{Line, Observation, Target};

use self::agent::Agent;
pub use self::tap::Taps;
use crate::provider::Nodes;

/// Shortest deadline for silence; a TCP probe that waits less than 1 s is exactly one SYN.
const SHORTEST: Duration = Duration::from_millis(50);

/// Longest deadline for silence, and the one used until the network has been measured.
const LONGEST: Duration = Duration::from_millis(400);

/// Shortest wait for a word on a connection: the kernel repeats a lost one after 200 ms at the earliest (tcp(7)).
const WORD: Duration = Duration::from_millis(250);

/// How often a path is measured.
const CALIBRATIONS: usize = 3;

/// So many paths are measured at once, lest they wait for each other.
const FEW: usize = 16;

/// A place from which probes leave.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vantage {
    pub node: String,
    pub place: Place,
}

/// Whose network namespace it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// The node's own.
    Node,
    /// A pod's, by its uid.
    Pod { uid: String },
}

impl Place {
    /// The word for the namespace on the node.
    pub fn netns(&self) -> String {
        match self {
            Self::Node => "self".into(),
            Self::Pod { uid } => cknet_probe::netns::of_sandbox(uid),
        }
    }
}

/// One probe to be sent.
#[derive(Clone, Debug)]
pub struct Question {
    pub from: Vantage,
    pub target: Target,
}

/// Probes could not be sent at all; this says nothing about the network.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("no node is called `{0}`")]
    NoNode(String),
    #[error("the probe agent of node `{node}` {what}")]
    Agent { node: String, what: String },
    #[error("the tap on node `{node}` {what}")]
    Tap { node: String, what: String },
}

/// Sends probes from all nodes of a cluster.
pub struct Prober {
    nodes: Nodes,
    agents: Mutex<HashMap<String, Agent>>,
    quiet_us: AtomicU64,
}

impl Prober {
    pub fn new(nodes: Nodes) -> Self {
        let quiet_us = AtomicU64::new(u64::try_from(LONGEST.as_micros()).unwrap_or(u64::MAX));
        Self { nodes, agents: Mutex::default(), quiet_us }
    }

    /// Starts the agents of all nodes, so that the first questions need not wait for them.
    pub fn prepare(&self) {
        for node in self.nodes.by_name.keys() {
            // One that cannot be started says so when it is asked.
            let _ = self.agent(node);
        }
    }

    /// Sends all questions at once and returns what was seen of each, in their order.
    pub async fn ask(&self, questions: &[Question]) -> Result<Vec<Observation>, ProbeError> {
        let mut by_node: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, question) in questions.iter().enumerate() {
            by_node.entry(&question.from.node).or_default().push(index);
        }
        let asked = by_node.into_iter().map(|(node, indices)| async move {
            let own = indices.iter().map(|index| questions[*index].clone()).collect();
            let seen = self.agent(node)?.ask(own, self.quiet()).await?;
            Ok::<_, ProbeError>((indices, seen))
        });
        let mut all: Vec<Option<Observation>> = vec![None; questions.len()];
        for (indices, seen) in futures::future::try_join_all(asked).await? {
            for (index, observation) in indices.into_iter().zip(seen) {
                all[index] = Some(observation);
            }
        }
        let missing = || ProbeError::Agent { node: "?".into(), what: "left questions unanswered".into() };
        all.into_iter().map(|observation| observation.ok_or_else(missing)).collect()
    }

    /// Opens a connection that stays open, and exchanges a first word over it.
    pub async fn hold(&self, name: &str, from: &Vantage, address: SocketAddr) -> Result<Line, ProbeError> {
        self.agent(&from.node)?.hold(name, from, address, self.quiet().max(WORD)).await
    }

    /// Sends a word over a connection that was opened from this place.
    pub async fn exchange(&self, name: &str, from: &Vantage) -> Result<Line, ProbeError> {
        self.agent(&from.node)?.exchange(name, self.quiet().max(WORD)).await
    }

    /// Closes all connections that agents hold; those of an agent that has ended are closed already.
    pub async fn release(&self) -> Result<(), ProbeError> {
        let agents: Vec<Agent> = {
            let agents = self.agents.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            agents.values().filter(|agent| agent.lives()).cloned().collect()
        };
        futures::future::try_join_all(agents.iter().map(Agent::release)).await.map(|_| ())
    }

    /// The deadline for silence in force.
    pub fn quiet(&self) -> Duration {
        Duration::from_micros(self.quiet_us.load(Ordering::Relaxed))
    }

    /// Sets the deadline for silence to ten times the slowest path's answer, within its bounds.
    ///
    /// To be called when all `questions` are answered. A path is measured by one of them, and its time is that of the
    /// fastest of a few answers: what others waited for is other probes, and while those are answered the deadline
    /// begins anew with each packet that comes back.
    pub async fn calibrate(&self, questions: &[Question]) -> Result<(), ProbeError> {
        let path = |question: &Question| (question.from.node.clone(), question.target.ip());
        let paths: BTreeMap<_, _> = questions.iter().map(|question| (path(question), question.clone())).collect();
        let chosen: Vec<Question> = paths.into_values().collect();
        let mut fastest: Vec<Option<u64>> = vec![None; chosen.len()];
        for _ in 0..CALIBRATIONS {
            for (chosen, fastest) in chosen.chunks(FEW).zip(fastest.chunks_mut(FEW)) {
                for (fastest, seen) in fastest.iter_mut().zip(self.ask(chosen).await?) {
                    *fastest = [*fastest, seen.rtt_us].into_iter().flatten().min();
                }
            }
        }
        if let Some(slowest) = fastest.into_iter().flatten().max() {
            let quiet = Duration::from_micros(slowest.saturating_mul(10)).clamp(SHORTEST, LONGEST);
            self.quiet_us.store(u64::try_from(quiet.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        Ok(())
    }

    fn agent(&self, node: &str) -> Result<Agent, ProbeError> {
        let mut agents = self.agents.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(agent) = agents.get(node).filter(|agent| agent.lives()) {
            return Ok(agent.clone());
        }
        let machine = self.nodes.get(node).ok_or_else(|| ProbeError::NoNode(node.to_string()))?;
        let agent = Agent::start(machine.clone());
        agents.insert(node.to_string(), agent.clone());
        Ok(agent)
    }
}
