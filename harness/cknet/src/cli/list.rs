//! `cknet list`: what there is to run.

use clap::ValueEnum;
use serde_json::json;

use super::{Selection, complain, print, suite};
use crate::distribution::canonical;
use crate::distribution::recipe::Cni;
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
    #[arg(long = "channel", value_name = "CHANNEL", value_parser = of_canonical)]
    channels: Vec<String>,
    /// With `--channel`: a network of pods to run each channel with; repeatable.
    #[arg(long = "cni", value_enum, value_name = "CNI", requires = "channels")]
    networks: Vec<Cni>,
}

/// A mistyped channel is told where jobs are planned, and not in each of them.
fn of_canonical(channel: &str) -> Result<String, String> {
    canonical::version(channel).map(|_| channel.to_string()).map_err(|error| error.to_string())
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
        Format::GhaMatrix => match matrix(&scenarios, options) {
            Ok(matrix) => print(&format!("{matrix}\n")),
            Err(code) => code,
        },
    }
}

/// Channels times networks times groups. A group in which no scenario falls is left out: its job could only say that
/// it had nothing to do.
fn matrix(scenarios: &[Scenario], options: &Options) -> Result<serde_json::Value, ExitCode> {
    let mut include = Vec::new();
    for channel in each(&options.channels) {
        for network in each(&options.networks) {
            for group in Partition::all(options.groups.unwrap_or(1)) {
                let taken = scenarios.iter().filter(|scenario| group.takes(scenario)).count();
                if taken > 0 {
                    include.push(job(group, channel, network, taken));
                }
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

/// Each of what was named, or once nothing.
fn each<T>(named: &[T]) -> impl Iterator<Item = Option<&T>> {
    named.iter().map(Some).chain(named.is_empty().then_some(None))
}

/// One job. `id` can be part of the name of an artifact, which no `/` can.
fn job(group: Partition, channel: Option<&String>, network: Option<&Cni>, scenarios: usize) -> serde_json::Value {
    let network = network.and_then(ValueEnum::to_possible_value).map(|value| value.get_name().to_string());
    let words = [channel.cloned(), network.clone(), Some(group.fraction())];
    let name = words.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let mut job = json!({
        "id": name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-"),
        "name": name,
        "partition": group.to_string(),
        "scenarios": scenarios,
    });
    for (key, value) in [("channel", channel.cloned()), ("cni", network)] {
        if let Some(value) = value {
            job[key] = json!(value);
        }
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
