//! The objects that a new cluster of this distribution holds: Calico with its configuration, and cluster DNS.
//!
//! Data files with the cluster's own values filled in, and the one function that writes them. It knows nothing of how
//! the objects come to life.

mod apply;
mod calico;
mod canal;
mod dns;

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use kube::Client;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use apply::ApplyError;

/// How packets between pods of different nodes travel, as the IP pool says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encapsulation {
    /// `vxlanMode: Always`.
    Always,
    /// `vxlanMode: CrossSubnet`: only between nodes that are not on one network.
    CrossSubnet,
    /// `vxlanMode: Never`: routes that BIRD exchanges over BGP.
    Never,
}

/// Which CNI a new cluster has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cni {
    /// Calico's DaemonSet and its IP pool.
    #[default]
    Calico,
    /// Flannel for packets, Calico for policy.
    Canal,
    /// None that is made of objects: somebody installs one later, or it is a part of the node's own process.
    Absent,
}

/// What the objects of a new cluster depend on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AddonSpec {
    #[serde(default)]
    pub cni: Cni,
    pub pod_cidr: Ipv4Net,
    pub service_cidr: Ipv4Net,
    /// The prefix length of the blocks that nodes take from the pool, 20 to 32. Calico's default is 26.
    pub block_size: u8,
    pub encapsulation: Encapsulation,
    /// BIRD runs on each node.
    #[serde(default)]
    pub bird: bool,
    /// Calico's `IP_AUTODETECTION_METHOD`, such as `interface=eth1`; Calico takes the first address found if none.
    pub autodetection: Option<String>,
    /// Such as `cluster.local`.
    pub cluster_domain: String,
}

impl AddonSpec {
    /// The address of cluster DNS: the tenth of the service network.
    pub fn dns_address(&self) -> Result<Ipv4Addr, AddonError> {
        let address = Ipv4Addr::from(u32::from(self.service_cidr.network()).wrapping_add(10));
        if self.service_cidr.contains(&address) { Ok(address) } else { Err(AddonError::ServiceCidr(self.service_cidr)) }
    }

    fn check(&self) -> Result<(), AddonError> {
        let is_block = (20..=32).contains(&self.block_size) && self.block_size >= self.pod_cidr.prefix_len();
        if !is_block {
            return Err(AddonError::BlockSize { size: self.block_size, pool: self.pod_cidr });
        }
        self.dns_address().map(drop)
    }
}

/// Why the objects could not be made or written.
#[derive(Debug, thiserror::Error)]
pub enum AddonError {
    #[error("service network `{0}` is too small: cluster DNS takes its tenth address")]
    ServiceCidr(Ipv4Net),
    #[error(
        "blocks of size /{size} do not fit pod network `{pool}`: 20 to 32 and no larger than the network are allowed"
    )]
    BlockSize { size: u8, pool: Ipv4Net },
    #[error("cannot read built-in file `{file}`: {cause}")]
    File { file: &'static str, cause: String },
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// Writes all objects of a new cluster; what is there already is brought to the same state.
///
/// # Errors
/// The specification is impossible, or the API refuses an object; those that were written before it stay.
pub async fn apply(client: &Client, spec: &AddonSpec) -> Result<(), AddonError> {
    spec.check()?;
    let mut objects = match spec.cni {
        Cni::Calico => calico::objects(spec, &apply::identity(client).await?)?,
        Cni::Canal => canal::objects(spec)?,
        Cni::Absent => Vec::new(),
    };
    objects.extend(dns::objects(spec)?);
    Ok(apply::apply(client, objects).await?)
}

/// The documents of a data file.
fn documents(file: &'static str, text: &str) -> Result<Vec<Value>, AddonError> {
    serde_saphyr::from_multiple(text).map_err(|cause| problem(file, cause))
}

fn problem(file: &'static str, cause: impl ToString) -> AddonError {
    AddonError::File { file, cause: cause.to_string() }
}

/// Lets `fill` complete each document of one kind in its own type.
fn fill<K>(file: &'static str, documents: &mut [Value], kind: &str, fill: impl Fn(&mut K)) -> Result<(), AddonError>
where
    K: Serialize + DeserializeOwned,
{
    for document in documents.iter_mut().filter(|document| document["kind"] == kind) {
        let mut object: K = serde_json::from_value(document.take()).map_err(|cause| problem(file, cause))?;
        fill(&mut object);
        *document = serde_json::to_value(object).map_err(|cause| problem(file, cause))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
