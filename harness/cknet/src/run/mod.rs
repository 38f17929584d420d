//! A run: clusters are made, scenarios carried out on them, verdicts told, everything taken down.
//!
//! What happens is told as events and nothing else; how it is shown is not known here. Each task makes one
//! cluster after the other; the scenarios of a cluster follow each other.

mod cases;
mod evidence;
mod expect;
mod firewalld;
mod making;
mod pace;
mod proxy;
mod queue;
mod registry;
mod reset;
mod scenario;
mod service;
mod sink;
mod stage;
mod steps;
mod waits;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::cases::planned;
pub use self::evidence::Archive;
pub use self::expect::output;
pub use self::pace::Pace;
pub use self::sink::Sink;
pub use self::steps::describe;

use crate::cluster::{Cluster, ClusterError};
use crate::distribution::Distribution;
use crate::event::{Cleanup, InfraKind, Leak, Outcome, SkipCause};
use crate::ledger::{Ledger, LedgerError};
use crate::plan::{Plan, Trial};
use crate::provider::Provider;
use crate::scenario::Scenario;

use self::making::Made;
use self::queue::{Kind, Queue};

/// Clusters that are left standing for a person.
#[derive(Clone)]
pub struct Kept {
    /// Ends them.
    pub by: CancellationToken,
    /// When they are ended by themselves.
    pub until: Option<Timestamp>,
}

/// What a run works with.
pub struct Run {
    pub provider: Arc<dyn Provider>,
    pub distribution: Arc<dyn Distribution>,
    pub ledger: Arc<Ledger>,
    pub sink: Arc<Sink>,
    /// Asked to stop: nothing new is begun, what is under way ends soon, everything is taken down.
    pub stop: CancellationToken,
    /// How many clusters may exist at once.
    pub clusters: usize,
    /// Leave the clusters standing until this is cancelled too.
    pub keep: Option<Kept>,
    /// How long expectations take without a sabotage.
    pub pace: Pace,
    /// Where evidence of failures is kept; without it none is gathered.
    pub evidence: Option<Arc<Archive>>,
}

impl Run {
    /// Carries the plan out. The caller has told `RunStarted` and will tell `RunFinished`. Whoever drops this drops
    /// the clusters with it.
    pub async fn carry_out(self: Arc<Self>, plan: Plan) {
        let started = Instant::now();
        for (scenario, reason) in &plan.skipped {
            for case in planned(scenario).cases {
                let outcome = Outcome::Skipped { cause: SkipCause::Unsupported, reason: reason.clone(), enable: None };
                self.sink.judged(case, outcome);
            }
        }
        let queue = Arc::new(Queue::new(plan.clusters));
        let mut tasks = JoinSet::new();
        for _ in 0..self.clusters.max(1) {
            let (run, queue) = (self.clone(), queue.clone());
            tasks.spawn(async move { run.clusters_one_by_one(&queue).await });
        }
        let mut leaks = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(found) => leaks.extend(found),
                Err(panic) => leaks.push(Leak {
                    kind: "task".into(),
                    name: "cluster".into(),
                    message: format!("it ended by itself: {panic}"),
                }),
            }
        }
        let took_ms = millis(started.elapsed());
        self.sink.tell(Cleanup { leaks, kept: None, took_ms });
    }

    /// Carries out kind by kind until there are none; what cannot be removed.
    async fn clusters_one_by_one(&self, queue: &Queue) -> Vec<Leak> {
        let mut leaks = Vec::new();
        // The cluster that was used last, if it is still there, on machines of that kind's topology.
        let mut used: Option<(Made, &Kind)> = None;
        // What is kept for a person is made once.
        while let Some((number, kind)) =
            queue.next(self.keep.is_none(), used.as_ref().map(|(_, kind)| &kind.planned.topology))
        {
            let machines = match used.take() {
                Some((made, before)) if before.planned.topology == kind.planned.topology => Some(made),
                Some((made, _)) => {
                    leaks.extend(self.unmake(made).await);
                    None
                }
                None => None,
            };
            used = self.on_clusters(number, kind, queue, machines, &mut leaks).await.map(|made| (made, kind));
        }
        if let Some((made, _)) = used {
            leaks.extend(self.unmake(made).await);
        }
        leaks
    }

    /// Carries out batches of one kind until there are none, on one cluster after the other where that is needed; the
    /// first perhaps on the machines of one that was used. The cluster that was used last.
    async fn on_clusters(
        &self,
        number: usize,
        kind: &Kind,
        queue: &Queue,
        mut used: Option<Made>,
        leaks: &mut Vec<Leak>,
    ) -> Option<Made> {
        let mut waiting: VecDeque<Trial> = VecDeque::new();
        let mut may_keep = self.keep.is_none();
        while !self.stop.is_cancelled() && refill(&mut waiting, kind) {
            let again = match used.take() {
                Some(made) => self.make_again(made, &kind.planned, leaks).await,
                None => None,
            };
            if self.stop.is_cancelled() && again.is_none() {
                break;
            }
            let made = match again {
                Some(made) => Ok(made),
                None => {
                    let key = format!("c{number}-{}", kind.another());
                    let keep = may_keep && queue.wants_again(kind, &waiting);
                    self.make(&key, &kind.planned, keep).await
                }
            };
            match made {
                Ok(made) => {
                    self.leave_kubeconfig(&made);
                    self.trials_on(&made.cluster, kind, &mut waiting).await;
                    self.hold_if_kept().await;
                    used = Some(made);
                }
                // Without a snapshot there is only more to make.
                Err(ClusterError::NotKept(_)) => may_keep = false,
                Err(error) => {
                    while refill(&mut waiting, kind) {
                        for trial in waiting.drain(..) {
                            self.tell_all_errors(&trial.scenario, &error);
                        }
                    }
                }
            }
        }
        used
    }

    /// Carries out trials until there are none or one has left the cluster in a state that cannot be undone.
    async fn trials_on(&self, cluster: &Cluster, kind: &Kind, waiting: &mut VecDeque<Trial>) {
        while refill(waiting, kind) {
            let Some(trial) = waiting.pop_front() else { return };
            if self.stop.is_cancelled() {
                return;
            }
            let again = scenario::carry_out(self, cluster, &kind.planned.name, &trial).await;
            if again == stage::Reuse::No {
                return;
            }
        }
    }

    /// With `--keep` the cluster stands until the run is told to end it.
    async fn hold_if_kept(&self) {
        if let Some(Kept { by: until, .. }) = &self.keep {
            until.cancelled().await;
        }
    }

    /// A kept cluster can be worked with from its first moment on.
    fn leave_kubeconfig(&self, made: &Made) {
        if self.keep.is_none() {
            return;
        }
        let path = self.ledger.folder().join(format!("{}.kubeconfig", made.key));
        // A convenience: without it the cluster can still be looked at with `cknet shell`.
        let _ = crate::private_file::write(&path, &made.cluster.kubeconfig);
    }

    /// A cluster that could not be made says nothing about any claim.
    fn tell_all_errors(&self, scenario: &Scenario, error: &ClusterError) {
        if matches!(error, ClusterError::Interrupted) {
            return;
        }
        let evidence = evidence::of_error(self, error);
        for case in planned(scenario).cases {
            let outcome = Outcome::Error { kind: error.kind(), message: error.to_string() };
            self.sink.judged_by(case, outcome, evidence.clone());
        }
    }
}

/// Takes the next batch when nothing waits; whether there is something to do.
fn refill(waiting: &mut VecDeque<Trial>, kind: &Kind) -> bool {
    if waiting.is_empty() {
        waiting.extend(kind.take().unwrap_or_default());
    }
    !waiting.is_empty()
}

impl ClusterError {
    /// Which part of the machinery broke.
    pub fn kind(&self) -> InfraKind {
        match self {
            Self::Provider(crate::provider::ProviderError::Unfit { .. }) => InfraKind::Preflight,
            Self::Provider(_) | Self::NotKept(_) | Self::Node(_) | Self::Overlap { .. } | Self::Ledger(_) => {
                InfraKind::Provision
            }
            Self::Interrupted => InfraKind::Internal,
            _ => InfraKind::Bootstrap,
        }
    }
}

impl From<LedgerError> for ClusterError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error.to_string())
    }
}

/// A duration in whole milliseconds, as events carry it.
pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
