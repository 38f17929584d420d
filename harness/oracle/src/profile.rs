//! What Kubernetes leaves to the network plugin, and how a given one answers.
//!
//! Each open question is one field of a [`Profile`]. The oracle judges a flow under every permitted
//! answer; only where the answers lead apart is the outcome undefined. Must not know flows.

use std::fmt;

/// How one network plugin and its service proxy answer what Kubernetes leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// What the answers belong to, for sentences: `Calico`.
    pub name: &'static str,
    pub icmp: Icmp,
    pub block_on_pods: BlockScope,
    pub block_on_nodes: BlockScope,
    pub host_network: HostNetwork,
    pub own_node: OwnNode,
    pub hairpin: Hairpin,
    pub service_address: ServiceAddress,
    pub remote_node_port: RemoteNodePort,
    pub rewritten_source: RewrittenSource,
    pub node_source: NodeSource,
    /// Whether pods reach addresses outside the pod ranges with their node's address. Changes the
    /// source that a server sees.
    pub nat_outgoing: bool,
}

impl Profile {
    /// Calico with VXLAN and kube-proxy, as observed on Kubernetes 1.33.13 with Calico v3.31.2 in
    /// its iptables data plane, and as Felix documents where no observation exists.
    ///
    /// Observed: an isolated pod's ping is lost; a pod that reaches itself through its Service
    /// times out under deny-all; another node's traffic is judged like any other; Kubernetes' own
    /// suite of 42 tests passes, which has `ipBlock` match pods. Documented: the workload's egress
    /// policy comes before `defaultEndpointToHostAction`; host-networked pods are no workloads.
    pub const fn calico() -> Self {
        Self {
            name: "Calico",
            icmp: Icmp::RulesWithoutPorts,
            block_on_pods: BlockScope::Applies,
            block_on_nodes: BlockScope::Applies,
            host_network: HostNetwork::AsNode,
            own_node: OwnNode::EgressPolicy,
            hairpin: Hairpin::Policy,
            service_address: ServiceAddress::Backend,
            remote_node_port: RemoteNodePort::Node,
            rewritten_source: RewrittenSource::OnTheWire,
            node_source: NodeSource::Tunnel,
            nat_outgoing: true,
        }
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::calico()
    }
}

/// An answer to one open question. All of a type's answers are permitted.
trait Answer: Copy + PartialEq + 'static {
    const ALL: &'static [Self];

    fn text(self) -> &'static str;

    fn each(profile: impl Fn(Self) -> Profile) -> Vec<Profile> {
        Self::ALL.iter().copied().map(profile).collect()
    }
}

/// Declares the type of the answers to one question, and what each says in a sentence.
macro_rules! answers {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl Answer for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];
            fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

answers! {
    /// ICMP from or to an isolated pod. NetworkPolicy v1 guarantees only TCP, UDP and SCTP.
    Icmp {
        /// A rule without `ports` covers ICMP as well.
        RulesWithoutPorts => "ICMP passes where a rule without ports lets the peer pass",
        /// ICMP is not subject to policy.
        Always => "ICMP passes whatever the policies say",
        /// Isolation ends ICMP, and no rule brings it back.
        Never => "ICMP never passes at an isolated pod",
    }
}

answers! {
    /// Whether an `ipBlock` speaks about addresses that belong to the cluster itself. It is meant
    /// for addresses outside; Kubernetes' own tests use it on pods, Cilium ignores it there.
    BlockScope {
        Applies => "an ipBlock also covers the cluster's own addresses",
        Ignores => "an ipBlock covers only addresses outside the cluster",
    }
}

answers! {
    /// Pods in their node's network, as a policy's subject and as its peer.
    HostNetwork {
        /// They are their node: no policy isolates them, no selector finds them.
        AsNode => "a hostNetwork pod is nothing but its node",
        /// They are told apart from the node, and are pods like any other.
        AsPods => "a hostNetwork pod is subject to policies like any pod",
    }
}

answers! {
    /// From a pod to the node it runs on. Kubernetes says this always passes, yet Calico applies
    /// the pod's egress policy first.
    OwnNode {
        Exempt => "a pod always reaches its own node",
        EgressPolicy => "egress policy also guards the pod's own node",
    }
}

answers! {
    /// A pod that reaches itself through a Service.
    Hairpin {
        Policy => "a pod that reaches itself through a Service needs policies that allow itself",
        Exempt => "a pod always reaches itself, also through a Service",
    }
}

answers! {
    /// Which address of a Service an `ipBlock` of an egress rule is compared with.
    ServiceAddress {
        Backend => "an egress ipBlock is compared with the backend's address",
        Dialled => "an egress ipBlock is compared with the Service's address",
    }
}

answers! {
    /// What egress policy sees of a connection to a node port of another node.
    RemoteNodePort {
        /// Translation happens on the node that has the port.
        Node => "egress policy sees the other node and its node port",
        /// Translation happens where the client is.
        Backend => "egress policy sees the backend behind another node's port",
    }
}

answers! {
    /// Which source ingress policy sees where the way rewrites it.
    RewrittenSource {
        /// The source that the packet carries as it reaches the backend's node.
        OnTheWire => "ingress policy sees the source that the packet carries between nodes",
        /// The client, always.
        Client => "ingress policy sees the client before any rewriting",
        /// The last source that is written into it.
        Final => "ingress policy sees the rewritten source",
    }
}

answers! {
    /// Which of its addresses a node uses towards pods of another node.
    NodeSource {
        /// That of the overlay device, where it has one.
        Tunnel => "a node sends to remote pods from its overlay address",
        Internal => "a node sends to remote pods from its internal address",
    }
}

/// Declares the open questions: each is a field of the profile.
macro_rules! questions {
    ($($(#[$doc:meta])* $name:ident: $field:ident => $text:literal,)+) => {
        /// Something that Kubernetes leaves to the network plugin.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Question { $($(#[$doc])* $name,)+ }

        impl Question {
            /// Every open question.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The profiles that answer this question in each permitted way, and everything else
            /// as the given one does. The given one is among them.
            pub fn readings(self, profile: Profile) -> Vec<Profile> {
                match self {
                    $(Self::$name => Answer::each(|answer| Profile { $field: answer, ..profile }),)+
                }
            }

            /// What a profile answers.
            pub fn answer(self, profile: &Profile) -> &'static str {
                match self { $(Self::$name => profile.$field.text(),)+ }
            }
        }

        impl fmt::Display for Question {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(match self { $(Self::$name => $text,)+ })
            }
        }
    };
}

questions! {
    Icmp: icmp => "what isolation means for ICMP",
    BlockOnPods: block_on_pods => "whether an ipBlock covers the addresses of pods",
    BlockOnNodes: block_on_nodes => "whether an ipBlock covers the addresses of nodes",
    HostNetwork: host_network => "whether policies know hostNetwork pods from their node",
    OwnNode: own_node => "whether egress policy guards a pod's own node",
    Hairpin: hairpin => "whether a pod that reaches itself through a Service is subject to policy",
    ServiceAddress: service_address => "whether an egress ipBlock is compared before or after a Service's translation",
    RemoteNodePort: remote_node_port => "whether egress policy sees a node port before or after its translation",
    RewrittenSource: rewritten_source => "whether ingress policy sees a source before or after it is rewritten",
    NodeSource: node_source => "which of its addresses a node uses towards pods",
}

/// A few open questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Questions(u16);

impl Questions {
    pub(crate) fn ask(&mut self, question: Question) {
        self.0 |= 1 << question as u16;
    }

    pub(crate) fn add(&mut self, others: Self) {
        self.0 |= others.0;
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Question> {
        let asked = move |question: &Question| self.0 & (1 << *question as u16) != 0;
        Question::ALL.iter().copied().filter(asked)
    }
}
