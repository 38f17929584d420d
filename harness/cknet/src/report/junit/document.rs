//! Owns the shape of the report: one level of suites, one per scenario, and one for the clusters and the
//! clean-up. It must not know XML.

use jiff::Timestamp;

use super::naming::{Names, classname, suffix};
use super::testcase::{TestCase, Trouble, Verdict, aborted, attach, fold, testcase};
use super::{Granularity, JunitOptions, SkippedReporting};
use crate::event::{Cleanup, ClusterFailed, InfraKind, Outcome, RunStarted, SkipCause};
use crate::report::gather::{Cluster, Gathered, Heard, Scenario};

/// The whole report.
#[derive(Debug)]
pub struct Document {
    pub timestamp: Timestamp,
    pub time_ms: u64,
    pub suites: Vec<Suite>,
}

#[derive(Debug)]
pub struct Suite {
    pub name: String,
    pub classname: String,
    pub file: Option<String>,
    pub hostname: String,
    pub timestamp: Timestamp,
    pub time_ms: u64,
    pub properties: Vec<(String, String)>,
    pub cases: Vec<TestCase>,
}

/// Numbers of cases, always counted and never kept, so that they cannot disagree with the cases.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    pub tests: usize,
    pub failures: usize,
    pub errors: usize,
    pub skipped: usize,
}

impl Numbers {
    /// Counts `cases`.
    pub fn of<'a>(cases: impl IntoIterator<Item = &'a TestCase>) -> Self {
        let mut numbers = Self::default();
        for case in cases {
            numbers.tests += 1;
            match case.verdict {
                Verdict::Passed => {}
                Verdict::Failure(_) => numbers.failures += 1,
                Verdict::Error(_) => numbers.errors += 1,
                Verdict::Skipped { .. } => numbers.skipped += 1,
            }
        }
        numbers
    }
}

/// The report on what was heard so far; `None` before the run has started.
pub fn build(gathered: &Gathered, options: &JunitOptions) -> Option<Document> {
    let run = gathered.run()?;
    let mut shape = Shape { run, options, names: Names::default(), started: gathered.started_at() };
    let mut suites: Vec<Suite> = gathered.scenarios.iter().map(|scenario| shape.scenario(scenario)).collect();
    suites.push(shape.infrastructure(gathered));
    // Jenkins does not record a suite without cases.
    suites.retain(|suite| !suite.cases.is_empty());
    Some(Document { timestamp: gathered.started_at(), time_ms: gathered.took_ms(), suites })
}

struct Shape<'a> {
    run: &'a RunStarted,
    options: &'a JunitOptions,
    names: Names,
    started: Timestamp,
}

impl Shape<'_> {
    fn scenario(&mut self, scenario: &Scenario) -> Suite {
        let classname = classname(&scenario.id);
        let heard: Vec<&Heard> = scenario.cases.iter().filter(|heard| self.is_shown(heard)).collect();
        let mut cases = Vec::new();
        for (title, group) in self.groups(scenario, heard) {
            let name = self.name(&classname, &title);
            let parts: Vec<TestCase> = group.iter().map(|heard| testcase(heard, name.clone())).collect();
            match self.options.granularity {
                Granularity::Expectation => cases.extend(parts),
                Granularity::Phase | Granularity::Scenario => cases.extend(fold(name, parts)),
            }
        }
        let own_time = cases.iter().fold(0, |sum: u64, case| sum.saturating_add(case.time_ms));
        Suite {
            file: Some(scenario.file.clone()),
            timestamp: scenario.started.unwrap_or(self.started),
            time_ms: scenario.took_ms.unwrap_or(own_time),
            ..self.suite(&scenario.id, classname, cases)
        }
    }

    /// The cases that make one `<testcase>`, with its title.
    fn groups<'h>(&self, scenario: &Scenario, heard: Vec<&'h Heard>) -> Vec<(String, Vec<&'h Heard>)> {
        let mut groups: Vec<(String, Vec<&'h Heard>)> = Vec::new();
        for heard in heard {
            let (title, joins) = match self.options.granularity {
                Granularity::Expectation => (heard.case.short_title(), false),
                Granularity::Phase => (heard.case.phase.clone(), true),
                Granularity::Scenario => (scenario.id.clone(), true),
            };
            match groups.iter_mut().find(|(known, _)| joins && *known == title) {
                Some((_, group)) => group.push(heard),
                None => groups.push((title, vec![heard])),
            }
        }
        groups
    }

    fn is_shown(&self, heard: &Heard) -> bool {
        let Some(Outcome::Skipped { cause, .. }) = heard.judged.as_ref().map(|judged| &judged.outcome) else {
            return true;
        };
        match self.options.skipped {
            SkippedReporting::None => false,
            SkippedReporting::Unsupported => *cause != SkipCause::Deselected,
            SkippedReporting::All => true,
        }
    }

    /// What had to work for anything else to run: a case for each cluster's nodes, for its bootstrap, and for
    /// the clean-up.
    fn infrastructure(&mut self, gathered: &Gathered) -> Suite {
        let class = classname("infrastructure");
        let mut cases = Vec::new();
        for (cluster, state) in &gathered.clusters {
            for (part, verdict, time_ms) in cluster_parts(state) {
                let name = self.name(&class, &format!("{part} › {cluster}"));
                let mut case = TestCase { name, verdict, time_ms, ..TestCase::default() };
                if let Cluster::Failed(failed) = state {
                    attach(&mut case, failed.evidence.iter().map(|attachment| attachment.path.as_str()));
                }
                cases.push(case);
            }
        }
        let name = self.name(&class, "cleanup");
        let verdict = cleanup_verdict(gathered.cleanup.as_ref());
        let time_ms = gathered.cleanup.as_ref().map_or(0, |cleanup| cleanup.took_ms);
        cases.push(TestCase { name, verdict, time_ms, ..TestCase::default() });
        let time_ms = cases.iter().fold(0, |sum: u64, case| sum.saturating_add(case.time_ms));
        Suite { time_ms, ..self.suite("infrastructure", class, cases) }
    }

    fn suite(&self, name: &str, classname: String, cases: Vec<TestCase>) -> Suite {
        Suite {
            name: format!("{name}{}", suffix(&self.run.variant)),
            classname,
            file: None,
            hostname: self.run.host.clone(),
            timestamp: self.started,
            time_ms: 0,
            properties: run_properties(self.run),
            cases,
        }
    }

    fn name(&mut self, classname: &str, title: &str) -> String {
        self.names.unique(classname, &format!("{title}{}", suffix(&self.run.variant)))
    }
}

fn run_properties(run: &RunStarted) -> Vec<(String, String)> {
    let fixed = [
        ("run-id", run.run.to_string()),
        ("seed", run.seed.to_string()),
        ("provider", run.provider.clone()),
        ("distribution", run.distribution.clone()),
        ("fidelity", run.fidelity.as_str().to_owned()),
        ("fidelity-statement", run.fidelity.statement(&run.distribution)),
        ("kernel", run.kernel.clone()),
        ("arch", run.arch.clone()),
    ];
    let mut properties: Vec<(String, String)> =
        fixed.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    properties.extend(run.cni.iter().map(|cni| ("cni".to_owned(), cni.clone())));
    properties.extend(run.versions.iter().map(|(name, value)| (name.clone(), value.clone())));
    properties
}

fn cluster_parts(cluster: &Cluster) -> Vec<(&'static str, Verdict, u64)> {
    match cluster {
        Cluster::Acquiring => vec![("provision", aborted("the run ended before the cluster was ready"), 0)],
        Cluster::Ready(ready) => {
            vec![("provision", Verdict::Passed, ready.provision_ms), ("bootstrap", Verdict::Passed, ready.bootstrap_ms)]
        }
        Cluster::Failed(failed) => {
            let provisioning = matches!(failed.kind, InfraKind::Preflight | InfraKind::Provision);
            let part = if provisioning { "provision" } else { "bootstrap" };
            vec![(part, cluster_trouble(failed), failed.took_ms)]
        }
    }
}

fn cluster_trouble(failed: &ClusterFailed) -> Verdict {
    Verdict::Error(Trouble {
        kind: failed.kind.as_str().to_owned(),
        message: failed.message.clone(),
        text: format!("cluster {}\n{}", failed.cluster, failed.message),
    })
}

fn cleanup_verdict(cleanup: Option<&Cleanup>) -> Verdict {
    let Some(cleanup) = cleanup else {
        return aborted("the run ended before its clean-up");
    };
    if let [first, more @ ..] = &cleanup.leaks[..] {
        let lines = cleanup.leaks.iter().map(|leak| format!("{} {}: {}", leak.kind, leak.name, leak.message));
        let others = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        return Verdict::Error(Trouble {
            kind: InfraKind::Cleanup.as_str().to_owned(),
            message: format!("left behind: {} `{}`{others}", first.kind, first.name),
            text: lines.collect::<Vec<_>>().join("\n"),
        });
    }
    match &cleanup.kept {
        Some(later) => {
            Verdict::Skipped { kind: Some("kept"), message: format!("kept on purpose; take it down: {later}") }
        }
        None => Verdict::Passed,
    }
}
