//! Reads a log back for `kubectl logs`: from where, how much, and whether to wait for more.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::capture::{LogBook, Progress};
use super::cri::{Entry, Stream, parse};

/// What of a log is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Wait for more until the container has ended.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail: Option<usize>,
    /// Only what was written at this time or later.
    pub since: Option<Timestamp>,
    /// Precede each line by the time it was written.
    pub timestamps: bool,
    /// Stop after so many bytes.
    pub limit: Option<usize>,
}

/// A piece of a container's output.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    pub stream: Stream,
    pub bytes: Vec<u8>,
}

/// Sends the pieces of `book` that `query` asks for. Ends when the receiver is gone.
pub async fn read(book: Arc<LogBook>, query: LogQuery, pieces: mpsc::Sender<io::Result<Piece>>) {
    let progress = book.progress();
    let mut reading = Reading { remaining: query.limit.unwrap_or(usize::MAX), query, pieces, at_line_start: true };
    match reading.all(book.path(), progress).await {
        Ok(()) | Err(Stop::Enough) => {}
        Err(Stop::Failed(error)) => drop(reading.pieces.send(Err(error)).await),
    }
}

enum Stop {
    Enough,
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

struct Reading {
    query: LogQuery,
    remaining: usize,
    pieces: mpsc::Sender<io::Result<Piece>>,
    at_line_start: bool,
}

impl Reading {
    async fn all(&mut self, path: &Path, mut progress: watch::Receiver<Progress>) -> Result<(), Stop> {
        let (mut source, older) = open_both(path)?;
        if let Some(mut older) = older {
            if let Some(tail) = self.query.tail {
                let newer = count_lines(&source.file)?;
                older.skip_to_last(tail.saturating_sub(newer))?;
                source.skip_to_last(tail)?;
            }
            self.drain(&mut older).await?;
        } else if let Some(tail) = self.query.tail {
            source.skip_to_last(tail)?;
        }
        loop {
            // Taken before reading: what is written meanwhile is seen in the next round.
            let now = *progress.borrow_and_update();
            self.drain(&mut source).await?;
            if let Some(next) = source.successor(path)? {
                // Nothing is written to a file that was put aside, so this is all of it.
                self.drain(&mut source).await?;
                source = next;
                continue;
            }
            if now.ended || !self.query.follow {
                return Ok(());
            }
            tokio::select! {
                changed = progress.changed() => if changed.is_err() { return Ok(()) },
                () = self.pieces.closed() => return Err(Stop::Enough),
            }
        }
    }

    async fn drain(&mut self, source: &mut Source) -> Result<(), Stop> {
        while source.fill()? {
            let whole = source.take_lines();
            for line in whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                if let Some(entry) = parse(line) {
                    self.give(&entry).await?;
                }
            }
        }
        Ok(())
    }

    async fn give(&mut self, entry: &Entry<'_>) -> Result<(), Stop> {
        if let Some(since) = self.query.since
            && entry.time().is_none_or(|time| time < since)
        {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(entry.text.len() + 32);
        if self.query.timestamps && self.at_line_start {
            bytes.extend_from_slice(entry.stamp.as_bytes());
            bytes.push(b' ');
        }
        bytes.extend_from_slice(entry.text);
        if entry.complete {
            bytes.push(b'\n');
        }
        self.at_line_start = entry.complete;
        bytes.truncate(self.remaining);
        self.remaining -= bytes.len();
        let piece = Piece { stream: entry.stream, bytes };
        self.pieces.send(Ok(piece)).await.map_err(|_| Stop::Enough)?;
        if self.remaining == 0 { Err(Stop::Enough) } else { Ok(()) }
    }
}

/// One file being read, and the start of a line that is not complete yet.
struct Source {
    file: File,
    pending: Vec<u8>,
}

impl Source {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, pending: Vec::new() })
    }

    /// Reads a block; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let mut block = [0; 32 * 1024];
        let count = self.file.read(&mut block)?;
        self.pending.extend_from_slice(&block[..count]);
        Ok(count > 0)
    }

    fn take_lines(&mut self) -> Vec<u8> {
        let end = self.pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.pending.drain(..end).collect()
    }

    fn skip_to_last(&mut self, lines: usize) -> io::Result<()> {
        let start = start_of_last(&self.file, lines)?;
        io::Seek::seek(&mut self.file, io::SeekFrom::Start(start)).map(drop)
    }

    /// The file that now has this one's name, if this one was put aside.
    fn successor(&self, path: &Path) -> io::Result<Option<Self>> {
        let own = self.file.metadata()?;
        match Self::open(path) {
            Ok(other) if other.file.metadata()?.ino() != own.ino() => Ok(Some(other)),
            Ok(_) => Ok(None),
            // Between two files, or the pod is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The current file and the one that was put aside; a rotation between the two opens is noticed.
fn open_both(path: &Path) -> io::Result<(Source, Option<Source>)> {
    loop {
        let source = Source::open(path)?;
        let older = match Source::open(&LogBook::rotated(path)) {
            Ok(older) => Some(older),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if source.successor(path)?.is_none() {
            return Ok((source, older));
        }
    }
}

fn count_lines(file: &File) -> io::Result<usize> {
    let (mut count, mut at, mut block) = (0, 0, vec![0; 64 * 1024]);
    loop {
        match file.read_at(&mut block, at)? {
            0 => return Ok(count),
            read => {
                count += block[..read].iter().filter(|byte| **byte == b'\n').count();
                at += read as u64;
            }
        }
    }
}

/// Where the last `lines` lines begin, looking from the end.
fn start_of_last(file: &File, lines: usize) -> io::Result<u64> {
    let size = file.metadata()?.len();
    if lines == 0 {
        return Ok(size);
    }
    let (mut end, mut wanted, mut block) = (size, lines + 1, vec![0; 64 * 1024]);
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let piece = usize::try_from(end - start).map_err(io::Error::other)?;
        file.read_exact_at(&mut block[..piece], start)?;
        for at in (0..piece).rev().filter(|at| block[*at] == b'\n') {
            wanted -= 1;
            if wanted == 0 {
                return Ok(start + at as u64 + 1);
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;
    use std::fs;
    use std::time::Duration;

    fn lines(numbers: std::ops::Range<u32>) -> String {
        numbers.map(|number| format!("2027-01-15T08:00:{number:02}.000000000Z stdout F {number}\n")).collect()
    }

    async fn collect(book: &Arc<LogBook>, query: LogQuery) -> String {
        let (sender, mut receiver) = mpsc::channel(4);
        tokio::spawn(read(Arc::clone(book), query, sender));
        let mut text = Vec::new();
        while let Some(piece) = receiver.recv().await {
            text.extend(piece.unwrap().bytes);
        }
        String::from_utf8(text).unwrap()
    }

    fn query() -> LogQuery {
        LogQuery::default()
    }

    #[rstest]
    #[case::all(query(), "0 1 2 3 4 5")]
    #[case::tail_within_the_newer_file(LogQuery { tail: Some(2), ..query() }, "4 5")]
    #[case::tail_over_both_files(LogQuery { tail: Some(4), ..query() }, "2 3 4 5")]
    #[case::tail_of_everything(LogQuery { tail: Some(99), ..query() }, "0 1 2 3 4 5")]
    #[case::tail_of_nothing(LogQuery { tail: Some(0), ..query() }, "")]
    #[case::since(LogQuery { since: Some("2027-01-15T08:00:04Z".parse().unwrap()), ..query() }, "4 5")]
    #[case::limit(LogQuery { limit: Some(3), ..query() }, "0 1")]
    #[case::stamps(LogQuery { timestamps: true, tail: Some(1), ..query() }, "2027-01-15T08:00:05.000000000Z 5")]
    #[tokio::test]
    async fn what_is_asked_for_is_given(#[case] query: LogQuery, #[case] expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        fs::write(LogBook::rotated(&path), lines(0..3)).unwrap();
        fs::write(&path, lines(3..6)).unwrap();
        let book = LogBook::open(path).unwrap();
        assert_eq!(collect(&book, query).await.split_whitespace().collect::<Vec<_>>().join(" "), expected);
    }

    #[tokio::test]
    async fn a_follower_sees_what_comes_later_and_ends_with_the_container() {
        use crate::node::kubelet::logs::capture;
        use std::io::Write;
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("stdout");
        capture::prepare(&fifo).unwrap();
        let book = LogBook::open(folder.path().join("0.log")).unwrap();
        let ended = tokio_util::sync::CancellationToken::new();
        let mut writer = capture::writing_end(&fifo).unwrap();
        let carried = capture::start(&fifo, Stream::Stdout, Arc::clone(&book), ended.clone()).unwrap();

        let (sender, mut receiver) = mpsc::channel(4);
        tokio::spawn(read(Arc::clone(&book), LogQuery { follow: true, ..query() }, sender));
        for word in ["first", "second"] {
            writeln!(writer, "{word}").unwrap();
            let piece = tokio::time::timeout(Duration::from_secs(5), receiver.recv()).await.unwrap().unwrap().unwrap();
            assert_eq!(piece.bytes, format!("{word}\n").into_bytes());
        }
        ended.cancel();
        carried.await.unwrap();
        book.end();
        assert!(tokio::time::timeout(Duration::from_secs(5), receiver.recv()).await.unwrap().is_none());
    }
}
