//! Predictions as sentences for a person who runs a network. Text only: no judgement is made here.

use std::fmt::{self, Display, Formatter};

use crate::labels::{Labels, Listed, NAMESPACE_NAME_LABEL};
use crate::policy::{Direction, Peer, PortRange, Rule};
use crate::prediction::{
    Because, Decision, Denial, Exemption, Identity, Leg, Mismatch, Miss, NoAnswer, Outcome, Party, Prediction,
    Translator, Undefined, Verdict,
};

impl Display for Prediction {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        if let Outcome::Undefined(undefined) = &self.outcome {
            write!(out, "{undefined}, expected of {}: ", undefined.profile)?;
        }
        match (&self.expected, self.deciding()) {
            (Verdict::NoAnswer(why), _) => write!(out, "no answer: {why}"),
            (Verdict::Varies, _) => self.varies(out),
            (verdict, Some(leg)) => {
                write!(out, "{verdict}")?;
                self.way(out, leg)?;
                let joint = if leg.is_denied() { " " } else { ": " };
                write!(out, "{joint}{}", Reason(leg))
            }
            (verdict, None) => write!(out, "{verdict}"),
        }
    }
}

impl Prediction {
    /// ` through service x to y`, where something translates.
    fn way(&self, out: &mut Formatter<'_>, leg: &Leg) -> fmt::Result {
        let Some(through) = &leg.through else {
            return match self.legs.len() {
                0 | 1 => Ok(()),
                several => write!(out, " to each of {several} addresses, such as {}", leg.to),
            };
        };
        write!(out, " through {} to ", through.by)?;
        match self.legs.len() {
            0 | 1 => {}
            several => write!(out, "each of {several} backends, such as ")?,
        }
        write!(out, "{} {}", leg.to, leg.port)
    }

    fn varies(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str("it varies with the backend: ")?;
        for (position, leg) in self.legs.iter().enumerate() {
            let semicolon = if position > 0 { "; " } else { "" };
            let joint = if leg.is_denied() { " " } else { ": " };
            write!(out, "{semicolon}{} {} {}", leg.to, leg.port, leg.expected)?;
            write!(out, "{joint}{}", Reason(leg))?;
        }
        Ok(())
    }
}

impl Leg {
    fn is_denied(&self) -> bool {
        self.expected == Verdict::Denied
    }
}

/// Why a leg passes or does not: both ends if it passes, else each end that denies it.
struct Reason<'a>(&'a Leg);

impl Display for Reason<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Leg { source, destination, .. } = self.0;
        match (source.because.passes(), destination.because.passes()) {
            (true, true) => write!(out, "{source}; {destination}"),
            (false, true) => write!(out, "{source}"),
            (true, false) => write!(out, "{destination}"),
            (false, false) => write!(out, "{source}; and {destination}"),
        }
    }
}

/// `` `x/a` is not isolated for egress ``, or ``at destination `y/b`: isolated for ingress by ...``.
impl Display for Decision {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self { direction, subject, .. } = self;
        match &self.because {
            Because::NotIsolated => write!(out, "{subject} is not isolated for {direction}"),
            Because::AllowedBy(by) => {
                let rule = &by.policy.rules(*direction)[by.rule];
                write!(out, "{subject} is isolated for {direction}, and ")?;
                write!(out, "`{}` {direction}[{}]", by.policy.name, by.rule)?;
                write!(out, " allows {}", Allowed(rule, by.peer, by.port))
            }
            Because::DeniedBy(denial) => self.denied(out, denial),
            Because::Exempt(exemption) => self.exempt(out, *exemption),
        }
    }
}

impl Decision {
    fn denied(&self, out: &mut Formatter<'_>, denial: &Denial) -> fmt::Result {
        let end = match self.direction {
            Direction::Ingress => "destination",
            Direction::Egress => "source",
        };
        write!(out, "at {end} {}: ", self.subject)?;
        write!(out, "isolated for {} by ", self.direction)?;
        for (position, policy) in denial.policies.iter().enumerate() {
            let comma = if position > 0 { ", " } else { "" };
            write!(out, "{comma}`{}`", policy.name)?;
        }
        if denial.misses.is_empty() {
            let verb = if denial.policies.len() > 1 { "allow" } else { "allows" };
            return write!(out, ", which {verb} nothing");
        }
        for miss in &denial.misses {
            out.write_str("; ")?;
            self.missed(out, miss)?;
        }
        Ok(())
    }

    fn missed(&self, out: &mut Formatter<'_>, miss: &Miss) -> fmt::Result {
        let Miss { policy, rule: position, mismatch } = miss;
        let rule = &policy.rules(self.direction)[*position];
        write!(out, "`{}` {}[{position}]", policy.name, self.direction)?;
        write!(out, " allows {rule}, but ")?;
        if *mismatch != Mismatch::Port {
            self.wrong_peer(out, rule, &policy.namespace)?;
        }
        if *mismatch == Mismatch::PeerAndPort {
            out.write_str(", and ")?;
        }
        if *mismatch != Mismatch::Peer {
            self.wrong_port(out, rule)?;
        }
        Ok(())
    }

    fn wrong_peer(&self, out: &mut Formatter<'_>, rule: &Rule, home: &str) -> fmt::Result {
        let end = match self.direction {
            Direction::Ingress => "source",
            Direction::Egress => "destination",
        };
        write!(out, "the {end} is {}", self.peer)?;
        match &self.peer.identity {
            Identity::Pod { pod, namespace } => {
                write!(out, " ({}", Listed(&pod.labels))?;
                let looks_at_namespaces = rule.peers.iter().any(|peer| peer.namespaces().is_some());
                let own = own_labels(&namespace.labels);
                if looks_at_namespaces && !own.is_empty() {
                    write!(out, "; its namespace {}", Listed(&own))?;
                }
                out.write_str(")")?;
                let labels_match = |peer: &Peer| match peer {
                    Peer::Pods { pods, namespaces: None } => pods.as_ref().is_none_or(|pods| pods.matches(&pod.labels)),
                    _ => false,
                };
                if pod.namespace != home && rule.peers.iter().any(labels_match) {
                    out.write_str(" of another namespace")?;
                }
                Ok(())
            }
            Identity::HostPod { .. } => out.write_str(", which counts as its node"),
            Identity::Node(_) | Identity::Outside => Ok(()),
        }
    }

    fn wrong_port(&self, out: &mut Formatter<'_>, rule: &Rule) -> fmt::Result {
        write!(out, "the flow goes to {}", self.port)?;
        for wanted in &rule.ports {
            let PortRange::Named(name) = &wanted.port else {
                continue;
            };
            let Some(owner) = &self.port_owner else {
                return out.write_str(" of no pod, where port names mean nothing");
            };
            let numbers: Vec<_> = owner.numbers_of(name, wanted.protocol).collect();
            match numbers.first() {
                Some(number) => write!(out, ", and `{name}` is {number} on `{owner}`")?,
                None => write!(out, ", and `{owner}` has no {wanted}")?,
            }
        }
        Ok(())
    }

    fn exempt(&self, out: &mut Formatter<'_>, exemption: Exemption) -> fmt::Result {
        let subject = &self.subject;
        match (exemption, self.direction) {
            (Exemption::NotAPod, _) => write!(out, "no policy applies to {subject}"),
            (Exemption::HostNetwork, _) => {
                write!(out, "{subject} counts as its node, to which no policy applies")
            }
            (Exemption::Itself, _) => write!(out, "{subject} always reaches itself"),
            (Exemption::OwnNode, Direction::Ingress) => {
                write!(out, "{subject} is always open to its own node")
            }
            (Exemption::OwnNode, Direction::Egress) => {
                write!(out, "{subject} always reaches its own node")
            }
            (Exemption::Icmp, _) => write!(out, "no policy of {subject} covers ICMP"),
        }
    }
}

/// The part of a rule that lets a flow pass: one peer, one port.
struct Allowed<'a>(&'a Rule, Option<usize>, Option<usize>);

impl Display for Allowed<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self(rule, peer, port) = self;
        match peer {
            Some(peer) => write!(out, "{}", rule.peers[*peer])?,
            None => out.write_str("anything")?,
        }
        match port {
            Some(port) => write!(out, " on {}", rule.ports[*port]),
            None => out.write_str(" on every port"),
        }
    }
}

/// The labels of a namespace that somebody set.
fn own_labels(labels: &Labels) -> Labels {
    let mut own = labels.clone();
    own.remove(NAMESPACE_NAME_LABEL);
    own
}

impl Display for Undefined {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str("undefined, Kubernetes leaves open ")?;
        for (position, hinge) in self.hinges.iter().enumerate() {
            let joint = if position > 0 { ", and " } else { "" };
            write!(out, "{joint}{} (", hinge.question)?;
            for (position, reading) in hinge.readings.iter().enumerate() {
                let joint = if position > 0 { "; " } else { "" };
                write!(out, "{joint}{} if {}", reading.verdict, reading.answer)?;
            }
            out.write_str(")")?;
        }
        Ok(())
    }
}

impl Display for Verdict {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::NoAnswer(_) => "no answer",
            Self::Varies => "varies",
        })
    }
}

/// One word or two; the sentence is that of the [`Prediction`].
impl Display for Outcome {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::NoAnswer(_) => "no answer",
            Self::Varies => "varies",
            Self::Undefined(_) => "undefined",
        })
    }
}

impl Display for NoAnswer {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingListens { server, port } => {
                write!(out, "nothing listens on {port} of `{server}`")
            }
            Self::NoSuchPort { service, port } => {
                write!(out, "service `{service}` has no port {port}")
            }
            Self::NoBackend { service } => write!(out, "service `{service}` has no ready backend"),
            Self::NoLocalBackend { service, node } => {
                write!(out, "service `{service}` has no ready backend on node `{}`", node.name)?;
                out.write_str(", and its traffic policy is `Local`")
            }
            Self::ExternalName { service } => {
                write!(out, "service `{service}` is a name outside the cluster")
            }
            Self::ClusterIpFromOutside { service } => {
                write!(out, "the address of service `{service}` has no meaning outside the cluster")
            }
            Self::NoSuchService { address } => {
                write!(out, "no service has the address `{address}`")
            }
            Self::IcmpToService { service } => {
                write!(out, "service `{service}` translates no ICMP")
            }
            Self::NoCommonFamily => out.write_str("the ends have no family of addresses in common"),
        }
    }
}

impl Display for Party {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match (&self.identity, self.address) {
            (Identity::Pod { pod, .. }, _) => write!(out, "`{pod}`"),
            (Identity::HostPod { pod, node }, _) => {
                write!(out, "`{pod}` in the network of node `{}`", node.name)
            }
            (Identity::Node(node), Some(address)) => {
                write!(out, "node `{}` ({address})", node.name)
            }
            (Identity::Node(node), None) => write!(out, "node `{}`", node.name),
            (Identity::Outside, Some(address)) => write!(out, "`{address}` outside the cluster"),
            (Identity::Outside, None) => out.write_str("somebody outside the cluster"),
        }
    }
}

impl Display for Translator {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => write!(out, "service `{service}`"),
            Self::HostPort => out.write_str("a host port"),
        }
    }
}
