//! The probing engine: launches the cells of a batch at once from the namespaces they start in, and observes.
//!
//! Owns the vantages and the order of a pass. One cell's life is in `flight` and `ping`, the wait in `chunk`.
//! Knows nothing of who asks, and nothing of what an observation is expected to be.

mod chunk;
mod error_queue;
mod failure;
mod flight;
mod held;
mod outcomes;
mod pass;
mod ping;
mod silence;
mod source_ports;
mod talk;
mod vantage;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use cknet_kernel::ns::NetNs;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::echo::Nonces;
use crate::wire::{Batch, Line, Observation, VantageId};
use flight::Keep;
use held::HeldConnections;
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
    held: HeldConnections,
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
        Ok(Self {
            home: NetNs::current()?,
            vantages: Vantages::default(),
            nonces: Nonces::default(),
            held: HeldConnections::default(),
        })
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

/// Connections that outlive a pass.
impl Prober {
    /// Opens a TCP connection to a cknet server and holds it under a name, if the server echoes a first word.
    pub fn hold(&mut self, name: &str, from: &VantageId, address: SocketAddr, quiet: Duration) -> Line {
        let entered = match self.vantages.get_mut(from) {
            None => Err(format!("no vantage `{from}` is attached")),
            Some(vantage) if !vantage.is_alive() => Err(gone(from)),
            Some(vantage) => {
                vantage.enter().map_err(|error| format!("cannot enter the namespace of `{from}`: {error}"))
            }
        };
        let line = match entered {
            Err(detail) => Line::Unknown { detail },
            Ok(()) => self.held.open(name, from, address, quiet, self.nonces.draw()),
        };
        let _ = self.home.enter();
        line
    }

    /// Sends a word over each of these connections and says what came back; a name under which none is held is
    /// unknown, and so is a connection whose own end is gone.
    pub fn exchange(&mut self, names: &[String], quiet: Duration) -> BTreeMap<String, Line> {
        let nonces = &mut self.nonces;
        let mut lines = self.held.exchange(names, quiet, || nonces.draw());
        for name in names {
            let from = self.held.vantage(name).cloned();
            let doubt = match from {
                None => Some(format!("no connection `{name}` is held")),
                // The socket keeps the namespace of a pod that has ended; silence in there is nobody's verdict.
                Some(from) => {
                    let alive = self.vantages.get_mut(&from).is_some_and(|vantage| vantage.is_alive());
                    (!alive).then(|| gone(&from))
                }
            };
            if let Some(detail) = doubt {
                lines.insert(name.clone(), Line::Unknown { detail });
            }
        }
        lines
    }

    /// Closes all connections that are held; says how many there were.
    pub fn release(&mut self) -> usize {
        self.held.release()
    }
}

fn gone(vantage: &VantageId) -> String {
    format!("the namespace of `{vantage}` is gone")
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
