//! What the rules of Kubernetes predict for the flows of a scenario, and because of which rule.
//!
//! Pure: the world is followed through the steps of the file, and the oracle is asked about it. It knows
//! NetworkPolicies and Services and nothing else: a closed firewall or a cut link changes no prediction. While the
//! CNI's agents are stopped, what they left behind is in force. Must not know how flows are probed.

mod addresses;
mod world;

use std::net::IpAddr;

use cknet_oracle::{self as oracle, Oracle, PodRef, Prediction, Profile, Target, Verdict};

pub use self::addresses::Addresses;
use self::world::World;
use crate::scenario::model::{
    Check, Endpoint, Expectation, Matrix, NodeName, Outcome, PhaseId, PortName, PortNumber, PortProto, Protocol,
    Scenario, Service, ServiceName, ServicePort, TargetPort, Via, Workload, WorkloadName,
};
use crate::scenario::{LateFact, Lookup};

/// The oracle about a scenario as it is after the steps of one phase.
pub struct Predictor<'s> {
    scenario: &'s Scenario,
    oracle: Oracle,
    snapshot: oracle::Snapshot,
    world: World,
    addresses: Addresses,
}

/// A flow that an expectation is about, with what the rules say of it.
#[derive(Clone, Debug)]
pub struct Foreseen {
    /// `frontend -> backend 8080/tcp`, as the scenario file names the ends.
    pub flow: String,
    pub from: Endpoint,
    pub to: Endpoint,
    pub port: PortProto,
    /// What the scenario file expects.
    pub expected: Outcome,
    /// What the oracle says, or why it cannot say anything.
    pub predicted: Result<Prediction, String>,
}

/// How an expectation and a prediction stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    Agree,
    Differ,
    /// Nothing was predicted, or it depends on the backend that is chosen.
    Open,
}

impl Foreseen {
    pub fn agreement(&self) -> Agreement {
        let Ok(prediction) = &self.predicted else { return Agreement::Open };
        let agrees = match &prediction.expected {
            Verdict::Allowed => self.expected == Outcome::Allowed,
            Verdict::Denied => matches!(self.expected, Outcome::Denied | Outcome::Dropped | Outcome::Rejected),
            Verdict::NoAnswer(oracle::NoAnswer::NothingListens { .. }) => self.expected == Outcome::Closed,
            // Which kind of silence or refusal it is, is up to the proxy.
            Verdict::NoAnswer(_) => self.expected != Outcome::Allowed,
            Verdict::Varies => return Agreement::Open,
        };
        if agrees { Agreement::Agree } else { Agreement::Differ }
    }

    /// What the rules say, as a sentence.
    pub fn because(&self) -> String {
        match &self.predicted {
            Ok(prediction) => prediction.to_string(),
            Err(why) => format!("nothing: {why}"),
        }
    }
}

impl<'s> Predictor<'s> {
    /// The scenario after the steps of a phase; `known` tells facts of a running cluster, where there is one, and
    /// others are made up.
    pub fn after(scenario: &'s Scenario, phase: &PhaseId, known: Lookup<'_>) -> Self {
        let mut world = World::begin(scenario);
        let mut addresses = Addresses::plan(scenario);
        for passed in &scenario.phases {
            for step in &passed.steps {
                world.follow(scenario, &step.action, &|fact: &LateFact| known(fact).or_else(|| addresses.of(fact)));
                addresses.seat(scenario, &world.workloads);
            }
            if passed.id == *phase {
                break;
            }
        }
        let snapshot = world.snapshot(scenario, &|fact: &LateFact| known(fact).or_else(|| addresses.of(fact)));
        Self { scenario, oracle: Oracle::new(&snapshot, Profile::calico()), snapshot, world, addresses }
    }

    /// The flows of an expectation; none where it is not about flows.
    pub fn foresee(&self, expectation: &Expectation) -> Vec<Foreseen> {
        match &expectation.check {
            Check::Connectivity(flow) => vec![self.flow(&flow.from, &flow.to, flow.port, &flow.via, flow.is)],
            Check::Matrix(matrix) => self.matrix(matrix),
            Check::Service(service) => {
                let to = Endpoint::Service(service.name.clone());
                let flow = |from| self.flow(from, &to, service.port, &Via::Pod, Outcome::Allowed);
                service.reachable_from.iter().map(flow).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What there is to know about the policies that are in force, each with the policy's name.
    pub fn advice(&self) -> Vec<(String, oracle::Advice)> {
        let of = |policy: &oracle::NetworkPolicy| {
            let found = oracle::validate(policy, &self.snapshot).into_iter();
            found.map(|advice| (policy.to_string(), advice)).collect::<Vec<_>>()
        };
        self.snapshot.policies.iter().flat_map(of).collect()
    }

    /// What could not be followed: objects and patches that were left out of the world.
    pub fn gaps(&self) -> &[String] {
        &self.world.gaps
    }

    fn matrix(&self, matrix: &Matrix) -> Vec<Foreseen> {
        matrix.flows().map(|cell| self.flow(cell.from, cell.to, cell.port, &matrix.via, cell.is)).collect()
    }

    fn flow(&self, from: &Endpoint, to: &Endpoint, port: PortProto, via: &Via, expected: Outcome) -> Foreseen {
        let through = if *via == Via::Pod { String::new() } else { format!(" via {via}") };
        Foreseen {
            flow: format!("{from} -> {to} {port}{through}"),
            from: from.clone(),
            to: to.clone(),
            port,
            expected,
            predicted: self.predict(from, to, port, via),
        }
    }

    fn predict(&self, from: &Endpoint, to: &Endpoint, port: PortProto, via: &Via) -> Result<Prediction, String> {
        for end in [from, to] {
            let Endpoint::Workload(name) = end else { continue };
            let node = self.world.workloads.get(name).map(|workload| &workload.node);
            if let Some(why) = node.and_then(|node| self.world.out_of_step(node)) {
                return Err(why);
            }
        }
        let from = match from {
            Endpoint::Workload(name) => match self.outside(name)? {
                Some((address, _)) => oracle::Endpoint::External(address),
                None => oracle::Endpoint::Pod(self.pod(name)?),
            },
            Endpoint::Node(name) if !self.scenario.topology.is_member(name) => {
                oracle::Endpoint::External(self.machine(name)?)
            }
            Endpoint::Node(name) => oracle::Endpoint::Node(name.to_string()),
            Endpoint::Address(address) => oracle::Endpoint::External(*address),
            Endpoint::Service(_) => return Err(format!("nothing can be sent from `{from}`")),
        };
        let from = match (to, via) {
            (Endpoint::Workload(target), Via::HostPort) => self.seen_through_node(from, target),
            _ => from,
        };
        let (to, number) = match (to, via) {
            (Endpoint::Workload(name), Via::Pod) if self.outside(name)?.is_some() => {
                let (address, listens) = self.outside(name)?.ok_or("no such workload")?;
                if !listens.contains(&port) {
                    return Err(format!("`{name}` is outside of the cluster and does not listen on {port}"));
                }
                (Target::Ip(address), port.port.get())
            }
            (Endpoint::Node(name), _) if !self.scenario.topology.is_member(name) => {
                (Target::Ip(self.machine(name)?), port.port.get())
            }
            // A port of its node leads there without another address for the sender.
            (Endpoint::Workload(name), Via::Pod | Via::HostPort) => (Target::Pod(self.pod(name)?), port.port.get()),
            (Endpoint::Workload(name), via) => self.through_service(name, port, via)?,
            (Endpoint::Service(name), via) => self.service(name, port, via)?,
            (Endpoint::Node(name), _) => (Target::Node(name.to_string()), port.port.get()),
            (Endpoint::Address(address), _) => (Target::Ip(*address), port.port.get()),
        };
        let flow = oracle::Flow::over(protocol(port.protocol), from, to, number);
        self.oracle.predict(&flow).map_err(|unknown| unknown.to_string())
    }

    /// Who somebody is to a pod that is reached by a port of its node: a pod on another node left that node under the
    /// node's address, since it sent to a node.
    fn seen_through_node(&self, from: oracle::Endpoint, target: &WorkloadName) -> oracle::Endpoint {
        let oracle::Endpoint::Pod(pod) = &from else { return from };
        let node = |name: &str| {
            let workload = self.world.workloads.iter().find(|(known, _)| known.as_str() == name);
            workload.map(|(_, workload)| workload.node.to_string())
        };
        match (node(&pod.name), node(target.as_str())) {
            (Some(own), Some(other)) if own != other => oracle::Endpoint::Node(own),
            _ => from,
        }
    }

    /// Address and ports of a workload that is a process outside of the cluster: to its rules an address and no pod.
    fn outside(&self, name: &WorkloadName) -> Result<Option<(IpAddr, &[PortProto])>, String> {
        let workload = self.world.workloads.get(name).ok_or_else(|| format!("workload `{name}` does not run"))?;
        if self.scenario.topology.is_member(&workload.node) {
            return Ok(None);
        }
        Ok(Some((self.machine(&workload.node)?, &workload.listen)))
    }

    fn machine(&self, name: &NodeName) -> Result<IpAddr, String> {
        self.scenario.topology.address(name).ok_or_else(|| format!("no machine `{name}`"))
    }

    fn pod(&self, name: &WorkloadName) -> Result<PodRef, String> {
        let workload = self.world.workloads.get(name).ok_or_else(|| format!("workload `{name}` does not run"))?;
        Ok(PodRef::new(workload.namespace.as_str(), name.as_str()))
    }

    fn service(&self, name: &ServiceName, port: PortProto, via: &Via) -> Result<(Target, u16), String> {
        let service = self.scenario.services.get(name).ok_or_else(|| format!("no service `{name}`"))?;
        let Via::NodePort(node) = via else {
            return Ok((Target::service(service.namespace.as_str(), name.as_str()), port.port.get()));
        };
        let found = service.ports.iter().find(|candidate| candidate.port == port).and_then(|port| port.node_port);
        let number = found.ok_or_else(|| format!("the node port of service `{name}` is chosen by the cluster"))?;
        Ok((Target::Node(node.to_string()), number.get()))
    }

    /// A workload reached through the one service that selects it.
    fn through_service(&self, name: &WorkloadName, port: PortProto, via: &Via) -> Result<(Target, u16), String> {
        let workload = self.world.workloads.get(name).ok_or_else(|| format!("workload `{name}` does not run"))?;
        let mut selecting = self.scenario.services.iter().filter(|(_, service)| selects(service, workload));
        let (Some((service, spec)), None) = (selecting.next(), selecting.next()) else {
            return Err(format!("not exactly one service selects workload `{name}`"));
        };
        let found = spec.ports.iter().find(|candidate| leads_to(candidate, workload, port));
        let found = found.ok_or_else(|| format!("service `{service}` does not lead to {port}"))?;
        self.service(service, found.port, via)
    }

    /// The address that was made up for a workload, for whoever wants to show one.
    pub fn address(&self, name: &WorkloadName) -> Option<IpAddr> {
        self.addresses.of(&LateFact::WorkloadIp(name.clone()))?.parse().ok()
    }
}

fn selects(service: &Service, workload: &Workload) -> bool {
    workload.namespace == service.namespace
        && service.selector.iter().all(|(key, value)| workload.labels.get(key) == Some(value))
}

fn leads_to(candidate: &ServicePort, workload: &Workload, port: PortProto) -> bool {
    let same = |number: PortNumber| number == port.port && candidate.port.protocol == port.protocol;
    match &candidate.target {
        Some(TargetPort::Number(number)) => same(*number),
        Some(TargetPort::Name(name)) => named(workload, name) == Some(port),
        None => same(candidate.port.port),
    }
}

fn named(workload: &Workload, name: &PortName) -> Option<PortProto> {
    workload.named_ports.get(name).copied()
}

fn protocol(protocol: Protocol) -> oracle::Protocol {
    match protocol {
        Protocol::Tcp => oracle::Protocol::Tcp,
        Protocol::Udp => oracle::Protocol::Udp,
        Protocol::Sctp => oracle::Protocol::Sctp,
    }
}
