//! The vantages: names for network namespaces, and whether each is still the one it was.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use cknet_kernel::ns::NetNs;

use super::source_ports::SourcePorts;
use crate::netns;
use crate::wire::VantageId;

/// A namespace could not be opened as a vantage.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the network namespace `{netns}`: {source}")]
pub struct AttachError {
    netns: String,
    source: io::Error,
}

/// One namespace that probes leave from.
#[derive(Debug)]
pub(super) struct Vantage {
    netns: NetNs,
    identity: (u64, u64),
    /// Where it was opened; nothing for the agent's own.
    path: Option<PathBuf>,
    pub(super) ports: SourcePorts,
}

impl Vantage {
    pub(super) fn enter(&self) -> io::Result<()> {
        self.netns.enter()
    }

    /// Whether its path still leads to the namespace that was attached.
    ///
    /// The open handle keeps a namespace alive after its pod has ended. Probes from such a leftover meet silence,
    /// which must not be taken for a policy's work.
    pub(super) fn is_alive(&self) -> bool {
        let Some(path) = &self.path else { return true };
        NetNs::open(path).and_then(|netns| netns.identity()).is_ok_and(|found| found == self.identity)
    }
}

#[derive(Debug, Default)]
pub(super) struct Vantages {
    by_id: HashMap<VantageId, Vantage>,
}

impl Vantages {
    pub(super) fn attach(&mut self, id: &VantageId, word: &str, home: &NetNs) -> Result<(), AttachError> {
        let failed = |source| AttachError { netns: word.to_owned(), source };
        let path = netns::path(word).map_err(failed)?;
        let opened = path.as_deref().map_or_else(|| Ok(home.clone()), NetNs::open).map_err(failed)?;
        let identity = opened.identity().map_err(failed)?;
        let vantage = Vantage { netns: opened, identity, path, ports: SourcePorts::default() };
        self.by_id.insert(id.clone(), vantage);
        Ok(())
    }

    pub(super) fn detach(&mut self, id: &VantageId) -> bool {
        self.by_id.remove(id).is_some()
    }

    pub(super) fn get_mut(&mut self, id: &VantageId) -> Option<&mut Vantage> {
        self.by_id.get_mut(id)
    }
}
