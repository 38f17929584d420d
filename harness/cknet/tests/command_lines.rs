//! Command lines of cknet in texts for people, in workflows and in what the program prints: its own parser takes each.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// First words that make a process of a cluster or of a node of the executable, and nothing a person types.
const PERSONALITIES: [&str; 23] = [
    "fabric",
    "logged",
    "control-plane",
    "node",
    "node-clean",
    "calico-node",
    "flanneld",
    "dns",
    "pause",
    "curl",
    "node-firewall",
    "drops",
    "ruleset",
    "node-file",
    "node-interfaces",
    "relay",
    "node-link",
    "node-route",
    "node-fdb",
    "wget",
    "probe",
    "connect",
    "facts",
];

/// A command line as it stands in a file.
struct Shown {
    place: String,
    words: Vec<String>,
    /// Only named, as `cknet diff` is: what it needs besides may be absent.
    named: bool,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// All files below a folder whose names end so.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            all.push(path);
        }
    }
    all.sort();
    all
}

/// What stands for something else, as something of that kind.
fn filled(word: &str) -> Option<String> {
    Some(match word {
        "..." | "…" | "\\" => return None,
        "N" => "2".into(),
        "hash:I/N" => "hash:1/2".into(),
        "$PARTITION" => "hash:1/2".into(),
        "$SHARES" => "2".into(),
        "NAME" => "canonical".into(),
        // The first of several that may stand there.
        word => word.split('|').next().unwrap_or_default().to_string(),
    })
}

/// The words up to the end of the command: a comment, a pipe, a redirection, another command.
fn words(line: &str) -> Vec<String> {
    let mut all = Vec::new();
    for word in line.split_whitespace() {
        let redirects = word.starts_with(['>', '|', '<', '#']) || matches!(word, "||" | "&&" | ";" | "}" | "2>&1");
        if redirects {
            break;
        }
        let last = word.ends_with(';');
        let word = word.trim_start_matches('"').trim_end_matches([';', ')', '"']);
        // An array of a shell, whose members are flags.
        if !word.contains("[@]") {
            all.extend(filled(word));
        }
        if last {
            break;
        }
    }
    all
}

/// The spans of a line between single backticks.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn of_page(path: &Path, shown: &mut Vec<Shown>) {
    let text = fs::read_to_string(path).unwrap();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        let place = || format!("{}:{}", path.display(), number + 1);
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            let command = line.trim_start().trim_start_matches("$ ").trim_start_matches("sudo ");
            if command.starts_with("cknet ") {
                shown.push(Shown { place: place(), words: words(command), named: false });
            }
        } else {
            for span in spans(line).filter(|span| span.starts_with("cknet ")) {
                shown.push(Shown { place: place(), words: words(span), named: true });
            }
        }
    }
}

fn of_script(path: &Path, shown: &mut Vec<Shown>) {
    let text = fs::read_to_string(path).unwrap();
    for (number, line) in text.lines().enumerate() {
        for start in line.match_indices("\"$CKNET\" ").map(|(at, _)| at) {
            let command = line[start..].replacen("\"$CKNET\"", "cknet", 1);
            let words = words(&command);
            // In `test ! -x "$CKNET" || ...` it is only named.
            if words.len() > 1 {
                shown.push(Shown { place: format!("{}:{}", path.display(), number + 1), words, named: true });
            }
        }
    }
}

/// Suggestions in messages, with whatever is put in as one word.
fn of_source(path: &Path, shown: &mut Vec<Shown>) {
    let text = fs::read_to_string(path).unwrap();
    for (number, line) in text.lines().enumerate() {
        let suggestions = line.match_indices("try: cknet ").map(|(at, _)| &line[at + 5..]);
        let suggestions = suggestions.map(|rest| rest.split(['"', ';', '\\']).next().unwrap_or_default());
        for command in spans(line).filter(|span| span.starts_with("cknet ")).chain(suggestions) {
            let words = words(&command.replace(['{', '}'], "x"));
            shown.push(Shown { place: format!("{}:{}", path.display(), number + 1), words, named: true });
        }
    }
}

/// What the parser has against a command line.
fn refused(shown: &Shown) -> Option<String> {
    if shown.words.len() < 2 || PERSONALITIES.contains(&shown.words[1].as_str()) {
        return None;
    }
    let error = cknet::cli::command().try_get_matches_from(&shown.words).err()?;
    let nothing = ContextValue::String(String::new());
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => None,
        ErrorKind::MissingRequiredArgument if shown.named => None,
        // `cknet run --inventory` names a flag and leaves its value to the reader.
        ErrorKind::InvalidValue if shown.named && error.get(ContextKind::InvalidValue) == Some(&nothing) => None,
        _ => Some(format!("{}: `{}`\n{error}", shown.place, shown.words.join(" "))),
    }
}

#[test]
fn every_command_line_that_is_shown_is_one() {
    let here = repository();
    let mut shown = Vec::new();
    for page in ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(|name| here.join(name)) {
        of_page(&page, &mut shown);
    }
    files(&here.join("docs"), ".md").iter().for_each(|page| of_page(page, &mut shown));
    let pages = shown.len();
    files(&here.join(".github"), ".yml").iter().for_each(|workflow| of_script(workflow, &mut shown));
    let workflows = shown.len() - pages;
    files(&here.join("harness/cknet/src"), ".rs").iter().for_each(|source| of_source(source, &mut shown));
    let sources = shown.len() - pages - workflows;
    // Whoever changes how they are written has to change how they are found.
    assert!(pages > 80 && workflows >= 3 && sources > 20, "found {pages}, {workflows} and {sources}");
    let all: Vec<String> = shown.iter().filter_map(refused).collect();
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn what_is_no_command_line_is_refused() {
    for line in ["cknet rnu", "cknet run --no-such-flag", "cknet run --partition hash:3/2", "cknet down --workers 2"] {
        let shown = Shown { place: "here".into(), words: words(line), named: true };
        assert!(refused(&shown).is_some(), "{line}");
    }
    let incomplete = |named| Shown { place: "here".into(), words: words("cknet diff"), named };
    assert!(refused(&incomplete(false)).is_some() && refused(&incomplete(true)).is_none());
}
