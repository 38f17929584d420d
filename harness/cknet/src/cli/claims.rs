//! `cknet claims`: what a run says about the document, section by section.

use std::path::{Path, PathBuf};

use super::{Selection, complain, former, suite};
use crate::claims::{Findings, findings};
use crate::event::Case;
use crate::exit::ExitCode;
use crate::report::{as_markdown, as_text};
use crate::run::planned;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// A run by its id, the folder of its reports, its `events.ndjson` or an archive of it; the latest run unless given.
    run: Option<PathBuf>,
    /// The latest run, which is also what is taken when none is named.
    #[arg(long, conflicts_with = "run")]
    latest: bool,
    /// Only what is about this document, by its file name.
    #[arg(long, value_name = "FILE")]
    document: Option<String>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The folder of scenarios, for claims that were not part of the run; `scenarios` here or above unless given.
    #[arg(long, value_name = "DIR")]
    scenarios: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Text,
    Markdown,
    Json,
}

pub fn claims(options: &Options) -> ExitCode {
    let found = match gather(options) {
        Ok(found) => found,
        Err(code) => return code,
    };
    if let Some(file) = &options.document
        && found.documents.is_empty()
    {
        return complain(ExitCode::NothingChecked, &format!("no claim is about a document `{file}`"));
    }
    match options.format {
        Format::Text => super::print_styled(&as_text(&found)),
        Format::Markdown => super::print(&as_markdown(&found)),
        Format::Json => match serde_json::to_string_pretty(&found) {
            Ok(text) => super::print(&(text + "\n")),
            Err(error) => complain(ExitCode::Infrastructure, &error.to_string()),
        },
    }
}

fn gather(options: &Options) -> Result<Findings, ExitCode> {
    let verdicts = former::run(options.run.as_deref()).map_err(|problem| complain(ExitCode::Usage, &problem))?;
    let selection = Selection { filter: Vec::new(), scenarios: options.scenarios.clone() };
    let (found, fixtures) = suite::find(&selection, "reference")?;
    // A file that is not sound just now says nothing about the run; its claims are missing.
    let known: Vec<Case> = match crate::scenario::read_suite(&found, &fixtures) {
        Ok(scenarios) => scenarios.iter().flat_map(|scenario| planned(scenario).cases).collect(),
        Err(_) => {
            super::note("warning: claims of scenarios that were not part of the run are left out: cknet check");
            Vec::new()
        }
    };
    let findings = findings(&verdicts, &known, &fixtures.documents);
    Ok(match &options.document {
        Some(file) => findings.of_document(Path::new(file).file_name().map_or(file, |_| base(file))),
        None => findings,
    })
}

/// The last part of a path.
fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
