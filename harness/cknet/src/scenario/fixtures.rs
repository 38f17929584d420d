//! Owns the files that scenarios lean on: manifests, the documents they cite, the CNI profile.
//! Must not know scenarios.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::Document;
use super::model::Object;
use super::outline::{CodeBlock, Outline};
use super::premises::Premises;
use super::problem::{Problem, Problems};
use super::profile::Profile;
use super::source::{Source, Span};
use super::{json, tree};

/// The objects of each manifest file, by its path under `fixtures/manifests`.
pub type Manifests = BTreeMap<String, Vec<Object>>;

/// The blocks of code of each document, by its file name under `fixtures/documents`.
pub type Code = BTreeMap<String, Vec<CodeBlock>>;

/// Everything outside of a scenario file that checking it needs, read beforehand.
#[derive(Debug, Clone)]
pub struct Fixtures {
    /// Manifest files.
    pub manifests: Manifests,
    /// Each document, by its file name under `fixtures/documents`.
    pub documents: BTreeMap<String, Document>,
    /// The blocks of code of each document, likewise.
    pub code: Code,
    /// What each point of each checklist says, by the file name under `fixtures/checklists` without `.md`.
    pub checklists: BTreeMap<String, BTreeMap<u16, String>>,
    /// What `${cni...}` stands for.
    pub profile: Profile,
    /// The cluster that scenarios are read for, if it is there already.
    pub premises: Option<Arc<Premises>>,
}

impl Fixtures {
    /// Reads `manifests/`, `documents/` and `checklists/` below `folder`, the repository's `fixtures`.
    /// A folder that is not there holds no files.
    ///
    /// # Errors
    /// Each file that cannot be read or is no manifest, with the place.
    pub fn open(folder: &Path, profile: Profile) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut fixtures = Self::bare(profile);
        for (name, path) in files(&folder.join("manifests"), &["yaml", "yml"])? {
            match read_source(&path).and_then(manifest) {
                Ok(objects) => drop(fixtures.manifests.insert(name, objects)),
                Err(wrong) => problems.extend(wrong),
            }
        }
        for (name, path) in files(&folder.join("documents"), &["md"])? {
            match read_source(&path) {
                Ok(source) => {
                    let Outline { sections, code } = Outline::of(source.text());
                    fixtures.documents.insert(name.clone(), Document { sections, ..Document::default() });
                    fixtures.code.insert(name, code);
                }
                Err(wrong) => problems.extend(wrong),
            }
        }
        for (name, path) in files(&folder.join("documents"), &["yaml"])? {
            match read_source(&path).and_then(|source| fixtures.exemptions(&name, source)) {
                Ok(()) => {}
                Err(wrong) => problems.extend(wrong),
            }
        }
        for (name, path) in files(&folder.join("checklists"), &["md"])? {
            let list = name.strip_suffix(".md").unwrap_or(&name).to_owned();
            match read_source(&path) {
                Ok(source) => drop(fixtures.checklists.insert(list, points(source.text()))),
                Err(wrong) => problems.extend(wrong),
            }
        }
        problems.or(fixtures)
    }

    /// Takes in `DOCUMENT.coverage.yaml`: which headings of a document are without a claim, and why.
    fn exemptions(&mut self, name: &str, source: Source) -> Result<(), Problems> {
        let mut problems = Vec::new();
        let root = tree::parse_one(source.text(), &mut problems);
        let document =
            name.strip_suffix(".coverage.yaml").and_then(|stem| self.documents.get_mut(&format!("{stem}.md")));
        match (document, root.as_ref().and_then(|root| root.entry("untestable"))) {
            (None, _) => {
                problems.push(Problem::whole("no document is called so; the name is `DOCUMENT.coverage.yaml`"))
            }
            (_, None) => problems.push(Problem::whole("this wants `untestable` with headings and reasons")),
            (Some(document), Some(entry)) => {
                for exempt in entry.value.entries() {
                    let reason = exempt.value.text().map(str::trim).filter(|reason| !reason.is_empty());
                    match (document.section(&exempt.key), reason) {
                        (None, _) => problems.push(Problem::at(exempt.key_span, "no heading has this anchor")),
                        (_, None) => problems.push(Problem::at(exempt.key_span, "no reason is given")),
                        (Some(_), Some(reason)) => {
                            document.untestable.insert(exempt.key.clone(), reason.to_string());
                        }
                    }
                }
            }
        }
        Problems::of(Arc::new(source), problems).or(())
    }

    /// No files, only a profile: for a scenario that uses none.
    #[must_use]
    pub const fn bare(profile: Profile) -> Self {
        Self {
            manifests: Manifests::new(),
            documents: BTreeMap::new(),
            code: Code::new(),
            checklists: BTreeMap::new(),
            profile,
            premises: None,
        }
    }
}

/// A problem with a file of which no text is at hand.
pub(super) fn unreadable(name: &str, message: impl Into<String>) -> Problems {
    let source = Arc::new(Source::new(name, ""));
    Problems::of(source, vec![Problem::whole(message)])
}

/// The text of a file, which messages call by its path.
pub(super) fn read_source(path: &Path) -> Result<Source, Problems> {
    read_named(path, &path.display().to_string())
}

/// The text of a file that messages call `name`, within the limits of [`source_of`].
pub(super) fn read_named(path: &Path, name: &str) -> Result<Source, Problems> {
    use std::io::Read as _;
    let limit = tree::MAX_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    match read {
        Ok(_) => source_of(bytes, name),
        Err(error) => Err(unreadable(name, format!("cannot be read: {error}"))),
    }
}

/// Takes bytes as text if they are UTF-8 and at most 1 MiB.
pub(super) fn source_of(bytes: Vec<u8>, name: &str) -> Result<Source, Problems> {
    if bytes.len() > tree::MAX_BYTES {
        let limit = tree::MAX_BYTES / 1024;
        return Err(unreadable(name, format!("longer than {limit} KiB, the most that is read")));
    }
    String::from_utf8(bytes).map(|text| Source::new(name, text)).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..good].iter().filter(|b| **b == b'\n').count();
        unreadable(name, format!("not UTF-8 text: byte {good}, in line {line}"))
    })
}

/// All files below `folder` with one of these extensions, by their path from there.
pub(super) fn files(folder: &Path, extensions: &[&str]) -> Result<Vec<(String, PathBuf)>, Problems> {
    let mut found = Vec::new();
    if folder.is_dir() {
        collect(folder, folder, extensions, 0, &mut found)?;
    }
    found.sort();
    Ok(found)
}

/// Folders are nested far less deep than this; the limit ends a loop of symbolic links.
const MAX_FOLDERS: usize = 8;

fn collect(
    top: &Path,
    folder: &Path,
    extensions: &[&str],
    depth: usize,
    found: &mut Vec<(String, PathBuf)>,
) -> Result<(), Problems> {
    let cannot =
        |error: std::io::Error| unreadable(&folder.display().to_string(), format!("cannot be listed: {error}"));
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.is_dir() {
            if depth < MAX_FOLDERS {
                collect(top, &path, extensions, depth + 1, found)?;
            }
            continue;
        }
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if let (true, Ok(under)) = (extensions.contains(&extension), path.strip_prefix(top)) {
            found.push((under.to_string_lossy().replace('\\', "/"), path.clone()));
        }
    }
    Ok(())
}

/// The objects of a manifest file, which is plain Kubernetes: `${` means nothing in it.
fn manifest(source: Source) -> Result<Vec<Object>, Problems> {
    let mut problems = Vec::new();
    let documents = tree::parse_all(source.text(), &mut problems).unwrap_or_default();
    let mut objects = Vec::new();
    for document in documents.iter().filter(|document| !document.is_null()) {
        let object = json::verbatim(document)
            .and_then(|value| Object::new(json::Json::known(value)).map_err(|wrong| (document.point(), wrong)));
        match object {
            Ok(object) => objects.push(object),
            Err((span, wrong)) => problems.push(Problem::at(span, wrong)),
        }
    }
    if objects.is_empty() && problems.is_empty() {
        problems.push(Problem::at(Span::default(), "the file holds no object"));
    }
    Problems::of(Arc::new(source), problems).or(objects)
}

/// The points of a checklist: lines that begin with a number and a full stop.
fn points(text: &str) -> BTreeMap<u16, String> {
    let point = |line: &str| {
        let (number, text) = line.split_once(". ")?;
        Some((number.parse().ok()?, text.trim().to_owned()))
    };
    text.lines().filter_map(point).collect()
}
