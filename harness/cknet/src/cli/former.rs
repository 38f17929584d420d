//! What former runs have left: where their events lie, in a folder, in a file or in an archive, and what they say.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use crate::claims::Verdicts;
use crate::event::Event;
use crate::ledger::StateDir;

/// The name of the event stream in the folder of a run.
pub const EVENTS: &str = "events.ndjson";

/// Folders below the named one that are looked into: `<artifact>/<shard>/events.ndjson`, and a repetition below that.
const DEPTH: u32 = 3;

/// Most that is read from one stream; the largest of today's is 30 MB.
const LARGEST: u64 = 512 * 1024 * 1024;

/// One stream of events, and the words for where it lies.
#[derive(Debug)]
struct Stream {
    place: String,
    text: String,
}

/// The only run in this place: its id, the folder of its reports, its event stream or an archive of it; the latest run
/// when none is named.
pub fn run(place: Option<&Path>) -> Result<Verdicts, String> {
    let mut streams = match place {
        Some(place) => streams(place)?,
        None => vec![read_file(&latest()?)?],
    };
    match (streams.pop(), streams.len()) {
        (Some(stream), 0) => verdicts(&stream),
        (_, others) => Err(format!("{} runs are there; name one of them", others + 1)),
    }
}

/// Every run in this place: the shares of one run lie in folders beside each other.
pub fn runs(place: Option<&Path>) -> Result<Vec<Verdicts>, String> {
    match place {
        Some(place) => streams(place)?.iter().map(verdicts).collect(),
        None => Ok(vec![verdicts(&read_file(&latest()?)?)?]),
    }
}

fn state() -> Result<StateDir, String> {
    StateDir::from_env(|name| std::env::var_os(name)).map_err(|error| error.to_string())
}

/// The streams in a place, at least one, in the order of their paths.
fn streams(place: &Path) -> Result<Vec<Stream>, String> {
    let nothing = || format!("`{}` is neither a run nor a folder or an archive with `{EVENTS}`", place.display());
    if place.is_file() {
        let found = match kind_of(place)? {
            Kind::Zip => from_zip(place)?,
            Kind::Gzip => from_tar(place, flate2::read::MultiGzDecoder::new(open(place)?))?,
            Kind::Tar => from_tar(place, open(place)?)?,
            Kind::Text => vec![read_file(place)?],
        };
        return if found.is_empty() { Err(nothing()) } else { Ok(found) };
    }
    for folder in [place.to_path_buf(), state()?.runs().join(place)] {
        let mut paths = Vec::new();
        gather(&folder, DEPTH, &mut paths);
        paths.sort();
        if !paths.is_empty() {
            return paths.iter().map(|path| read_file(path)).collect();
        }
    }
    Err(nothing())
}

/// Streams in a folder; below one that has its own none is looked for, and links are not followed.
fn gather(folder: &Path, depth: u32, found: &mut Vec<PathBuf>) {
    let own = folder.join(EVENTS);
    if own.is_file() {
        found.push(own);
        return;
    }
    let Some(deeper) = depth.checked_sub(1) else { return };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            gather(&entry.path(), deeper, found);
        }
    }
}

/// The newest stream; runs of other commands have none. Run ids begin with the time, so that their order is that of
/// the runs.
fn latest() -> Result<PathBuf, String> {
    let runs = state()?.runs();
    let none = || format!("no run has left events in `{}`; do one: cknet run", runs.display());
    let folders = fs::read_dir(&runs).map_err(|_| none())?;
    let streams = folders.filter_map(|folder| Some(folder.ok()?.path().join(EVENTS))).filter(|path| path.is_file());
    streams.max().ok_or_else(none)
}

/// What a file is, by its first bytes.
enum Kind {
    Zip,
    Gzip,
    Tar,
    Text,
}

fn kind_of(path: &Path) -> Result<Kind, String> {
    let mut head = Vec::new();
    open(path)?.take(262).read_to_end(&mut head).map_err(|error| unreadable(path, &error))?;
    Ok(match &head[..] {
        [b'P', b'K', 3 | 5, ..] => Kind::Zip,
        [0x1f, 0x8b, ..] => Kind::Gzip,
        head if head.get(257..262) == Some(b"ustar") => Kind::Tar,
        _ => Kind::Text,
    })
}

fn from_zip(path: &Path) -> Result<Vec<Stream>, String> {
    let mut archive = zip::ZipArchive::new(open(path)?).map_err(|error| unreadable(path, &error))?;
    let mut found = Vec::new();
    for index in 0..archive.len() {
        let file = archive.by_index(index).map_err(|error| unreadable(path, &error))?;
        let name = file.name().map_err(|error| unreadable(path, &error))?.into_owned();
        if is_stream(&name) {
            found.push(read_text(format!("{}:{name}", path.display()), file)?);
        }
    }
    found.sort_by(|a, b| a.place.cmp(&b.place));
    Ok(found)
}

fn from_tar(path: &Path, archive: impl Read) -> Result<Vec<Stream>, String> {
    let mut archive = tar::Archive::new(archive);
    let mut found = Vec::new();
    for entry in archive.entries().map_err(|error| unreadable(path, &error))? {
        let entry = entry.map_err(|error| unreadable(path, &error))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if is_stream(&name) {
            found.push(read_text(format!("{}:{name}", path.display()), entry)?);
        }
    }
    found.sort_by(|a, b| a.place.cmp(&b.place));
    Ok(found)
}

/// Names are only compared: nothing from an archive is written anywhere.
fn is_stream(name: &str) -> bool {
    name.rsplit('/').next() == Some(EVENTS)
}

fn open(path: &Path) -> Result<BufReader<File>, String> {
    File::open(path).map(BufReader::new).map_err(|error| unreadable(path, &error))
}

fn read_file(path: &Path) -> Result<Stream, String> {
    read_text(path.display().to_string(), open(path)?)
}

/// What is unpacked can be far larger than what was packed, hence the bound.
fn read_text(place: String, reader: impl Read) -> Result<Stream, String> {
    let mut bytes = Vec::new();
    let read = reader.take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot read `{place}`: {error}"))?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("cannot read `{place}`: larger than {} MiB", LARGEST / 1024 / 1024));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Stream { place, text }),
        Err(_) => Err(format!("cannot read `{place}`: it is not text")),
    }
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("cannot read `{}`: {error}", path.display())
}

/// All events of a stream; a last line that was cut off is left out.
fn verdicts(stream: &Stream) -> Result<Verdicts, String> {
    let Stream { place, text } = stream;
    let mut verdicts = Verdicts::default();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        match serde_json::from_str::<Event>(line) {
            Ok(event) => verdicts.record(&event),
            Err(_) if lines.peek().is_none() && !text.ends_with('\n') => {}
            Err(error) => return Err(format!("`{place}:{}` is not an event: {error}", number + 1)),
        }
    }
    match verdicts.run {
        Some(_) => Ok(verdicts),
        None => Err(format!("`{place}` does not tell of a run")),
    }
}
