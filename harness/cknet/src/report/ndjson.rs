//! Owns the event stream as a file: one JSON object a line, each flushed as it comes. It must not know what any
//! event means.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{ReportError, Reporter};
use crate::event::Event;

/// Writes each event as a line.
pub struct Ndjson<W> {
    writer: W,
    path: PathBuf,
    /// After a failed write the last line may be half a line: nothing may be put behind it.
    broken: bool,
}

impl Ndjson<Lines> {
    /// A new file at `path`; the folders above it are made. An earlier file stays until the first event is written.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path) -> Result<Self, ReportError> {
        let error = |action| move |source| ReportError { report: "ndjson", action, path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(error("make the folder of"))?;
        }
        Ok(Self::new(Lines::create(path).map_err(error("create"))?, path))
    }
}

/// A file of whole lines: half a line that a full disk leaves is cut off again.
pub struct Lines {
    file: File,
    path: PathBuf,
    /// Where it is written until its first line is there.
    draft: Option<PathBuf>,
    /// The length up to the last whole line.
    whole: u64,
}

impl Lines {
    fn create(path: &Path) -> io::Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let draft = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
        let file = File::create(&draft)?;
        if let Err(error) = replaceable(path) {
            let _ = fs::remove_file(&draft);
            return Err(error);
        }
        Ok(Self { file, path: path.to_owned(), draft: Some(draft), whole: 0 })
    }

    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.write_all(line)?;
        if let Some(draft) = &self.draft {
            fs::rename(draft, &self.path)?;
            self.draft = None;
        }
        self.whole += line.len() as u64;
        Ok(())
    }
}

/// Whether a file at `path` could be replaced by another one.
fn replaceable(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        _ => Ok(()),
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let written = self.put(line);
        if written.is_err() {
            // The first error is the one to tell.
            let _ = self.file.set_len(self.whole);
        }
        written.map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let Some(draft) = &self.draft {
            // Nothing was ever written to it.
            let _ = fs::remove_file(draft);
        }
    }
}

impl<W: Write> Ndjson<W> {
    /// Into `writer`, which errors call `path`.
    pub fn new(writer: W, path: &Path) -> Self {
        Self { writer, path: path.to_owned(), broken: false }
    }

    fn failed(&mut self, source: io::Error) -> ReportError {
        self.broken = true;
        ReportError { report: "ndjson", action: "write", path: self.path.clone(), source }
    }
}

impl<W: Write> Reporter for Ndjson<W> {
    fn event(&mut self, event: &Event) -> Result<(), ReportError> {
        if self.broken {
            return Ok(());
        }
        let mut line = serde_json::to_vec(event).map_err(|error| self.failed(error.into()))?;
        line.push(b'\n');
        // One write for the whole line: a reader that follows the file sees whole lines.
        self.writer.write_all(&line).and_then(|()| self.writer.flush()).map_err(|error| self.failed(error))
    }

    fn finish(&mut self) -> Result<(), ReportError> {
        self.writer.flush().map_err(|error| self.failed(error))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::event::ScenarioFinished;
    use jiff::Timestamp;

    fn event(took_ms: u64) -> Event {
        Event::new(Timestamp::UNIX_EPOCH, ScenarioFinished { scenario: "a.b\n".into(), took_ms, waits: None })
    }

    #[test]
    fn one_event_a_line_that_reads_back() {
        let mut out = Vec::new();
        let mut reporter = Ndjson::new(&mut out, Path::new("x"));
        for took in [1, 2] {
            reporter.event(&event(took)).unwrap();
        }
        reporter.finish().unwrap();
        let text = String::from_utf8(out).unwrap();
        let first = text.lines().next().unwrap();
        assert_eq!(first, r#"{"at":"1970-01-01T00:00:00Z","event":"scenario-finished","scenario":"a.b\n","tookMs":1}"#);
        let back: Vec<Event> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(back, [event(1), event(2)]);
    }

    #[test]
    fn a_full_disk_is_told_with_the_path_and_nothing_follows_half_a_line() {
        let path = Path::new("/dev/full");
        let mut reporter = Ndjson::new(File::options().write(true).open(path).unwrap(), path);
        let error = reporter.event(&event(1)).unwrap_err();
        assert!(error.to_string().starts_with("cannot write the ndjson report `/dev/full`: "), "{error}");
        reporter.event(&event(2)).unwrap();
    }
}
