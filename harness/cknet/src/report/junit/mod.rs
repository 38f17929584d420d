//! Owns the JUnit report: `TEST-cknet-<shard>.xml`, whole after every scenario, so that a killed job leaves a
//! valid file in which whatever did not run is an error of type `aborted`. It must not know the terminal.

mod document;
mod naming;
mod testcase;
mod write;

use std::path::{Path, PathBuf};

use super::clean::Caps;
use super::{ReportError, Reporter, whole_file};
use crate::event::{Event, What};
use crate::report::gather::Gathered;
use document::build;

/// Which readers the file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// What all common readers take: properties on cases, `file` and `line`.
    #[default]
    Portable,
    /// Also `assertions`, and what passing cases printed.
    Rich,
    /// Only what the schema of the Jenkins xunit plugin (`junit-10.xsd`) allows.
    Xunit10,
}

/// What one `<testcase>` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Granularity {
    Scenario,
    Phase,
    #[default]
    Expectation,
}

/// Which skipped cases are in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SkippedReporting {
    None,
    /// Selected ones that could not run. Deselected ones stay out: several shards would each report them.
    #[default]
    Unsupported,
    All,
}

/// What the file looks like and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JunitOptions {
    pub folder: PathBuf,
    pub profile: Profile,
    pub granularity: Granularity,
    pub skipped: SkippedReporting,
}

impl JunitOptions {
    /// The defaults, in `folder`.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            profile: Profile::default(),
            granularity: Granularity::default(),
            skipped: SkippedReporting::default(),
        }
    }

    /// The path of the report of a shard, or of a run that has none. Azure and others look for `TEST-*.xml`.
    pub fn path(&self, shard: Option<&str>) -> PathBuf {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') { c } else { '-' }
        };
        let shard: String = shard.unwrap_or("all").chars().map(plain).collect();
        self.folder.join(format!("TEST-cknet-{shard}.xml"))
    }
}

/// GitLab takes 30 MB a file and stumbles over large texts; the Node readers run out of memory before that.
const LARGEST_FILE: usize = 10 * 1000 * 1000;

/// What stays of a long text, the first that makes the file small enough.
const CAPS: [Caps; 4] = [
    Caps { head: 16 << 10, tail: 48 << 10 },
    Caps { head: 4 << 10, tail: 12 << 10 },
    Caps { head: 1 << 10, tail: 3 << 10 },
    Caps { head: 256, tail: 768 },
];

/// Writes the report.
pub struct Junit {
    options: JunitOptions,
    gathered: Gathered,
}

impl Junit {
    pub fn new(options: JunitOptions) -> Self {
        Self { options, gathered: Gathered::default() }
    }

    /// The report as it stands; `None` before the run has started.
    pub fn render(&self) -> Option<String> {
        let document = build(&self.gathered, &self.options)?;
        let render = |caps| write::xml(&document, self.options.profile, caps);
        let mut xml = String::new();
        for caps in CAPS {
            xml = render(caps);
            if xml.len() <= LARGEST_FILE {
                break;
            }
        }
        Some(xml)
    }

    fn write(&self) -> Result<(), ReportError> {
        let Some(xml) = self.render() else {
            return Ok(());
        };
        let shard = self.gathered.run().and_then(|run| run.shard.as_deref());
        let path = self.options.path(shard);
        whole_file::replace("junit", Path::new(&path), xml.as_bytes())
    }
}

impl Reporter for Junit {
    fn event(&mut self, event: &Event) -> Result<(), ReportError> {
        self.gathered.record(event);
        match event.what {
            What::RunStarted(_)
            | What::ClusterFailed(_)
            | What::ScenarioFinished(_)
            | What::Cleanup(_)
            | What::RunFinished(_) => self.write(),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), ReportError> {
        self.write()
    }
}
