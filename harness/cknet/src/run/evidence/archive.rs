//! The folder `evidence` beside the reports: `<scenario>/<phase>/...`, with an index of what is there and what could
//! not be had. It bounds what is written, and must not know where it came from.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::redact::Redactor;
use crate::cluster::evidence::Piece;
use crate::event::Attachment;
use crate::report::clean::{self, Caps};

/// The folder of all bundles.
const FOLDER: &str = "evidence";

/// Where so many phases fail, more of them say no more.
const MOST_BUNDLES: usize = 25;

/// What stays of a long text.
const TEXT: Caps = Caps { head: 32 << 10, tail: 96 << 10 };

/// What is looked through for secrets. More of each end than stays: a secret that is cut in two is none that one finds.
const LOOKED_THROUGH: Caps = Caps { head: TEXT.head + MARGIN, tail: TEXT.tail + MARGIN };

/// Longer than any secret, a private key among them.
const MARGIN: usize = 16 << 10;

/// The most of one bundle, in bytes.
const BUNDLE: usize = 4 << 20;

/// With this line an index begins; a folder without one is not ours.
const TITLE: &str = "cknet evidence: ";

/// Keeps evidence.
pub struct Archive {
    /// The folder of the reports.
    reports: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    begun: usize,
    kept: usize,
    /// Phases that failed when there was no room any more.
    left_out: Vec<String>,
    /// What was kept of clusters that could not be made, by their errors.
    failed: BTreeMap<String, Vec<Attachment>>,
    /// The first thing that went wrong.
    problem: Option<String>,
}

impl Archive {
    /// Beside the reports of that folder. Bundles of a run before are removed, as its reports are replaced.
    pub fn open(reports: &Path) -> Self {
        let archive = Self { reports: reports.to_path_buf(), state: Mutex::default() };
        // What cannot be removed has another run's name in it.
        let _ = remove_former(&reports.join(FOLDER));
        archive
    }

    /// Whether one more bundle may be gathered; if so, it is counted.
    pub fn has_room(&self, scenario: &str, phase: &str) -> bool {
        let mut state = self.locked();
        if state.begun < MOST_BUNDLES {
            state.begun += 1;
            return true;
        }
        state.left_out.push(format!("{scenario}/{phase}"));
        let text =
            format!("no more than {MOST_BUNDLES} bundles are kept; none of\n  {}\n", state.left_out.join("\n  "));
        let written = fs::write(self.reports.join(FOLDER).join("left-out.txt"), text);
        state.note(written);
        false
    }

    /// Writes a bundle; none is named that could not be written.
    pub fn keep(&self, scenario: &str, phase: &str, pieces: Vec<Piece>, redactor: &Redactor) -> Vec<Attachment> {
        let folder = format!("{FOLDER}/{}/{}", plain(scenario), plain(phase));
        let written = write(&self.reports.join(&folder), &format!("{scenario}, {phase}"), pieces, redactor);
        if written.is_err() {
            // Half a bundle that nothing names only takes the room that the reports need.
            let _ = fs::remove_dir_all(self.reports.join(&folder));
        }
        let mut state = self.locked();
        if state.note(written) {
            state.kept += 1;
            return vec![Attachment::bundle(&folder)];
        }
        Vec::new()
    }

    /// Notes which files belong to an error.
    pub fn remember(&self, error: String, kept: Vec<Attachment>) {
        self.locked().failed.insert(error, kept);
    }

    /// The files that belong to an error.
    pub fn of_error(&self, error: &str) -> Vec<Attachment> {
        self.locked().failed.get(error).cloned().unwrap_or_default()
    }

    /// The folder, if something is in it.
    pub fn folder(&self) -> Option<PathBuf> {
        (self.locked().kept > 0).then(|| self.reports.join(FOLDER))
    }

    /// What could not be written.
    pub fn problem(&self) -> Option<String> {
        self.locked().problem.clone()
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether it was written.
    fn note(&mut self, written: io::Result<()>) -> bool {
        if let (Err(error), None) = (&written, &self.problem) {
            self.problem = Some(error.to_string());
        }
        written.is_ok()
    }
}

/// Writes all pieces and then the index, which says what became of each.
fn write(folder: &Path, title: &str, pieces: Vec<Piece>, redactor: &Redactor) -> io::Result<()> {
    let mut index = format!("{TITLE}{title}\ngathered before {}\n\n", jiff::Timestamp::now());
    let mut room = BUNDLE;
    for piece in pieces {
        let path = piece.path.split('/').map(plain).collect::<Vec<_>>().join("/");
        let (text, remark) = match piece.text {
            Ok(text) => (redacted(redactor, &text), None),
            Err(why) => {
                let why = redacted(redactor, &why);
                let remark = format!("not had: {}", clean::message(&why, 160));
                (format!("not had: {why}\n"), Some(remark))
            }
        };
        let remark = if text.len() > room {
            format!("left out: with its {} bytes the bundle would be too large", text.len())
        } else {
            room -= text.len();
            let file = folder.join(&path);
            fs::create_dir_all(file.parent().unwrap_or(folder))?;
            fs::write(&file, &text)?;
            remark.unwrap_or_else(|| format!("{} bytes", text.len()))
        };
        index.push_str(&format!("{path:56}  {remark}\n"));
    }
    fs::create_dir_all(folder)?;
    fs::write(folder.join(Attachment::INDEX), index)
}

/// As it may be read by anybody: without secrets, without what a terminal would obey, and not too long.
fn redacted(redactor: &Redactor, text: &str) -> String {
    let Some((head, tail)) = clean::ends(text, LOOKED_THROUGH) else {
        return clean::capped(redactor.redact(&clean::text(text)), TEXT);
    };
    let [head, tail] = [head, tail].map(|end| redactor.redact(&clean::text(end)));
    let head = &head[..head.floor_char_boundary(TEXT.head)];
    let tail = &tail[tail.ceil_char_boundary(tail.len().saturating_sub(TEXT.tail))..];
    clean::joined(head, text.len().saturating_sub(head.len() + tail.len()), tail)
}

/// A name as one part of a path. Ids are plain; names of objects and files of a cluster are somebody else's.
fn plain(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = name.chars().map(|c| if is_plain(c) { c } else { '-' }).take(120).collect();
    if name.chars().all(|c| c == '.') { "-".into() } else { name }
}

/// Removes the bundles of an earlier run, and the folders that are empty then. Other folders stay.
fn remove_former(folder: &Path) -> io::Result<()> {
    let Ok(scenarios) = fs::read_dir(folder) else { return Ok(()) };
    for scenario in scenarios {
        let scenario = scenario?.path();
        let Ok(phases) = fs::read_dir(&scenario) else { continue };
        for phase in phases {
            let phase = phase?.path();
            let index = fs::read_to_string(phase.join(Attachment::INDEX)).unwrap_or_default();
            if index.starts_with(TITLE) {
                fs::remove_dir_all(&phase)?;
            }
        }
        // One that is not empty is not removed.
        let _ = fs::remove_dir(&scenario);
    }
    let _ = fs::remove_file(folder.join("left-out.txt"));
    let _ = fs::remove_dir(folder);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;
    use tempfile::TempDir;

    fn piece(path: &str, text: &str) -> Piece {
        Piece::new(path, Ok(text.into()))
    }

    #[rstest]
    #[case("policy.deny-all", "policy.deny-all")]
    #[case("..", "-")]
    #[case("a/../b", "a-..-b")]
    #[case("w1:x\n", "w1-x-")]
    fn names_are_one_part_of_a_path(#[case] name: &str, #[case] expected: &str) {
        assert_eq!(plain(name), expected);
    }

    #[test]
    fn a_bundle_is_bounded_and_says_what_it_lacks() {
        let folder = TempDir::new().unwrap();
        let archive = Archive::open(folder.path());
        let long = "x".repeat(TEXT.head + TEXT.tail + 10);
        let mut pieces = vec![
            piece("nodes/w1/facts.json", "{}"),
            Piece::new("../conntrack.txt", Err("no such program\nhere".into())),
            piece("logs/a.log", &long),
        ];
        pieces.extend((0..40).map(|number| piece(&format!("logs/{number}.log"), &long)));
        let attachments = archive.keep("a.b", "wrong", pieces, &Redactor::default());
        assert_eq!(attachments, [Attachment::bundle("evidence/a.b/wrong")]);
        let read = |path: &str| fs::read_to_string(folder.path().join("evidence/a.b/wrong").join(path)).unwrap();
        assert_eq!(read("nodes/w1/facts.json"), "{}");
        assert_eq!(read("-/conntrack.txt"), "not had: no such program\nhere\n");
        assert!(read("logs/a.log").contains("\n… 10 bytes cut\n"));
        let index = read("index.txt");
        assert!(index.contains("not had: no such program here"), "{index}");
        assert!(index.contains("left out: "), "{index}");
        let whole: u64 = (0..40)
            .filter_map(|number| fs::metadata(folder.path().join(format!("evidence/a.b/wrong/logs/{number}.log"))).ok())
            .map(|data| data.len())
            .sum();
        assert!(whole <= BUNDLE as u64);
    }

    #[test]
    fn a_secret_at_the_cut_is_not_cut_in_two() {
        let word = "token=0123456789abcdef";
        for before in [TEXT.head - 10, LOOKED_THROUGH.head - 10] {
            let text = format!("{}{word} {}", "x ".repeat(before / 2), "y ".repeat(TEXT.tail * 2));
            let shown = redacted(&Redactor::default(), &text);
            assert!(!shown.contains("0123") && shown.len() < TEXT.head + TEXT.tail + 60, "{}", shown.len());
            assert!(shown.contains(" bytes cut\n"));
        }
    }

    #[test]
    fn there_are_only_so_many_bundles() {
        let folder = TempDir::new().unwrap();
        let archive = Archive::open(folder.path());
        assert_eq!(archive.folder(), None);
        for number in 0..MOST_BUNDLES {
            assert!(archive.has_room("a.b", "wrong"));
            archive.keep("a.b", &number.to_string(), vec![piece("x", "x")], &Redactor::default());
        }
        assert!(!archive.has_room("a.b", "last"));
        let left = fs::read_to_string(folder.path().join("evidence/left-out.txt")).unwrap();
        assert!(left.contains("a.b/last"), "{left}");
        assert_eq!((archive.folder(), archive.problem()), (Some(folder.path().join("evidence")), None));
    }

    #[test]
    fn only_bundles_of_a_run_before_are_removed() {
        let folder = TempDir::new().unwrap();
        Archive::open(folder.path()).keep("a.b", "wrong", vec![piece("x", "x")], &Redactor::default());
        let mine = folder.path().join("evidence/mine/notes");
        fs::create_dir_all(&mine).unwrap();
        fs::write(mine.join("index.txt"), "mine").unwrap();
        Archive::open(folder.path());
        assert!(!folder.path().join("evidence/a.b").exists() && mine.join("index.txt").exists());
        fs::remove_dir_all(mine.parent().unwrap()).unwrap();
        Archive::open(folder.path());
        assert!(!folder.path().join("evidence").exists());
    }

    #[test]
    fn what_cannot_be_written_is_named_nowhere() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("evidence"), "a file").unwrap();
        let archive = Archive::open(folder.path());
        assert!(archive.keep("a.b", "wrong", vec![piece("x", "x")], &Redactor::default()).is_empty());
        assert!(archive.problem().is_some());
    }
}
