//! `cknet list`: what there is to run.

use serde_json::json;

use super::{Selection, complain, print, suite};
use crate::exit::ExitCode;
use crate::plan::{MOST_PARTITIONS, Partition};
use crate::scenario::Scenario;

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    selection: Selection,
    /// One line per case instead of one per scenario.
    #[arg(long)]
    cases: bool,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// With `--format gha-matrix`: how many jobs share the scenarios.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_PARTITIONS)))]
    groups: Option<u32>,
    /// With `--format gha-matrix`: a channel of the snap to run on, as in 1.36-classic/stable; repeatable.
    #[arg(long = "channel", value_name = "CHANNEL")]
    channels: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
    /// The jobs of a GitHub workflow, for `strategy.matrix`, on one line.
    GhaMatrix,
}

pub fn list(options: &Options) -> ExitCode {
    let scenarios = match suite::read(&options.selection, "reference") {
        Ok(scenarios) => scenarios,
        Err(code) => return code,
    };
    if options.format != Format::GhaMatrix && (options.groups.is_some() || !options.channels.is_empty()) {
        return complain(ExitCode::Usage, "`--groups` and `--channel` are for `--format gha-matrix`");
    }
    match options.format {
        Format::Text => print(&text(&scenarios, options.cases)),
        Format::Json => print(&format!("{:#}\n", as_json(&scenarios))),
        Format::GhaMatrix => match matrix(&scenarios, options.groups.unwrap_or(1), &options.channels) {
            Ok(matrix) => print(&format!("{matrix}\n")),
            Err(code) => code,
        },
    }
}

/// Channels times groups. A group in which no scenario falls is left out: its job could only say that it had nothing
/// to do.
fn matrix(scenarios: &[Scenario], groups: u32, channels: &[String]) -> Result<serde_json::Value, ExitCode> {
    let nameless = [String::new()];
    let mut include = Vec::new();
    for channel in if channels.is_empty() { &nameless[..] } else { channels } {
        for group in Partition::all(groups) {
            let taken = scenarios.iter().filter(|scenario| group.takes(scenario)).count();
            if taken > 0 {
                include.push(job(group, channel, taken));
            }
        }
    }
    let limit = usize::try_from(MOST_PARTITIONS).unwrap_or(usize::MAX);
    match include.len() {
        0 => Err(complain(ExitCode::NothingChecked, "no scenario was selected")),
        jobs if jobs > limit => {
            let problem = format!("{jobs} jobs; GitHub starts at most {MOST_PARTITIONS} from one matrix");
            Err(complain(ExitCode::Usage, &problem))
        }
        _ => Ok(json!({ "include": include })),
    }
}

/// One job. `id` can be part of the name of an artifact, which no `/` can.
fn job(group: Partition, channel: &str, scenarios: usize) -> serde_json::Value {
    let plain = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
    let mut job = json!({
        "id": plain(&group.fraction()),
        "name": group.fraction(),
        "partition": group.to_string(),
        "scenarios": scenarios,
    });
    if !channel.is_empty() {
        job["id"] = json!(format!("{}-{}", plain(channel), plain(&group.fraction())));
        job["name"] = json!(format!("{channel} {}", group.fraction()));
        job["channel"] = json!(channel);
    }
    job
}

fn text(scenarios: &[Scenario], cases: bool) -> String {
    let width = scenarios.iter().map(|scenario| scenario.id().to_string().len()).max().unwrap_or(0);
    let mut text = String::new();
    for scenario in scenarios {
        if cases {
            for (phase, expectation) in scenario.expectations() {
                text.push_str(&format!("{}\n", scenario.case_id(phase, expectation)));
            }
        } else {
            let id = scenario.id().to_string();
            text.push_str(&format!("{id:width$}  {}\n", scenario.metadata.title));
        }
    }
    text
}

fn as_json(scenarios: &[Scenario]) -> serde_json::Value {
    let one = |scenario: &Scenario| {
        json!({
            "id": scenario.id().to_string(),
            "title": scenario.metadata.title,
            "file": scenario.file,
            "docs": scenario.metadata.docs.to_string(),
            "cases": scenario.expectations().map(|(phase, expectation)| scenario.case_id(phase, expectation)).collect::<Vec<_>>(),
            "sabotage": scenario.sabotage.iter().map(|sabotage| sabotage.id.to_string()).collect::<Vec<_>>(),
        })
    };
    scenarios.iter().map(one).collect()
}
