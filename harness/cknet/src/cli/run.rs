//! `cknet run`: the main job.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::former::EVENTS;
use super::interrupt::Interrupts;
use super::keep;
use super::place::{Machines, Place, Purpose, There};
use super::product::{self, Product};
use super::repeat::{FailFast, Repetitions};
use super::suite::Documents;
use super::{Selection, complain, print, suite};
use tokio_util::sync::CancellationToken;

use crate::distribution::Distribution;
use crate::distribution::recipe::Tell;
use crate::event::{Artifact, Fidelity, RunStarted, Summary};
use crate::exit::{ExitCode, ExitPolicy};
use crate::ledger::{Ledger, Resource, StateDir};
use crate::plan::{Offer, Partition, Plan, fidelity, plan};
use crate::provider::Provider;
use crate::report::junit::{Granularity, Junit, JunitOptions, Profile, SkippedReporting};
use crate::report::terminal::{Terminal, TerminalOptions, Verbosity};
use crate::report::{Fanout, Html, Ndjson, ReportError};
use crate::run::{Archive, Kept, Pace, Run, Sink, planned};
use crate::scenario::Scenario;

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub selection: Selection,
    /// Only one share of the scenarios, by the hash of their ids: `hash:2/3` is the second of three.
    #[arg(long, value_name = "hash:I/N")]
    pub partition: Option<Partition>,
    #[command(flatten)]
    pub product: Product,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub manner: Manner,
}

/// How scenarios are run, whichever they are.
#[derive(Debug, clap::Args)]
pub struct Manner {
    /// Decides about the order of scenarios; chosen by the clock and printed unless given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Leave clusters running after their scenarios until Ctrl-C, to look at them with `cknet shell` or kubectl.
    #[arg(long)]
    keep: bool,
    /// Take them down by itself after so long a time: 30m, 4h.
    #[arg(long, value_name = "TIME", requires = "keep", value_parser = keep::time)]
    keep_for: Option<Duration>,
    /// How many clusters may exist at once; unless given the number of processors, and one of virtual machines or of a
    /// real distribution.
    #[arg(long, value_name = "N")]
    clusters: Option<usize>,
    /// Run so many times, each time in another order, and say at the end what was not the same each time.
    #[arg(long, value_name = "N", conflicts_with = "keep", value_parser = clap::value_parser!(u32).range(1..))]
    repeat: Option<u32>,
    /// Stop as soon as an expectation is refuted, also with `--repeat`.
    #[arg(long, conflicts_with = "keep")]
    fail_fast: bool,
    #[command(flatten)]
    reports: Reports,
}

/// Where reports go and what they look like.
#[derive(Debug, Clone, clap::Args)]
pub struct Reports {
    /// The folder for reports; the run's own folder in the state directory unless given.
    #[arg(long, value_name = "DIR")]
    reports: Option<PathBuf>,
    /// Which readers the JUnit file is for.
    #[arg(long, value_enum, default_value_t = JunitProfile::Portable)]
    junit_profile: JunitProfile,
    /// What one JUnit test case is.
    #[arg(long, value_enum, default_value_t = JunitGranularity::Expectation)]
    junit_granularity: JunitGranularity,
    /// Which skipped cases are in the JUnit file.
    #[arg(long, value_enum, default_value_t = JunitSkipped::Unsupported)]
    junit_report_skipped: JunitSkipped,
    /// Say more: every step and every case.
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
    /// Say only what went wrong, and the sum.
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum JunitProfile {
    Portable,
    Rich,
    Xunit10,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum JunitGranularity {
    Scenario,
    Phase,
    Expectation,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum JunitSkipped {
    None,
    Unsupported,
    All,
}

pub async fn run(options: Options) -> ExitCode {
    // Of all that is said about a distribution, a cluster that is there has use for its image alone.
    let installed = options.product.installed();
    if let (true, Some(flag)) = (options.place.is_present(), installed.first()) {
        let problem = format!("`{flag}` says what is installed, and nothing is with `--kubeconfig`");
        return complain(ExitCode::Usage, &problem);
    }
    let there = match options.place.there(options.product.probe_image()).await {
        Ok(there) => there,
        Err(error) => return complain(error.code(), &error.to_string()),
    };
    let distribution = match there.cluster() {
        Some(present) => Ok(present.clone() as Arc<dyn Distribution>),
        None => options.product.distribution(telling()),
    };
    let distribution = match distribution {
        Ok(distribution) => distribution,
        Err(problem) => return complain(ExitCode::Usage, &problem),
    };
    let premises = distribution.premises().cloned();
    let read = suite::read_with_documents(&options.selection, distribution.profile(), premises);
    let (mut scenarios, documents) = match read {
        Ok(read) => read,
        Err(code) => return code,
    };
    if scenarios.is_empty() {
        return complain(ExitCode::NothingChecked, "no scenario was selected");
    }
    if let Some(partition) = options.partition {
        scenarios.retain(|scenario| partition.takes(scenario));
        if scenarios.is_empty() {
            return complain(ExitCode::NothingChecked, &format!("no selected scenario is in the share `{partition}`"));
        }
    }
    let seed = options.manner.seed.unwrap_or_else(seed_of_clock);
    keep::remind();
    // Before anything is made: a signal from now on finds somebody who takes it down.
    let interrupts = match Interrupts::listen() {
        Ok(interrupts) => interrupts,
        Err(error) => return complain(ExitCode::Infrastructure, &format!("cannot listen for signals: {error}")),
    };
    let once = Once {
        options: &options,
        there,
        distribution,
        scenarios: &scenarios,
        documents: &documents,
        interrupts: &interrupts,
    };
    let Some(times) = options.manner.repeat else {
        return once.carry_out(seed, None, None).await;
    };
    let repetitions = Repetitions::default();
    for number in 0..times {
        let seed = seed.wrapping_add(u64::from(number));
        super::note(&format!("repetition {} of {times}, seed {seed}", number + 1));
        let code = once.carry_out(seed, Some(number + 1), Some(&repetitions)).await;
        repetitions.done(seed, code);
        if interrupts.which().is_some() || options.manner.fail_fast && code != ExitCode::Passed {
            break;
        }
    }
    match print(&repetitions.text()) {
        ExitCode::Passed => repetitions.code(),
        code => code,
    }
}

/// What each repetition has in common.
struct Once<'a> {
    options: &'a Options,
    /// What was there before the run.
    there: There,
    distribution: Arc<dyn Distribution>,
    scenarios: &'a [Scenario],
    documents: &'a Documents,
    interrupts: &'a Interrupts,
}

impl Once<'_> {
    /// One run from beginning to end.
    async fn carry_out(&self, seed: u64, number: Option<u32>, repetitions: Option<&Repetitions>) -> ExitCode {
        let options = &self.options.manner;
        let shard = self.options.partition.map(|partition| partition.to_string());
        let workshop = match Workshop::open_with(self.distribution.clone(), &self.options.place, &self.there) {
            Ok(workshop) => workshop,
            Err(code) => return code,
        };
        let plan = match plan(self.scenarios.to_vec(), seed, &workshop.offer()) {
            Ok(plan) => plan,
            Err(error) => {
                workshop.close();
                return complain(ExitCode::Usage, &error.to_string());
            }
        };
        let documents = self.documents.clone();
        let opened = options.reports.open(&workshop.ledger, number, documents, shard.as_deref());
        let (mut reporters, mut artifacts) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                workshop.close();
                return complain(ExitCode::Infrastructure, &error.to_string());
            }
        };
        let evidence = Arc::new(Archive::open(&options.reports.folder(&workshop.ledger, number)));
        let stop = self.interrupts.stop.child_token();
        if options.fail_fast {
            reporters.add(FailFast(stop.clone()));
        }
        if let Some(repetitions) = repetitions {
            reporters.add(repetitions.listener(seed));
        }
        let sink = Arc::new(Sink::new(reporters));
        sink.tell(workshop.started(seed, self.scenarios, self.options));
        let job = Job {
            sink: sink.clone(),
            stop,
            // What is there already is there once.
            clusters: match self.there {
                There::Nothing => options.clusters.unwrap_or_else(|| workshop.at_once()),
                There::Cluster(..) | There::Hosts(_) => 1,
            },
            keep: options.keep.then(|| Kept { by: self.interrupts.stop.clone(), until: keep::until(options.keep_for) }),
            whole_within: true,
            evidence: Some(evidence.clone()),
        };
        workshop.carry_out(plan, job, self.interrupts).await;
        artifacts.extend(evidence.folder().map(|folder| artifact("evidence", &folder)));
        if let Some(problem) = evidence.problem() {
            super::note(&format!("error: evidence of failures could not be written: {problem}"));
        }
        let (summary, problems) = sink.finish(self.interrupts.which(), artifacts);
        workshop.close();
        conclude(&summary, &problems)
    }
}

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

    /// What is known before the first change to a network.
    pub fn started(&self, seed: u64, scenarios: &[Scenario], options: &Options) -> RunStarted {
        let mut again: Vec<String> = vec!["cknet".into(), "run".into()];
        again.extend(options.selection.filter.iter().cloned());
        let shard = options.partition.map(|partition| partition.to_string());
        again.extend(shard.iter().flat_map(|shard| ["--partition".into(), shard.clone()]));
        again.extend(options.product.words());
        again.extend(options.place.words());
        again.extend(["--seed".into(), seed.to_string()]);
        let system = nix::sys::utsname::uname().ok();
        let told = |part: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            system.as_ref().map(|system| part(system).to_string_lossy().into_owned()).unwrap_or_default()
        };
        RunStarted {
            run: self.ledger.run().clone(),
            seed,
            provider: self.provider.name().into(),
            distribution: self.distribution.name().into(),
            fidelity: fidelity(&*self.provider, &*self.distribution),
            host: told(|system| system.nodename()),
            kernel: told(|system| system.release()),
            arch: told(|system| system.machine()),
            cni: Some(self.cni()),
            versions: [("cknet".to_string(), env!("CARGO_PKG_VERSION").to_string())].into(),
            variant: [
                ("distribution".to_string(), self.distribution.name().to_string()),
                ("provider".to_string(), self.provider.name().to_string()),
            ]
            .into_iter()
            .chain(options.product.variant())
            .collect(),
            shard,
            again,
            planned: scenarios.iter().map(planned).collect(),
        }
    }

    /// The network of pods, for the record.
    fn cni(&self) -> String {
        match self.distribution.fidelity() {
            Fidelity::Cluster => self.distribution.profile().into(),
            Fidelity::Model | Fidelity::Dataplane => "calico (model)".into(),
        }
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
                super::note("interrupted again: what is left can be removed with `cknet gc`");
            }
            () = late => super::note("the clusters could not be taken down in time; try: cknet gc"),
        }
    }

    /// Writes down that nothing is left, if nothing is.
    pub fn close(&self) {
        if let Err(error) = self.ledger.close() {
            super::note(&format!("warning: {error}"));
        }
    }
}

/// The exit code of a run; reports that could not be written are told.
pub fn conclude(summary: &Summary, problems: &[ReportError]) -> ExitCode {
    for problem in problems {
        super::note(&format!("error: {problem}"));
    }
    let policy = ExitPolicy { reports_failed: !problems.is_empty(), ..ExitPolicy::default() };
    ExitCode::from_summary(summary, policy)
}

fn artifact(kind: &str, path: &Path) -> Artifact {
    Artifact { kind: kind.into(), path: path.display().to_string() }
}

impl Reports {
    /// Where they go. No repetition may overwrite the reports of another one.
    fn folder(&self, ledger: &Ledger, repetition: Option<u32>) -> PathBuf {
        match (&self.reports, repetition) {
            (None, _) => ledger.folder().to_path_buf(),
            (Some(folder), None) => folder.clone(),
            (Some(folder), Some(number)) => folder.join(format!("{number:03}")),
        }
    }

    /// The reporters, and the files that they write.
    pub fn open(
        &self,
        ledger: &Ledger,
        repetition: Option<u32>,
        documents: Documents,
        shard: Option<&str>,
    ) -> Result<(Fanout, Vec<Artifact>), ReportError> {
        let folder = self.folder(ledger, repetition);
        let verbosity = match (self.verbose, self.quiet) {
            (true, _) => Verbosity::Verbose,
            (_, true) => Verbosity::Quiet,
            _ => Verbosity::Normal,
        };
        let junit = JunitOptions {
            folder: folder.clone(),
            profile: match self.junit_profile {
                JunitProfile::Portable => Profile::Portable,
                JunitProfile::Rich => Profile::Rich,
                JunitProfile::Xunit10 => Profile::Xunit10,
            },
            granularity: match self.junit_granularity {
                JunitGranularity::Scenario => Granularity::Scenario,
                JunitGranularity::Phase => Granularity::Phase,
                JunitGranularity::Expectation => Granularity::Expectation,
            },
            skipped: match self.junit_report_skipped {
                JunitSkipped::None => SkippedReporting::None,
                JunitSkipped::Unsupported => SkippedReporting::Unsupported,
                JunitSkipped::All => SkippedReporting::All,
            },
        };
        let events = folder.join(EVENTS);
        let page = folder.join("report.html");
        let artifacts =
            vec![artifact("html", &page), artifact("junit", &junit.path(shard)), artifact("ndjson", &events)];
        let mut fanout = Fanout::default();
        // The files first: the terminal names them in its last words.
        fanout.add(Junit::new(junit));
        fanout.add(Ndjson::create(&events)?);
        fanout.add(Html::new(page, documents));
        fanout.add(Terminal::stdio(TerminalOptions { verbosity, policy: ExitPolicy::default() }));
        Ok((fanout, artifacts))
    }
}

/// An installation takes minutes: what is done on which node is told as it begins.
pub fn telling() -> Tell {
    Arc::new(|told| super::note(&format!("{} {}: {}", told.node, told.stage, told.doing)))
}

/// A seed for runs that name none.
fn seed_of_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(since.subsec_nanos())
}

pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
