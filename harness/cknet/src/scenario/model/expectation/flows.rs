//! Owns what is expected of flows: what becomes of one, whether a service leads to its workloads, how a name is answered.
//! Must not know how they are sent.

use crate::scenario::late::{Late, Text};
use crate::scenario::model::{Address, Endpoint, PortProto, ServiceName, Via};
use crate::scenario::read::{record, words};

words! {
    "an outcome";
    /// What becomes of a flow.
    pub enum Outcome {
        /// It arrives and is answered.
        Allowed = "allowed",
        /// Silence.
        Dropped = "dropped",
        /// It is refused by something on the way.
        Rejected = "rejected",
        /// It arrives where nothing listens.
        Closed = "closed",
        /// There is no way to it.
        Unreachable = "unreachable",
        /// Dropped or rejected: what a NetworkPolicy is free to do.
        Denied = "denied",
    }
}

impl Outcome {
    /// Whether this says that nothing gets through, so that a broken probe would look the same.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        !matches!(self, Self::Allowed | Self::Closed)
    }
}

record! {
    "`connectivity`";
    /// What becomes of one flow.
    pub struct Connectivity {
        /// From where it is sent: a workload or `node:NAME`.
        pub from: Endpoint,
        /// To where it is sent.
        pub to: Endpoint,
        /// To which port.
        pub port: PortProto,
        /// What becomes of it.
        pub is: Outcome,
        /// By which address it goes; `pod` unless given.
        #[schemars(default)]
        pub via: Via = Via::default(),
        /// Whose address the target sees as the sender's.
        pub source_address: Option<SourceAddress>,
    }
}

words! {
    "a source address";
    /// Whose address a target sees.
    pub enum SourceAddress {
        /// That of the sending pod.
        Pod = "pod",
        /// One of the sending pod's node.
        Node = "node",
    }
}

record! {
    "`service`";
    /// Whether a service leads to its workloads.
    pub struct ServiceAnswers {
        /// The service.
        pub name: ServiceName,
        /// From where it is asked: workloads or `node:NAME`.
        pub reachable_from: Vec<Endpoint>,
        /// The port of its virtual address.
        pub port: PortProto,
        /// How many different workloads answer; at least one unless given.
        pub backends: Option<u16>,
    }
}

record! {
    "`dns`";
    /// What a name is answered with: one of `answers`, `count`, `nxdomain`, `unanswered`.
    pub struct Dns {
        /// From where it is asked: a workload or `node:NAME`.
        pub from: Endpoint,
        /// The name, as a program would ask for it.
        pub name: Text,
        /// The addresses, in any order.
        #[schemars(default)]
        pub answers: Vec<Late<Address>> = Default::default(),
        /// How many addresses.
        pub count: Option<u16>,
        /// Whether the answer is that there is no such name.
        #[schemars(default)]
        pub nxdomain: bool = false,
        /// Whether no answer comes, because the name server cannot be reached.
        #[schemars(default)]
        pub unanswered: bool = false,
    }
}
