//! Evidence of failures: when it is gathered, and where it is kept until somebody looks for it.
//!
//! A scenario's phase leaves one bundle, however many of its cases fail. Nothing is gathered for a verdict that was
//! expected, nor under a sabotage, and no verdict depends on it.

mod archive;
mod redact;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

pub use self::archive::Archive;

use self::redact::Redactor;
use super::Run;
use super::stage::Stage;
use crate::cluster::evidence::{OwnPod, Piece, gather, whole};
use crate::cluster::{Cluster, ClusterError};
use crate::event::{Attachment, Outcome};
use crate::plan::{Purpose, Trial};
use crate::scenario::model::Phase;

/// Longest time from the first signal on: whoever interrupts a run does not want to wait, and everything is still to
/// be taken down.
const HASTE: Duration = Duration::from_secs(3);

/// What a scenario leaves that could not begin; no phase can have this name.
const BEFORE: &str = "_before";

/// Where the machines lie that made no cluster; no scenario can have this name.
const CLUSTERS: &str = "_clusters";

/// The evidence of one phase: gathered once, when it is first asked for.
#[derive(Default)]
pub struct OfPhase(OnceCell<Vec<Attachment>>);

impl OfPhase {
    /// Whether there will be files for a case with this outcome: whoever asks for them may have to wait.
    pub fn is_wanted(&self, stage: &Stage<'_>, outcome: &Outcome) -> bool {
        let judged = matches!(stage.purpose, Purpose::Judge) && stage.run.evidence.is_some();
        judged && matches!(outcome, Outcome::Fail { .. } | Outcome::Error { .. })
    }

    /// The files for a case with this outcome; none for one that needs no looking into.
    pub async fn of(&self, stage: &Stage<'_>, phase: &Phase, outcome: &Outcome) -> Vec<Attachment> {
        if !self.is_wanted(stage, outcome) {
            return Vec::new();
        }
        let gathered = self.0.get_or_init(|| {
            let placed = stage.placed.pods.iter().filter(|(_, pod)| pod.uid.is_some());
            let pods = placed.map(|(name, pod)| OwnPod {
                namespace: pod.namespace.clone(),
                name: name.to_string(),
                network: pod.netns().map(|netns| (pod.node.clone(), netns)),
            });
            bundle(
                stage.run,
                stage.cluster,
                stage.purpose,
                stage.scenario.id().as_str(),
                phase.id.as_str(),
                pods.collect(),
            )
        });
        gathered.await.clone()
    }
}

/// The files for a scenario that could not begin.
pub async fn before(run: &Run, cluster: &Cluster, trial: &Trial) -> Vec<Attachment> {
    let workloads = trial.scenario.workloads.iter();
    let pods = workloads.map(|(name, workload)| OwnPod {
        namespace: workload.namespace.to_string(),
        name: name.to_string(),
        network: None,
    });
    bundle(run, cluster, &trial.purpose, trial.scenario.id().as_str(), BEFORE, pods.collect()).await
}

async fn bundle(
    run: &Run,
    cluster: &Cluster,
    purpose: &Purpose,
    scenario: &str,
    phase: &str,
    pods: Vec<OwnPod>,
) -> Vec<Attachment> {
    let (Some(archive), Purpose::Judge) = (&run.evidence, purpose) else { return Vec::new() };
    if !archive.has_room(scenario, phase) {
        return Vec::new();
    }
    let scene = cluster.scene(&*run.distribution, pods);
    let pieces = gather(&scene, over(&run.stop)).await;
    keep(archive.clone(), [scenario, phase], pieces, Redactor::knowing(&cluster.kubeconfig)).await
}

/// Writes a bundle, away from the threads on which expectations are watched: looking for secrets takes its time.
async fn keep(archive: Arc<Archive>, place: [&str; 2], pieces: Vec<Piece>, redactor: Redactor) -> Vec<Attachment> {
    let [scenario, phase] = place.map(str::to_string);
    let written = tokio::task::spawn_blocking(move || archive.keep(&scenario, &phase, pieces, &redactor)).await;
    // It ends by itself only by a panic; then there is nothing to name.
    written.unwrap_or_default()
}

/// Ends when nothing more is waited for, and says why.
pub async fn over(stop: &CancellationToken) -> String {
    let haste = async {
        stop.cancelled().await;
        tokio::time::sleep(HASTE).await;
    };
    tokio::select! {
        why = whole() => why,
        () = haste => format!("not within {HASTE:?} from the interruption of the run"),
    }
}

/// Keeps what is known of machines that made no cluster: what the error says, with whatever their consoles said, and
/// what was found on them.
pub async fn of_no_cluster(
    run: &Run,
    key: &str,
    cluster: &str,
    error: &ClusterError,
    found: Vec<Piece>,
) -> Vec<Attachment> {
    let Some(archive) = run.evidence.as_ref().filter(|archive| archive.has_room(CLUSTERS, key)) else {
        return Vec::new();
    };
    let error = error.to_string();
    let pieces =
        std::iter::once(Piece::new("error.txt", Ok(format!("cluster {cluster}: {error}\n")))).chain(found).collect();
    let kept = keep(archive.clone(), [CLUSTERS, key], pieces, Redactor::default()).await;
    archive.remember(error, kept.clone());
    kept
}

/// What was kept of machines with this error: it is the error of every case that was waiting for them.
pub fn of_error(run: &Run, error: &ClusterError) -> Vec<Attachment> {
    run.evidence.as_ref().map(|archive| archive.of_error(&error.to_string())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_interrupted_run_waits_a_short_time_only() {
        let stop = CancellationToken::new();
        let started = tokio::time::Instant::now();
        assert_eq!(over(&stop).await, "not within 10s");
        assert_eq!(started.elapsed(), Duration::from_secs(10));
        stop.cancel();
        assert_eq!(over(&stop).await, "not within 3s from the interruption of the run");
        assert_eq!(started.elapsed(), Duration::from_secs(13));
    }
}
