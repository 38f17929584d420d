//! The reports of a run as options: where they go, for which readers they are, and the reporters that write them.

use std::path::{Path, PathBuf};

use crate::cli::former::EVENTS;
use crate::cli::suite::Documents;
use crate::event::Artifact;
use crate::exit::ExitPolicy;
use crate::ledger::Ledger;
use crate::report::junit::{Granularity, Junit, JunitOptions, Profile, SkippedReporting};
use crate::report::terminal::{Terminal, TerminalOptions, Verbosity};
use crate::report::{Fanout, Html, Ndjson, ReportError};

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

impl Reports {
    /// Where they go. No repetition may overwrite the reports of another one.
    pub fn folder(&self, ledger: &Ledger, repetition: Option<u32>) -> PathBuf {
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

pub fn artifact(kind: &str, path: &Path) -> Artifact {
    Artifact { kind: kind.into(), path: path.display().to_string() }
}
