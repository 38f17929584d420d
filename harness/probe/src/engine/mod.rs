//! The probing engine: launches the cells of a batch at once from the namespaces they start in, and observes.
//!
//! Owns the vantages and the order of a pass. One cell's life is in `flight` and `ping`, the wait in `chunk`.
//! Knows nothing of who asks, and nothing of what an observation is expected to be.

mod chunk;
mod error_queue;
mod failure;
mod flight;
mod outcomes;
mod pass;
mod ping;
mod silence;
mod source_ports;
mod talk;
mod vantage;

use std::io;
use std::time::Duration;

use cknet_kernel::ns::NetNs;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::echo::Nonces;
use crate::wire::{Batch, Observation, VantageId};
use flight::Keep;
use vantage::Vantages;

pub use vantage::AttachError;

/// Makes probes from the vantages attached to it.
///
/// It moves the calling thread from namespace to namespace, so that thread must be its own: nothing else may run
/// there, and a new thread or child started from it during [`Prober::probe`] would begin in some pod.
pub struct Prober {
    home: NetNs,
    vantages: Vantages,
    nonces: Nonces,
}

/// What came of a batch. Its sockets stay open until it is dropped, so that no source port comes back to a server
/// that still knows it; dropping resets the connections.
pub struct Pass {
    /// One for each cell, in the batch's order.
    pub observations: Vec<Observation>,
    /// Until the last probe had left.
    pub launched: Duration,
    /// Until the last cell was settled.
    pub took: Duration,
    _sockets: Vec<Keep>,
}

impl Prober {
    /// A prober without vantages, at home in the namespace of the calling thread.
    pub fn new() -> io::Result<Self> {
        Ok(Self { home: NetNs::current()?, vantages: Vantages::default(), nonces: Nonces::default() })
    }

    /// Opens the namespace at `netns`, a path or `self`, as a vantage.
    pub fn attach(&mut self, vantage: &VantageId, netns: &str) -> Result<(), AttachError> {
        self.vantages.attach(vantage, netns, &self.home)
    }

    /// Forgets a vantage; says whether there was one.
    pub fn detach(&mut self, vantage: &VantageId) -> bool {
        self.vantages.detach(vantage)
    }

    /// Probes all cells of a batch and waits until each is settled.
    pub fn probe(&mut self, batch: &Batch) -> Pass {
        let pass = pass::run(batch, &mut self.vantages, &mut self.nonces);
        // The namespace is open, so going home cannot fail while the process may probe at all; and nothing here
        // relies on it, because each group of cells enters its own namespace first.
        let _ = self.home.enter();
        pass
    }
}

/// Raises the soft limit of open files to the hard one; returns the limit in force.
pub fn raise_open_file_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// Whether the kernel makes SCTP sockets; it may load a module for that.
pub fn knows_sctp() -> bool {
    use socket2::{Domain, Protocol, Socket, Type};
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::SCTP)).is_ok()
}
