//! `cknet diff`: what changed between two runs.

use std::fmt::Write;
use std::path::PathBuf;

use super::{complain, former, print};
use crate::compare::{Change, Comparison, Entry, compare};
use crate::exit::ExitCode;
use crate::report::markdown_escaped;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 nothing is newly failing, 1 something is, 2 wrong use, 3 nothing is newly failing \
                        and something that was judged before no longer is."
)]
pub struct Options {
    /// The run before: its id, a folder with reports of one or several shares of it, or an archive of that.
    before: PathBuf,
    /// The run after.
    after: PathBuf,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Text,
    Markdown,
    Json,
}

/// The changes in the order of the report, each with its heading.
const HEADINGS: [(Change, &str); 7] = [
    (Change::NewlyFailing, "newly failing"),
    (Change::NoLongerJudged, "no longer judged"),
    (Change::StillFailing, "still failing"),
    (Change::NewlyPassing, "newly passing"),
    (Change::Changed, "changed"),
    (Change::Gone, "only in the first run"),
    (Change::Added, "only in the second run"),
];

pub fn diff(options: &Options) -> ExitCode {
    let read = |place| former::runs(Some(place)).map_err(|problem| complain(ExitCode::Usage, &problem));
    let (before, after) = match (read(&options.before), read(&options.after)) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    let comparison = compare(&before, &after);
    let printed = match options.format {
        Format::Text => print(&text(&comparison)),
        Format::Markdown => print(&markdown(&comparison)),
        Format::Json => match serde_json::to_string_pretty(&comparison) {
            Ok(json) => print(&(json + "\n")),
            Err(error) => complain(ExitCode::Infrastructure, &error.to_string()),
        },
    };
    match printed {
        ExitCode::Passed if comparison.has(Change::NewlyFailing) => ExitCode::Refuted,
        ExitCode::Passed if comparison.has(Change::NoLongerJudged) => ExitCode::Infrastructure,
        code => code,
    }
}

fn text(comparison: &Comparison) -> String {
    let mut text = String::new();
    for (change, heading) in HEADINGS {
        let entries: Vec<&Entry> = comparison.of(change).collect();
        if entries.is_empty() {
            continue;
        }
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{heading}: {}", entries.len());
        for entry in entries {
            let because = entry.because.as_ref().map(|because| format!("\n    {because}")).unwrap_or_default();
            let _ = writeln!(text, "  {}{}  {}{because}", entry.case, on(entry), course(entry));
        }
    }
    let _ = writeln!(text, "the same in both: {}", comparison.same);
    text
}

fn markdown(comparison: &Comparison) -> String {
    let mut text = String::new();
    for (change, heading) in HEADINGS {
        let entries: Vec<&Entry> = comparison.of(change).collect();
        if entries.is_empty() {
            continue;
        }
        let _ = writeln!(text, "### {} ({})\n\n| case | outcome | |\n|---|---|---|", capital(heading), entries.len());
        for entry in entries {
            let because = entry.because.as_deref().unwrap_or_default().replace('\n', " ");
            let case = markdown_escaped(&format!("{}{}", entry.case, on(entry)));
            let _ = writeln!(text, "| {case} | {} | {} |", course(entry), markdown_escaped(&because));
        }
        text.push('\n');
    }
    let _ = writeln!(text, "The same in both: {}.", comparison.same);
    text
}

fn on(entry: &Entry) -> String {
    entry.variant.as_ref().map(|variant| format!(" [{variant}]")).unwrap_or_default()
}

/// `pass, then fail`.
fn course(entry: &Entry) -> String {
    match (entry.before, entry.after) {
        (Some(before), Some(after)) => format!("{before}, then {after}"),
        (Some(one), None) | (None, Some(one)) => one.to_string(),
        (None, None) => String::new(),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}
