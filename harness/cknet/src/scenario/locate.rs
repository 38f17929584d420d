//! Owns finding scenario files, fixtures and the one that was asked for.
//! Must not read what is in them.

use std::path::{Path, PathBuf};

use super::fixtures::files;
use super::model::ScenarioId;
use super::nearest::nearest;
use super::problem::Problems;

/// A scenario file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// The id that its path demands; `None` if the path is no id.
    pub id: Option<ScenarioId>,
    /// What messages call it.
    pub name: String,
}

/// The folders that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// The suite, `scenarios`.
    pub scenarios: PathBuf,
    /// What the scenarios lean on, `fixtures` beside it.
    pub fixtures: PathBuf,
}

/// Which scenarios are meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Ids, starts of ids that end before a dot (`policy`), parts with `*`, or paths of files;
    /// none means all.
    pub words: Vec<String>,
}

/// Why no scenario file was found.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// There is no suite.
    #[error("no folder `scenarios` in `{0}` or above it; name one with --scenarios DIR")]
    NoSuite(PathBuf),
    /// A word of the filter fits nothing.
    #[error("no scenario is called `{word}`{}", .near.as_ref().map_or_else(String::new, |near| format!("; did you mean `{near}`?")))]
    NoMatch {
        /// The word.
        word: String,
        /// An id that is written almost like it.
        near: Option<String>,
    },
    /// A folder cannot be listed.
    #[error("{0}")]
    Unreadable(Problems),
}

impl Roots {
    /// The folders below `scenarios` (what `--scenarios` names), or the first ones called
    /// `scenarios` in `from` and the folders above it.
    ///
    /// # Errors
    /// [`LocateError::NoSuite`] if there is no such folder.
    pub fn find(scenarios: Option<&Path>, from: &Path) -> Result<Self, LocateError> {
        let found = match scenarios {
            Some(given) => given.is_dir().then(|| given.to_owned()),
            None => from.ancestors().map(|folder| folder.join("scenarios")).find(|folder| folder.is_dir()),
        };
        let scenarios = found.ok_or_else(|| LocateError::NoSuite(scenarios.unwrap_or(from).to_owned()))?;
        let absolute = std::path::absolute(&scenarios).unwrap_or_else(|_| scenarios.clone());
        let fixtures = absolute.parent().unwrap_or(&absolute).join("fixtures");
        Ok(Self { scenarios, fixtures })
    }
}

/// The scenario files of a suite that the filter means, sorted by path; files that it names by
/// path come first.
///
/// # Errors
/// A word that means nothing, or a folder that cannot be listed.
pub fn locate(roots: &Roots, filter: &Filter) -> Result<Vec<Found>, LocateError> {
    let suite = suite(&roots.scenarios)?;
    let mut chosen: Vec<Found> = Vec::new();
    for word in &filter.words {
        let meant: Vec<Found> = match by_path(word, &suite) {
            Some(found) => vec![found],
            None => suite.iter().filter(|found| fits(word, found)).cloned().collect(),
        };
        if meant.is_empty() {
            let ids = suite.iter().filter_map(|found| found.id.as_ref().map(ScenarioId::as_str));
            let areas = ids.clone().filter_map(|id| id.split_once('.').map(|(area, _)| area));
            let near = nearest(word, areas.chain(ids)).map(str::to_owned);
            return Err(LocateError::NoMatch { word: word.clone(), near });
        }
        for found in meant {
            if !chosen.contains(&found) {
                chosen.push(found);
            }
        }
    }
    Ok(if filter.words.is_empty() { suite } else { chosen })
}

fn suite(folder: &Path) -> Result<Vec<Found>, LocateError> {
    let files = files(folder, &["yaml", "yml"]).map_err(LocateError::Unreadable)?;
    let found = files.into_iter().map(|(under, path)| Found { id: id_of(&under), name: shown(&path), path });
    Ok(found.collect())
}

fn id_of(under: &str) -> Option<ScenarioId> {
    let stem = under.rsplit_once('.').map_or(under, |(stem, _)| stem);
    stem.replace('/', ".").parse().ok()
}

/// A path relative to the working folder where it lies below it, as a person would write it.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

/// A word that is the path of a file, in the suite or outside of it.
fn by_path(word: &str, suite: &[Found]) -> Option<Found> {
    let path = Path::new(word);
    if path.extension().is_none_or(|e| e != "yaml" && e != "yml") || !path.is_file() {
        return None;
    }
    let same = |found: &&Found| found.path.canonicalize().ok() == path.canonicalize().ok();
    suite
        .iter()
        .find(same)
        .cloned()
        .or_else(|| Some(Found { path: path.to_owned(), id: ScenarioId::of_path(path), name: word.to_owned() }))
}

/// Whether an id, the start of an id, or a pattern with `*` means this file.
fn fits(word: &str, found: &Found) -> bool {
    let Some(id) = &found.id else { return false };
    let id = id.as_str();
    if word.contains('*') {
        return pattern(word, id);
    }
    id.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether the text is the pattern with any texts in place of its `*`.
fn pattern(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn tree() -> (tempfile::TempDir, Roots) {
        let folder = tempfile::tempdir().unwrap();
        for file in ["policy/deny-all.yaml", "policy/allow.yaml", "firewall/port.yaml"] {
            let path = folder.path().join("scenarios").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let below = folder.path().join("scenarios/policy");
        let roots = Roots::find(None, &below).unwrap();
        (folder, roots)
    }

    fn ids(words: &[&str]) -> Result<Vec<String>, String> {
        let (_folder, roots) = tree();
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let found = locate(&roots, &Filter { words }).map_err(|e| e.to_string())?;
        Ok(found.iter().map(|f| f.id.as_ref().unwrap().to_string()).collect())
    }

    #[test]
    fn words_choose_scenarios() {
        assert_eq!(ids(&[]).unwrap(), ["firewall.port", "policy.allow", "policy.deny-all"]);
        assert_eq!(ids(&["policy"]).unwrap(), ["policy.allow", "policy.deny-all"]);
        assert_eq!(ids(&["policy.allow", "policy"]).unwrap(), ["policy.allow", "policy.deny-all"]);
        assert_eq!(ids(&["*.deny*"]).unwrap(), ["policy.deny-all"]);
        assert!(ids(&["poli"]).is_err());
    }

    #[test]
    fn a_word_that_means_nothing_is_told() {
        assert_eq!(
            ids(&["policy.alow"]).unwrap_err(),
            "no scenario is called `policy.alow`; did you mean `policy.allow`?"
        );
        assert_eq!(ids(&["polcy"]).unwrap_err(), "no scenario is called `polcy`; did you mean `policy`?");
    }

    #[test]
    fn a_file_can_be_named_by_its_path() {
        let (folder, roots) = tree();
        let path = folder.path().join("scenarios/policy/allow.yaml");
        let filter = Filter { words: vec![path.display().to_string()] };
        let found = locate(&roots, &filter).unwrap();
        assert_eq!(found[0].id.as_ref().unwrap().as_str(), "policy.allow");
        assert_eq!(roots.fixtures, folder.path().join("fixtures"));
    }

    #[test]
    fn patterns_stand_for_whole_ids() {
        assert!(pattern("a*c", "abc") && pattern("*", "x") && pattern("a*b*c", "a1b2c"));
        assert!(!pattern("a*c", "abd") && !pattern("a*b*c", "acb") && !pattern("ab*b", "ab"));
    }
}
