//! Clusters are made, made again on the machines of the one before, and taken down, all of it noted in the ledger and
//! told. It must not know what is done on them.

use std::time::Instant;

use super::{Run, evidence, millis};
use crate::cluster::evidence::Piece;
use crate::cluster::{Cluster, ClusterError};
use crate::event::{ClusterAcquiring, ClusterFailed, ClusterReady, Leak, MachinesBroken};
use crate::ledger::{NODES, Resource, UNTIL};
use crate::plan::PlannedCluster;
use crate::provider::{Lease, Release};

/// A cluster that is there.
pub struct Made {
    /// The name of its machines within the run.
    pub key: String,
    pub cluster: Cluster,
}

/// What became of machines that were to be used again.
enum Again {
    Ready(Box<Cluster>),
    /// They cannot be; they are still there.
    NothingKept(Box<dyn Release>),
}

impl Run {
    /// Makes machines and a cluster on them. With `keep` the state of the machines is kept before that, so that another
    /// cluster can be put on them.
    pub(super) async fn make(&self, key: &str, planned: &PlannedCluster, keep: bool) -> Result<Made, ClusterError> {
        let started = Instant::now();
        self.sink.tell(ClusterAcquiring { cluster: planned.name.clone(), nodes: nodes(planned) });
        let resource = self.resource(key);
        let mut found = Vec::new();
        let creating = async {
            self.ledger.intent(&resource)?;
            let Lease { mut nodes, mut release } = self.provider.acquire(key, &planned.topology).await?;
            if keep {
                nodes = release.snapshot(nodes).await.map_err(ClusterError::NotKept)?;
            }
            let wanted = self.evidence.is_some().then_some(&mut found);
            self.put_on(Lease { nodes, release }, planned, started, wanted).await
        };
        let made = tokio::select! {
            made = creating => made,
            () = self.stop.cancelled() => Err(ClusterError::Interrupted),
        };
        match self.written_down(made, resource).await {
            Ok(cluster) => {
                self.ready(planned, &cluster, false);
                Ok(Made { key: key.into(), cluster })
            }
            Err(error) => {
                match &error {
                    // That is no failure of the cluster's; the summary tells of the signal.
                    ClusterError::Interrupted => {}
                    ClusterError::NotKept(_) => self.broken(planned, &error, started),
                    error => {
                        let took_ms = millis(started.elapsed());
                        let evidence = evidence::of_no_cluster(self, key, &planned.name, error, found).await;
                        let (cluster, kind, message) = (planned.name.clone(), error.kind(), error.to_string());
                        self.sink.tell(ClusterFailed { cluster, kind, message, took_ms, evidence });
                    }
                }
                Err(error)
            }
        }
    }

    /// Puts the machines of a cluster that was used back to what they were before it, and another cluster on them.
    /// `None` when that cannot be done or did not work: then they are gone.
    pub(super) async fn make_again(&self, used: Made, planned: &PlannedCluster, leaks: &mut Vec<Leak>) -> Option<Made> {
        let started = Instant::now();
        let Made { key, cluster } = used;
        let restoring = async {
            let (release, restored) = cluster.restore().await;
            let Some(nodes) = restored? else { return Ok(Again::NothingKept(release)) };
            self.sink.tell(ClusterAcquiring { cluster: planned.name.clone(), nodes: self::nodes(planned) });
            let put = self.put_on(Lease { nodes, release }, planned, started, None).await;
            put.map(|cluster| Again::Ready(Box::new(cluster)))
        };
        let restored = tokio::select! {
            restored = restoring => restored,
            () = self.stop.cancelled() => Err(ClusterError::Interrupted),
        };
        let removed = match restored {
            Ok(Again::Ready(cluster)) => {
                self.ready(planned, &cluster, true);
                return Some(Made { key, cluster: *cluster });
            }
            Ok(Again::NothingKept(release)) => release.release().await,
            Err(error) => {
                if !matches!(error, ClusterError::Interrupted) {
                    self.broken(planned, &error, started);
                }
                self.provider.reclaim(&key).await
            }
        };
        leaks.extend(match removed {
            Ok(()) => self.gone(&key),
            Err(left) => Some(Leak { kind: "cluster".into(), name: key, message: left.to_string() }),
        });
        None
    }

    /// Makes a cluster of nodes; what was done for them began at that time.
    async fn put_on(
        &self,
        lease: Lease,
        planned: &PlannedCluster,
        since: Instant,
        found: Option<&mut Vec<Piece>>,
    ) -> Result<Cluster, ClusterError> {
        let provision = since.elapsed();
        Cluster::on(lease, &*self.provider, &*self.distribution, &planned.spec, provision, found).await
    }

    /// Takes a cluster down.
    pub(super) async fn unmake(&self, made: Made) -> Option<Leak> {
        let Made { key, cluster } = made;
        match cluster.destroy().await {
            Ok(()) => self.gone(&key),
            Err(error) => Some(Leak { kind: "cluster".into(), name: key, message: error.to_string() }),
        }
    }

    /// Notes in the ledger that nothing is left of a cluster.
    fn gone(&self, key: &str) -> Option<Leak> {
        let noted = self.ledger.destroyed(&self.resource(key).key);
        noted.err().map(|error| Leak { kind: "cluster".into(), name: key.into(), message: error.to_string() })
    }

    /// Notes in the ledger what became of an attempt. A cluster that cannot be noted is taken down again.
    async fn written_down(
        &self,
        made: Result<Cluster, ClusterError>,
        resource: Resource,
    ) -> Result<Cluster, ClusterError> {
        let cluster = match made {
            Ok(cluster) => cluster,
            Err(error) => {
                // What does not end with the attempt is removed; what cannot be stays in the ledger.
                match self.provider.reclaim(&resource.key.name).await {
                    Ok(()) => self.ledger.destroyed(&resource.key)?,
                    Err(left) => return Err(ClusterError::Left { made: error.to_string(), left: left.to_string() }),
                }
                return Err(error);
            }
        };
        let key = resource.key.clone();
        let resource = match self.keep.as_ref().and_then(|kept| kept.until) {
            Some(until) => resource.with(UNTIL, until.to_string()),
            None => resource,
        };
        let named: Vec<&str> = cluster.nodes.by_name.keys().map(String::as_str).collect();
        let resource = resource.with(NODES, named.join(" "));
        let resource = match cluster.holder() {
            Some(process) => resource.with("process", process.to_string()),
            None => resource,
        };
        if let Err(error) = self.ledger.created(&resource) {
            cluster.destroy().await?;
            // The first error is the reason; where not even this can be written, the collection has nothing to do.
            let _ = self.ledger.destroyed(&key);
            return Err(error.into());
        }
        Ok(cluster)
    }

    fn resource(&self, key: &str) -> Resource {
        Resource::new(format!("{}-cluster", self.provider.name()), self.provider.name(), key)
    }

    fn ready(&self, planned: &PlannedCluster, cluster: &Cluster, restored: bool) {
        self.sink.tell(ClusterReady {
            cluster: planned.name.clone(),
            nodes: nodes(planned),
            provision_ms: millis(cluster.timings.provision),
            bootstrap_ms: millis(cluster.timings.bootstrap + cluster.timings.ready),
            restored,
        });
    }

    /// What it says does no harm to any verdict: new machines are made.
    fn broken(&self, planned: &PlannedCluster, error: &ClusterError, since: Instant) {
        self.sink.tell(MachinesBroken {
            cluster: planned.name.clone(),
            message: error.to_string(),
            took_ms: millis(since.elapsed()),
        });
    }
}

fn nodes(planned: &PlannedCluster) -> Vec<String> {
    planned.topology.nodes.iter().map(|node| node.name.clone()).collect()
}
