//! `cknet list`: what there is to run.

use serde_json::json;

use super::{Selection, print, suite};
use crate::exit::ExitCode;
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
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

pub fn list(options: &Options) -> ExitCode {
    let scenarios = match suite::read(&options.selection, "reference") {
        Ok(scenarios) => scenarios,
        Err(code) => return code,
    };
    match options.format {
        Format::Text => print(&text(&scenarios, options.cases)),
        Format::Json => print(&format!("{:#}\n", as_json(&scenarios))),
    }
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
