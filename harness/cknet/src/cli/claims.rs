//! `cknet claims`: what a run says about the document, section by section.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Selection, complain, suite};
use crate::claims::{Findings, Verdicts, findings};
use crate::event::{Case, Event};
use crate::exit::ExitCode;
use crate::ledger::StateDir;
use crate::report::{as_markdown, as_text};
use crate::run::planned;

/// The name of the event stream in the folder of a run.
const EVENTS: &str = "events.ndjson";

#[derive(Debug, clap::Args)]
pub struct Options {
    /// A run by its id, the folder of its reports, or its `events.ndjson`; the latest run unless given.
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
    let events = events_of(options.run.as_deref()).map_err(|problem| complain(ExitCode::Usage, &problem))?;
    let verdicts = read(&events).map_err(|problem| complain(ExitCode::Usage, &problem))?;
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

/// The event stream of a run.
fn events_of(run: Option<&Path>) -> Result<PathBuf, String> {
    let state = || StateDir::from_env(|name| std::env::var_os(name)).map_err(|error| error.to_string());
    let Some(run) = run else {
        return latest(&state()?.runs());
    };
    if run.is_file() {
        return Ok(run.to_path_buf());
    }
    let folders = [run.to_path_buf(), state()?.runs().join(run)];
    let found = folders.into_iter().map(|folder| folder.join(EVENTS)).find(|path| path.is_file());
    found.ok_or_else(|| format!("`{}` is neither a run nor a folder with `{EVENTS}`", run.display()))
}

/// The newest stream; runs of other commands have none. Run ids begin with the time, so that their order is that of
/// the runs.
fn latest(runs: &Path) -> Result<PathBuf, String> {
    let none = || format!("no run has left events in `{}`; do one: cknet run", runs.display());
    let folders = fs::read_dir(runs).map_err(|_| none())?;
    let streams = folders.filter_map(|folder| Some(folder.ok()?.path().join(EVENTS))).filter(|path| path.is_file());
    streams.max().ok_or_else(none)
}

/// All events of a stream; a last line that was cut off is left out.
fn read(path: &Path) -> Result<Verdicts, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    let mut verdicts = Verdicts::default();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        match serde_json::from_str::<Event>(line) {
            Ok(event) => verdicts.record(&event),
            Err(_) if lines.peek().is_none() && !text.ends_with('\n') => {}
            Err(error) => return Err(format!("`{}:{}` is not an event: {error}", path.display(), number + 1)),
        }
    }
    match verdicts.run {
        Some(_) => Ok(verdicts),
        None => Err(format!("`{}` does not tell of a run", path.display())),
    }
}
