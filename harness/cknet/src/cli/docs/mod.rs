//! `cknet docs`: a page per scenario and an index by the sections of the document, made from the scenario files. The
//! pages are committed and have to be in step.

mod page;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::suite::Documents;
use super::{Selection, complain, note, suite};
use crate::exit::ExitCode;
use crate::scenario::Scenario;

/// The first line of each page: what has it may be removed when its scenario is gone.
const MARK: &str = "<!-- Written by `cknet docs`; do not edit. -->\n";

#[derive(Debug, clap::Args)]
pub struct Options {
    /// The folder of scenarios; `scenarios` here or above unless given.
    #[arg(long, value_name = "DIR")]
    scenarios: Option<PathBuf>,
    /// The folder for the pages.
    #[arg(long, value_name = "DIR", default_value = "docs/scenarios")]
    out: PathBuf,
    /// Change nothing; say which pages are not in step.
    #[arg(long)]
    check: bool,
}

/// Pages by their path below the folder for pages.
type Pages = BTreeMap<PathBuf, String>;

pub fn docs(options: &Options) -> ExitCode {
    let selection = Selection { filter: Vec::new(), scenarios: options.scenarios.clone() };
    let (scenarios, documents) = match suite::read_with_documents(&selection, "reference", None) {
        Ok(read) => read,
        Err(code) => return code,
    };
    let pages = pages(&scenarios, &documents);
    let differing = match differing(&options.out, &pages) {
        Ok(differing) => differing,
        Err(problem) => return complain(ExitCode::Infrastructure, &problem),
    };
    if options.check {
        for path in &differing {
            note(&format!("{}: not in step with the scenarios", options.out.join(path).display()));
        }
        return match differing.as_slice() {
            [] => ExitCode::Passed,
            some => complain(ExitCode::Refuted, &format!("{} pages are old; write them: cknet docs", some.len())),
        };
    }
    match write(&options.out, &pages, &differing) {
        Ok(()) => {
            note(&format!("{} of {} pages written", differing.len(), pages.len()));
            ExitCode::Passed
        }
        Err(problem) => complain(ExitCode::Infrastructure, &problem),
    }
}

/// All pages of a suite.
fn pages(scenarios: &[Scenario], documents: &Documents) -> Pages {
    let one = |scenario: &Scenario| (page::path(scenario), format!("{MARK}{}", page::page(scenario)));
    let mut pages: Pages = scenarios.iter().map(one).collect();
    pages.insert("README.md".into(), format!("{MARK}{}", page::index(scenarios, documents)));
    pages
}

/// The pages that are missing, that differ, or whose scenario is gone.
fn differing(folder: &Path, pages: &Pages) -> Result<Vec<PathBuf>, String> {
    let mut differing: Vec<PathBuf> = Vec::new();
    for (path, text) in pages {
        if fs::read_to_string(folder.join(path)).ok().as_ref() != Some(text) {
            differing.push(path.clone());
        }
    }
    let areas = match fs::read_dir(folder) {
        Ok(areas) => areas,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(differing),
        Err(error) => return Err(format!("cannot list `{}`: {error}", folder.display())),
    };
    for area in areas.flatten().map(|area| area.path()).filter(|path| path.is_dir()) {
        let entries = fs::read_dir(&area).map_err(|error| format!("cannot list `{}`: {error}", area.display()))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let Ok(below) = path.strip_prefix(folder) else { continue };
            let ours = || fs::read_to_string(&path).is_ok_and(|text| text.starts_with(MARK));
            if !pages.contains_key(below) && ours() {
                differing.push(below.to_path_buf());
            }
        }
    }
    Ok(differing)
}

fn write(folder: &Path, pages: &Pages, differing: &[PathBuf]) -> Result<(), String> {
    for below in differing {
        let path = folder.join(below);
        let failed = |error: std::io::Error| format!("cannot write `{}`: {error}", path.display());
        match pages.get(below) {
            Some(text) => {
                fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(failed)?;
                fs::write(&path, text).map_err(failed)?;
            }
            None => fs::remove_file(&path).map_err(failed)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
    }

    fn suite() -> Pages {
        let selection = Selection { filter: Vec::new(), scenarios: Some(repository().join("scenarios")) };
        let Ok((scenarios, documents)) = suite::read_with_documents(&selection, "reference", None) else {
            panic!("the suite is not sound")
        };
        pages(&scenarios, &documents)
    }

    /// `UPDATE_DOCS=1` writes them instead.
    #[test]
    fn the_committed_pages_are_in_step() {
        let (folder, pages) = (repository().join("docs/scenarios"), suite());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            write(&folder, &pages, &differing(&folder, &pages).unwrap()).unwrap();
        }
        let old = differing(&folder, &pages).unwrap();
        assert!(old.is_empty(), "not in step, write them with UPDATE_DOCS=1 or `cknet docs`: {old:?}");
    }

    #[test]
    fn a_page_without_a_scenario_goes_and_a_text_of_somebody_stays() {
        let folder = tempfile::TempDir::new().unwrap();
        let pages = suite();
        write(folder.path(), &pages, &differing(folder.path(), &pages).unwrap()).unwrap();
        fs::write(folder.path().join("policy/gone.md"), MARK).unwrap();
        fs::write(folder.path().join("policy/notes.md"), "mine").unwrap();
        let old = differing(folder.path(), &pages).unwrap();
        assert_eq!(old, [PathBuf::from("policy/gone.md")]);
        write(folder.path(), &pages, &old).unwrap();
        assert!(!folder.path().join("policy/gone.md").exists() && folder.path().join("policy/notes.md").exists());
    }
}
