//! Owns connections that stay open while the world changes, and echo requests: what is done and expected of them.
//! Must not know how they are opened and looked at.

use super::super::read::{record, words};
use super::{ConnectionName, Endpoint, Outcome, PortProto, Via};

record! {
    "`connect`";
    /// A TCP connection that is opened and stays open until the scenario is over.
    pub struct Connect {
        /// Its name, by which expectations speak of it.
        pub name: ConnectionName,
        /// From where it is opened: a workload or `node:NAME`.
        pub from: Endpoint,
        /// To where: a workload or a service.
        pub to: Endpoint,
        /// To which port.
        pub port: PortProto,
        /// By which address it goes; `pod` unless given.
        #[schemars(default)]
        pub via: Via = Via::default(),
    }
}

record! {
    "`connection`";
    /// What has become of a connection: a word is sent over it, and its echo awaited.
    pub struct Connection {
        /// Its name, as `connect` gave it.
        pub name: ConnectionName,
        /// What has become of it.
        pub state: ConnectionState,
    }
}

words! {
    "a state of a connection";
    /// What has become of a connection.
    pub enum ConnectionState {
        /// What is sent over it is echoed.
        Open = "open",
        /// It is silent, reset or ended: whatever a change may do to it.
        Broken = "broken",
        /// What is sent over it is not answered.
        Silent = "silent",
        /// It was reset.
        Reset = "reset",
        /// The other end closed it in order.
        Ended = "ended",
    }
}

impl ConnectionState {
    /// Whether this says that nothing gets through, so that a dead server would look the same.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        !matches!(self, Self::Open)
    }
}

record! {
    "`ping`";
    /// What becomes of an echo request: one packet of ICMP with 56 bytes.
    pub struct Ping {
        /// From where it is sent: a workload or `node:NAME`.
        pub from: Endpoint,
        /// To where: a workload, `node:NAME` or an address.
        pub to: Endpoint,
        /// What becomes of it.
        pub is: Outcome,
    }
}
