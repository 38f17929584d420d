//! Calico's IPAM: blocks of a pool belong to nodes, and a node gives out the addresses of its blocks.
//!
//! The API server is the only arbiter: a block is claimed by creating it (the second creator gets 409) and changed
//! with its resourceVersion, so the CNI plugin and calico-node may work on the same block at the same time. For the
//! same reason what was seen last may be trusted until a change is refused.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::node::calico::resources::{
    AllocationAttribute, BlockAffinity, BlockAffinitySpec, IPAMBlock, IPAMBlockSpec, IPPool,
};

/// How often a change may lose against another writer before that is an error.
const ATTEMPTS: usize = 16;

/// Gives out the addresses of one node.
#[derive(Clone)]
pub struct Ipam {
    blocks: Api<IPAMBlock>,
    affinities: Api<BlockAffinity>,
    pools: Api<IPPool>,
    node: String,
    /// The node's blocks as they were last seen. Held during a change, so that pods that start at the same time do
    /// not lose against each other.
    known: Arc<Mutex<Option<Vec<IPAMBlock>>>>,
}

/// An address could not be given out or taken back.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    #[error("no IP pool is enabled")]
    NoPool,
    #[error("no free address: every block of pool(s) {0} is taken")]
    Exhausted(String),
    #[error("block {0} changed {ATTEMPTS} times while it was being written")]
    Contended(Ipv4Net),
    #[error("cannot reach the IPAM store: {0}")]
    Store(#[from] kube::Error),
}

impl Ipam {
    pub fn new(client: Client, node: &str) -> Self {
        Self {
            blocks: Api::all(client.clone()),
            affinities: Api::all(client.clone()),
            pools: Api::all(client),
            node: node.to_string(),
            known: Arc::default(),
        }
    }

    /// The blocks that belong to this node.
    async fn own_blocks(&self) -> Result<Vec<IPAMBlock>, IpamError> {
        let affinity = host(&self.node);
        let mut blocks = self.blocks.list(&ListParams::default()).await?.items;
        blocks.retain(|block| block.spec.affinity.as_deref() == Some(&affinity) && !block.spec.deleted);
        blocks.sort_by_key(|block| block.spec.cidr);
        Ok(blocks)
    }

    /// The address given out under `handle`, or a new one; from the node's blocks, from a new block when those are full.
    pub async fn assign(&self, handle: &str, attributes: &[(&str, &str)]) -> Result<Ipv4Addr, IpamError> {
        let pools = self.enabled_pools().await?;
        let mut known = self.known.lock().await;
        for _ in 0..ATTEMPTS {
            let (mut own, seen_now) = self.last_seen(&mut known).await?;
            if let Some(address) = own.iter().find_map(|block| address_of(&block.spec, handle)) {
                if seen_now {
                    return Ok(address);
                }
                continue;
            }
            let usable = |block: &IPAMBlock| {
                let in_pool = pools.iter().any(|pool| pool.spec.cidr.contains(&block.spec.cidr));
                in_pool && !block.spec.unallocated.is_empty()
            };
            let block = match own.iter().position(usable) {
                Some(place) => own.swap_remove(place),
                None => self.claim(&pools).await?,
            };
            if let Some((address, block)) = self.write(block, |spec| take(spec, handle, attributes)).await? {
                *known = Some(sorted(own, block));
                return Ok(address);
            }
        }
        Err(IpamError::Exhausted(names(&pools)))
    }

    /// Gives the address under `handle` back; none is no failure.
    pub async fn release(&self, handle: &str) -> Result<(), IpamError> {
        let mut known = self.known.lock().await;
        let mut contended = None;
        for _ in 0..ATTEMPTS {
            let (mut own, seen_now) = self.last_seen(&mut known).await?;
            let Some(place) = own.iter().position(|block| address_of(&block.spec, handle).is_some()) else {
                if seen_now {
                    *known = Some(own);
                    return Ok(());
                }
                continue;
            };
            let block = own.swap_remove(place);
            contended = Some(block.spec.cidr);
            if let Some(((), block)) = self.write(block, |spec| give_back(spec, handle)).await? {
                *known = Some(sorted(own, block));
                return Ok(());
            }
        }
        contended.map_or(Ok(()), |cidr| Err(IpamError::Contended(cidr)))
    }

    /// The node's blocks as they were last seen, and whether that is now. They are forgotten until they are put back,
    /// which happens after a change that succeeded.
    async fn last_seen(&self, known: &mut Option<Vec<IPAMBlock>>) -> Result<(Vec<IPAMBlock>, bool), IpamError> {
        match known.take() {
            Some(own) => Ok((own, false)),
            None => Ok((self.own_blocks().await?, true)),
        }
    }

    async fn enabled_pools(&self) -> Result<Vec<IPPool>, IpamError> {
        let mut pools = self.pools.list(&ListParams::default()).await?.items;
        pools.retain(|pool| !pool.spec.disabled);
        if pools.is_empty() { Err(IpamError::NoPool) } else { Ok(pools) }
    }

    /// Makes a free block of a pool this node's. The search starts at a place that depends on the node's name, so
    /// that nodes that start together seldom want the same block.
    async fn claim(&self, pools: &[IPPool]) -> Result<IPAMBlock, IpamError> {
        for pool in pools {
            let Ok(candidates) = pool.spec.cidr.subnets(pool.spec.block_size) else { continue };
            let candidates: Vec<Ipv4Net> = candidates.collect();
            let start = first_choice(&self.node, candidates.len());
            for cidr in candidates[start..].iter().chain(&candidates[..start]) {
                if let Some(block) = self.create(*cidr).await? {
                    return Ok(block);
                }
            }
        }
        Err(IpamError::Exhausted(names(pools)))
    }

    /// Creates a block, or `None` when another node was faster.
    async fn create(&self, cidr: Ipv4Net) -> Result<Option<IPAMBlock>, IpamError> {
        let size = 1usize << (32 - cidr.prefix_len());
        let spec = IPAMBlockSpec {
            cidr,
            affinity: Some(host(&self.node)),
            allocations: vec![None; size],
            attributes: Vec::new(),
            unallocated: (0..u32::try_from(size).unwrap_or(u32::MAX)).collect(),
            strict_affinity: false,
            deleted: false,
        };
        let block = IPAMBlock::new(&block_name(cidr), spec);
        match self.blocks.create(&PostParams::default(), &block).await {
            Ok(block) => {
                let spec = BlockAffinitySpec {
                    cidr,
                    node: self.node.clone(),
                    state: "confirmed".into(),
                    deleted: "false".into(),
                };
                let affinity = BlockAffinity::new(&format!("{}-{}", self.node, block_name(cidr)), spec);
                match self.affinities.create(&PostParams::default(), &affinity).await {
                    Err(error) if !is_conflict(&error) => Err(error.into()),
                    _ => Ok(Some(block)),
                }
            }
            Err(error) if is_conflict(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a changed block and returns it as it is now; `None` when somebody else changed it first or `change` found nothing to do.
    async fn write<T>(
        &self,
        mut block: IPAMBlock,
        change: impl FnOnce(&mut IPAMBlockSpec) -> Option<T>,
    ) -> Result<Option<(T, IPAMBlock)>, IpamError> {
        let Some(outcome) = change(&mut block.spec) else { return Ok(None) };
        match self.blocks.replace(&block_name(block.spec.cidr), &PostParams::default(), &block).await {
            Ok(block) => Ok(Some((outcome, block))),
            Err(error) if is_conflict(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// HTTP 409: the object exists, or was changed since it was read.
fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

fn host(node: &str) -> String {
    format!("host:{node}")
}

/// `10-1-0-0-26`, as Calico names the block 10.1.0.0/26.
pub fn block_name(cidr: Ipv4Net) -> String {
    cidr.to_string().replace(['.', '/'], "-")
}

fn names(pools: &[IPPool]) -> String {
    pools.iter().filter_map(|pool| pool.metadata.name.as_deref()).collect::<Vec<_>>().join(", ")
}

fn first_choice(node: &str, choices: usize) -> usize {
    let digest = Sha256::digest(node.as_bytes());
    let number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    number as usize % choices.max(1)
}

fn sorted(mut blocks: Vec<IPAMBlock>, one_more: IPAMBlock) -> Vec<IPAMBlock> {
    blocks.push(one_more);
    blocks.sort_by_key(|block| block.spec.cidr);
    blocks
}

fn ordinal_address(cidr: Ipv4Net, ordinal: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(cidr.network()) + ordinal)
}

fn address_of(spec: &IPAMBlockSpec, handle: &str) -> Option<Ipv4Addr> {
    let attribute = spec.attributes.iter().position(|attribute| attribute.handle_id.as_deref() == Some(handle))?;
    let ordinal = spec.allocations.iter().position(|allocation| *allocation == Some(attribute))?;
    Some(ordinal_address(spec.cidr, u32::try_from(ordinal).ok()?))
}

fn take(spec: &mut IPAMBlockSpec, handle: &str, attributes: &[(&str, &str)]) -> Option<Ipv4Addr> {
    if spec.unallocated.is_empty() {
        return None;
    }
    let ordinal = spec.unallocated.remove(0);
    let secondary = attributes.iter().map(|(key, value)| ((*key).to_string(), (*value).into())).collect();
    spec.attributes.push(AllocationAttribute { handle_id: Some(handle.to_string()), secondary });
    *spec.allocations.get_mut(ordinal as usize)? = Some(spec.attributes.len() - 1);
    Some(ordinal_address(spec.cidr, ordinal))
}

fn give_back(spec: &mut IPAMBlockSpec, handle: &str) -> Option<()> {
    let attribute = spec.attributes.iter().position(|attribute| attribute.handle_id.as_deref() == Some(handle))?;
    spec.attributes.remove(attribute);
    for (ordinal, allocation) in (0u32..).zip(&mut spec.allocations) {
        match allocation {
            Some(index) if *index == attribute => {
                *allocation = None;
                // The address that was given back is the last to be given out again.
                spec.unallocated.push(ordinal);
            }
            Some(index) if *index > attribute => *index -= 1,
            _ => {}
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn block() -> IPAMBlockSpec {
        IPAMBlockSpec {
            cidr: "10.1.7.64/26".parse().unwrap(),
            affinity: Some("host:w1".into()),
            allocations: vec![None; 64],
            attributes: Vec::new(),
            unallocated: (0..64).collect(),
            strict_affinity: false,
            deleted: false,
        }
    }

    #[test]
    fn addresses_are_given_out_in_order_and_come_back_last() {
        let mut spec = block();
        assert_eq!(take(&mut spec, "a", &[]).unwrap().to_string(), "10.1.7.64");
        assert_eq!(take(&mut spec, "b", &[]).unwrap().to_string(), "10.1.7.65");
        assert_eq!(take(&mut spec, "c", &[]).unwrap().to_string(), "10.1.7.66");
        give_back(&mut spec, "a").unwrap();
        assert_eq!(address_of(&spec, "a"), None);
        assert_eq!(address_of(&spec, "b").unwrap().to_string(), "10.1.7.65");
        assert_eq!(address_of(&spec, "c").unwrap().to_string(), "10.1.7.66");
        for _ in 0..61 {
            assert_ne!(take(&mut spec, "x", &[]).unwrap().to_string(), "10.1.7.64");
        }
        assert_eq!(take(&mut spec, "last", &[]).unwrap().to_string(), "10.1.7.64");
        assert_eq!(take(&mut spec, "none", &[]), None);
    }

    #[test]
    fn blocks_are_named_as_calico_names_them() {
        assert_eq!(block_name("10.251.217.0/26".parse().unwrap()), "10-251-217-0-26");
    }
}
