//! Carries steps out on nodes: the only part of a recipe that does something.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use ipnet::Ipv4Net;
use tokio::time::Instant;

use super::{Action, Failure, Stage, StageError, Step};
use crate::distribution::{ClusterSpec, DistributionError, Member, Tail};
use crate::provider::{Invocation, Node, NodeError, Nodes, Output};

/// How often is looked at what is awaited.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Longest single look.
const LOOK: Duration = Duration::from_secs(30);

/// How long a node may be out of reach while something is awaited: networks are set up meanwhile, and what leads to a
/// machine may break for that time; one that stays away longer is gone.
const OUT_OF_REACH: Duration = Duration::from_secs(60);

/// Something that is about to be done on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub stage: Stage,
    pub node: String,
    pub doing: String,
}

/// Is told of each step before it is done: an installation takes minutes.
pub type Tell = Arc<dyn Fn(&Told) + Send + Sync>;

/// For whom nothing is to be told.
pub fn silent() -> Tell {
    Arc::new(|_| {})
}

/// The nodes on which a recipe is carried out.
pub struct Site<'a> {
    pub distribution: &'static str,
    pub nodes: &'a Nodes,
    pub spec: &'a ClusterSpec,
    pub tell: &'a Tell,
    /// Commands whose output says why something went wrong.
    pub evidence: &'static [&'static str],
    /// What takes the product off a machine that goes on without it, lines for `sh`.
    pub undo: &'static [&'static str],
}

impl<'a> Site<'a> {
    pub fn node(&self, name: &str) -> Result<&'a dyn Node, DistributionError> {
        self.nodes.get(name).map(|node| &**node).ok_or_else(|| DistributionError::NoNode(name.into()))
    }

    /// The first control plane.
    pub fn first(&self) -> Result<&'a Member, DistributionError> {
        let name = &self.spec.control_plane;
        self.spec
            .members
            .iter()
            .find(|member| member.name == *name)
            .ok_or_else(|| DistributionError::NoNode(name.clone()))
    }

    /// All members but the first control plane.
    pub fn others(&self) -> impl Iterator<Item = &'a Member> {
        self.spec.members.iter().filter(|member| member.name != self.spec.control_plane)
    }

    /// The block of the segment from which a member's address is: on machines whose first NIC has the same address
    /// everywhere nothing else tells them apart.
    pub fn segment(&self, member: &Member) -> Result<Ipv4Net, DistributionError> {
        let node = self.node(&member.name)?;
        let own = node.addresses().values().find(|network| network.addr() == member.address);
        Ok(own.map_or_else(|| Ipv4Net::from(member.address), Ipv4Net::trunc))
    }

    /// The NIC that has a member's address, by its name; nothing where no NIC of the topology has it.
    pub fn nic(&self, member: &Member) -> Result<Option<&'a str>, DistributionError> {
        let nics = self.node(&member.name)?.addresses();
        Ok(nics.iter().find(|(_, network)| network.addr() == member.address).map(|(name, _)| name.as_str()))
    }

    /// The blocks of all segments on which members know each other.
    pub fn segments(&self) -> Result<BTreeSet<Ipv4Net>, DistributionError> {
        self.spec.members.iter().map(|member| self.segment(member)).collect()
    }

    /// Carries out the same kind of steps on all members at the same time.
    pub async fn everywhere<F>(&self, steps: F) -> Result<(), DistributionError>
    where
        F: Fn(&Member) -> Result<Vec<Step>, DistributionError>,
    {
        let each = self.spec.members.iter().map(|member| {
            let steps = steps(member);
            async move { self.all(&member.name, &steps?).await }
        });
        try_join_all(each).await.map(|_| ())
    }

    /// Carries out steps one after the other.
    pub async fn all(&self, node: &str, steps: &[Step]) -> Result<(), DistributionError> {
        for step in steps {
            self.step(node, step).await?;
        }
        Ok(())
    }

    /// Carries out one step; what a command printed is returned.
    pub async fn step(&self, node: &str, step: &Step) -> Result<String, DistributionError> {
        match self.attempt(node, step).await? {
            Ok(said) => Ok(said),
            Err(failure) => Err(self.failed(step.stage, node, failure).await),
        }
    }

    /// Carries out one step that may fail.
    pub async fn attempt(&self, name: &str, step: &Step) -> Result<Result<String, Failure>, DistributionError> {
        let node = self.node(name)?;
        if step.stage != Stage::Preflight {
            for line in self.undo.iter().chain(step.undo) {
                node.undo(line).await?;
            }
        }
        let doing = step.discreet(&step.action.to_string());
        (self.tell)(&Told { stage: step.stage, node: name.into(), doing });
        Ok(match &step.action {
            Action::Put { path, mode, content } => put(node, step, path, *mode, content.clone().into_bytes()).await,
            Action::Copy { from, to } => match tokio::fs::read(from).await {
                Ok(content) => put(node, step, to, 0o644, content).await,
                Err(cause) => Err(Failure::File { path: from.clone(), cause: cause.to_string() }),
            },
            Action::Bring { content, to } => put(node, step, to, 0o644, content.to_vec()).await,
            Action::Run(invocation) => match node.run(invocation.clone(), step.deadline).await {
                Ok(output) if output.succeeded() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
                Ok(output) => Err(refused(step, invocation, &output)),
                Err(error) => Err(Failure::Node(discreet(step, error))),
            },
        })
    }

    /// Asks again and again until the command ends with exit code 0; a node that is gone is not asked again.
    pub async fn await_success(
        &self,
        stage: Stage,
        node: &str,
        argv: &[&str],
        awaited: &str,
        deadline: Duration,
    ) -> Result<(), DistributionError> {
        let until = Instant::now() + deadline;
        let look = Step::run(stage, argv.iter().copied()).within(LOOK);
        (self.tell)(&Told { stage, node: node.into(), doing: format!("await: {awaited}") });
        let mut answered = Instant::now();
        loop {
            let last = match self.attempt(node, &look).await? {
                Ok(_) => return Ok(()),
                Err(gone @ Failure::Node(NodeError::Gone { .. })) => {
                    return Err(self.failed(stage, node, gone).await);
                }
                Err(failure) => {
                    let last = failure.to_string();
                    if !matches!(failure, Failure::Node(NodeError::Failed { .. })) {
                        answered = Instant::now();
                    } else if answered.elapsed() >= OUT_OF_REACH {
                        let failure = Failure::Lost { awaited: awaited.into(), silence: OUT_OF_REACH, last };
                        return Err(self.failed(stage, node, failure).await);
                    }
                    last
                }
            };
            if Instant::now() + LOOK_AGAIN > until {
                let failure = Failure::Awaited { awaited: awaited.into(), deadline, last };
                return Err(self.failed(stage, node, failure).await);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until the cluster knows a member; `kubectl` is what asks its API on the first control plane.
    pub async fn await_member(
        &self,
        stage: Stage,
        kubectl: &[&str],
        member: &Member,
        deadline: Duration,
    ) -> Result<(), DistributionError> {
        let look = [kubectl, &["get", "node", &member.name]].concat();
        let awaited = format!("node `{}` is registered", member.name);
        self.await_success(stage, &self.first()?.name, &look, &awaited, deadline).await
    }

    /// An error that has the node's own words beside it.
    pub async fn failed(&self, stage: Stage, node: &str, failure: Failure) -> DistributionError {
        let evidence = match &failure {
            // A node that does not answer has no more to say, and asking it would only take longer.
            Failure::Node(NodeError::Gone { .. }) | Failure::Lost { .. } | Failure::File { .. } => String::new(),
            _ => self.evidence_of(node, Tail::SHORT).await,
        };
        let (distribution, node) = (self.distribution, node.to_string());
        DistributionError::Stage(Box::new(StageError { distribution, stage, node, failure, evidence }))
    }

    /// The ends of a node's logs. All are asked for at the same time: a product in trouble is slow to say so, and what
    /// it has logged is there at once.
    pub async fn evidence_of(&self, name: &str, tail: Tail) -> String {
        let Some(node) = self.nodes.get(name) else { return String::new() };
        let said = self.evidence.iter().map(|command| async move {
            let run = node.run(Invocation::new(command.split(' ')), tail.within);
            let said = match tokio::time::timeout(tail.within, run).await {
                Ok(Ok(output)) => String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
                Ok(Err(NodeError::Deadline { .. })) | Err(_) => format!("it did not end within {:?}", tail.within),
                // That a program is not there says nothing.
                Ok(Err(_)) => String::new(),
            };
            let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
            let shown = &lines[lines.len().saturating_sub(tail.lines)..];
            let headline = (!shown.is_empty()).then(|| format!("  {name}: {command}\n"));
            headline.into_iter().chain(shown.iter().map(|line| format!("    {line}\n"))).collect::<String>()
        });
        join_all(said).await.concat().trim_end().to_string()
    }
}

async fn put(node: &dyn Node, step: &Step, path: &str, mode: u32, content: Vec<u8>) -> Result<String, Failure> {
    node.put_within(path, mode, content, step.deadline).await.map(|()| String::new()).map_err(Failure::Node)
}

fn refused(step: &Step, invocation: &Invocation, output: &Output) -> Failure {
    let said = match output.complaint() {
        nothing if nothing.is_empty() => String::from_utf8_lossy(&output.stdout).trim().to_string(),
        said => said,
    };
    let said = if said.is_empty() { "it said nothing".into() } else { step.discreet(&said) };
    let command = step.discreet(&invocation.to_string());
    Failure::Command { command, exit: output.exit, said, means: step.means }
}
/// The error of a node, which says what was run there, without the secrets of the step.
fn discreet(step: &Step, error: NodeError) -> NodeError {
    match error {
        NodeError::Deadline { node, command, deadline } => {
            NodeError::Deadline { node, command: step.discreet(&command), deadline }
        }
        NodeError::Failed { node, doing, cause } => {
            NodeError::Failed { node, doing: step.discreet(&doing), cause: step.discreet(&cause) }
        }
        gone @ NodeError::Gone { .. } => gone,
    }
}
