//! Machines that a provider made for one topology and that end with their lease: how they become nodes, how they are
//! put back to the state in which they were new, and how they are given back.
//!
//! Owns the order in which that is done; a provider says by its [`Maker`] how each of it is done to its machines.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Boot, Machine, PrepareError, prepare, prepare_again};
use crate::provider::{Lease, Nodes, Provider, ProviderError, Release, Topology};

/// A provider whose machines are its own: it makes them, and removes them by [`Provider::reclaim`].
pub trait Maker: Provider + Clone + 'static {
    /// How its machines start.
    fn boot(&self) -> &Boot;

    /// Makes the machines of a topology. What was made of them when it fails is there until it is reclaimed.
    fn make(&self, key: &str, topology: &Topology) -> impl Future<Output = Result<Vec<Machine>, ProviderError>> + Send;

    /// Keeps the state of all machines; see [`Release::snapshot`]. What is kept goes with its machine.
    fn snapshot(
        &self,
        key: &str,
        topology: &Topology,
        nodes: Nodes,
    ) -> impl Future<Output = Result<Nodes, ProviderError>> + Send;

    /// Puts all machines back to the state that was kept; see [`Release::restore`].
    fn restore(&self, key: &str, topology: &Topology) -> impl Future<Output = Result<Nodes, ProviderError>> + Send;
}

/// The machines of a topology, where nothing is missing to make them.
pub async fn make<M: Maker>(maker: &M, key: &str, topology: &Topology) -> Result<Vec<Machine>, ProviderError> {
    let findings = maker.preflight();
    if !findings.is_empty() {
        return Err(ProviderError::Unfit { provider: maker.name(), findings });
    }
    maker.make(key, topology).await
}

/// What [`Provider::acquire`] is for such a provider.
pub async fn acquire<M: Maker>(maker: &M, key: &str, topology: &Topology) -> Result<Lease, ProviderError> {
    let machines = make(maker, key, topology).await?;
    let nodes = prepare(machines, topology, maker.boot()).await.map_err(|error| unprepared(maker, &error))?;
    let (maker, key, topology) = (maker.clone(), key.to_string(), topology.clone());
    Ok(Lease { nodes, release: Box::new(Made { maker, key, topology, kept: false }) })
}

/// Machines that were nodes before and have been started anew since.
pub async fn nodes_again<M: Maker>(
    maker: &M,
    machines: Vec<Machine>,
    topology: &Topology,
) -> Result<Nodes, ProviderError> {
    prepare_again(machines, topology, maker.boot()).await.map_err(|error| unprepared(maker, &error))
}

fn unprepared<M: Maker>(maker: &M, error: &PrepareError) -> ProviderError {
    let (provider, doing) = (maker.name(), "make its machines nodes".into());
    ProviderError::Failed { provider, doing, cause: error.to_string() }
}

/// Machines that are there, with whatever was made for them.
struct Made<M> {
    maker: M,
    key: String,
    topology: Topology,
    /// Each machine has a snapshot; it goes with its machine.
    kept: bool,
}

impl<M: Maker> Release for Made<M> {
    fn snapshot<'a>(&'a mut self, nodes: Nodes) -> BoxFuture<'a, Result<Nodes, ProviderError>> {
        async move {
            let nodes = self.maker.snapshot(&self.key, &self.topology, nodes).await?;
            self.kept = true;
            Ok(nodes)
        }
        .boxed()
    }

    fn restore<'a>(&'a mut self) -> BoxFuture<'a, Result<Option<Nodes>, ProviderError>> {
        async move {
            if !self.kept {
                return Ok(None);
            }
            self.maker.restore(&self.key, &self.topology).await.map(Some)
        }
        .boxed()
    }

    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), ProviderError>> {
        async move { self.maker.reclaim(&self.key).await }.boxed()
    }

    fn holder(&self) -> Option<u32> {
        None
    }
}
