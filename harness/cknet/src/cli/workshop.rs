//! Where a command's clusters come from: one ledger, one provider and one distribution; and how a plan is carried out
//! there, with an end to the waiting. Must not know which command it is.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::interrupt::Interrupts;
use super::place::{Machines, Place, Purpose, There};
use super::{complain, keep, note, product};
use crate::distribution::Distribution;
use crate::distribution::recipe::Tell;
use crate::event::Fidelity;
use crate::exit::ExitCode;
use crate::ledger::{Ledger, Resource, StateDir};
use crate::plan::{Offer, Plan};
use crate::provider::Provider;
use crate::run::{Archive, Kept, Pace, Run, Sink};

/// One run's clusters: how they are made and what is known about them.
pub struct Workshop {
    pub ledger: Arc<Ledger>,
    provider: Arc<dyn Provider>,
    distribution: Arc<dyn Distribution>,
}

/// What is to be done in a workshop.
pub struct Job {
    pub sink: Arc<Sink>,
    /// Asked to stop.
    pub stop: CancellationToken,
    pub clusters: usize,
    /// What is made is left standing.
    pub keep: Option<Kept>,
    /// Sabotaged expectations get their whole `within`.
    pub whole_within: bool,
    /// Where evidence of failures is kept, if any is to be gathered.
    pub evidence: Option<Arc<Archive>>,
}

impl Workshop {
    /// Begins a ledger in the state directory, for nodes that are made for the purpose.
    pub fn open(distribution: Arc<dyn Distribution>, machines: &Machines) -> Result<Self, ExitCode> {
        Self::open_with(distribution, &machines.clone().into(), &There::Nothing)
    }

    /// Begins a ledger in the state directory; or the exit code, after it was told why there is nothing to begin.
    pub fn open_with(distribution: Arc<dyn Distribution>, place: &Place, there: &There) -> Result<Self, ExitCode> {
        let begun = StateDir::from_env(|name| std::env::var_os(name))
            .map_err(|error| error.to_string())
            .and_then(|state| state.begin().map_err(|error| error.to_string()));
        let ledger = Arc::new(begun.map_err(|problem| complain(ExitCode::Infrastructure, &problem))?);
        let way_out = distribution.fidelity() == Fidelity::Cluster;
        let purpose = Purpose { run: ledger.run().as_str(), folder: ledger.folder(), way_out };
        let provider = place.provider(there, &purpose);
        let workshop = Self { ledger, provider, distribution };
        if let Err(problem) = product::fits(workshop.provider(), workshop.distribution()) {
            workshop.close();
            return Err(complain(ExitCode::Usage, &problem));
        }
        Ok(workshop)
    }

    pub fn provider(&self) -> &dyn Provider {
        &*self.provider
    }

    /// How many clusters there are at the same time unless somebody knows better. Nodes of a real distribution want
    /// gigabytes each.
    pub fn at_once(&self) -> usize {
        let one = (self.distribution.fidelity() == Fidelity::Cluster).then_some(1);
        one.or_else(|| self.provider.at_once()).unwrap_or_else(processors)
    }

    pub fn distribution(&self) -> &dyn Distribution {
        &*self.distribution
    }

    /// A cluster of that name, for the ledger.
    pub fn resource(&self, key: &str) -> Resource {
        Resource::new(format!("{}-cluster", self.provider.name()), self.provider.name(), key)
    }

    /// What can be asked of its clusters.
    pub fn offer(&self) -> Offer {
        Offer::new(&*self.provider, &*self.distribution)
    }

    /// Carries a plan out; the second signal, or too long a take-down after the first, ends the waiting.
    pub async fn carry_out(&self, plan: Plan, job: Job, interrupts: &Interrupts) {
        if let Some(kept) = &job.keep {
            keep::end_at(kept.until, interrupts.stop.clone());
        }
        let run = Arc::new(Run {
            provider: self.provider.clone(),
            distribution: self.distribution.clone(),
            ledger: self.ledger.clone(),
            sink: job.sink,
            stop: job.stop.clone(),
            clusters: job.clusters,
            keep: job.keep,
            pace: Pace::new(job.whole_within),
            evidence: job.evidence,
        });
        let late = async {
            job.stop.cancelled().await;
            tokio::time::sleep(self.provider.take_down()).await;
        };
        tokio::select! {
            () = run.carry_out(plan) => {}
            () = interrupts.give_up.cancelled() => {
                note("interrupted again: what is left can be removed with `cknet gc`");
            }
            () = late => note("the clusters could not be taken down in time; try: cknet gc"),
        }
    }

    /// Writes down that nothing is left, if nothing is.
    pub fn close(&self) {
        if let Err(error) = self.ledger.close() {
            note(&format!("warning: {error}"));
        }
    }
}

/// An installation takes minutes: what is done on which node is told as it begins.
pub fn telling() -> Tell {
    Arc::new(|told| note(&format!("{} {}: {}", told.node, told.stage, told.doing)))
}

pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
