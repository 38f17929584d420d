//! From a container's standard output to its log file.
//!
//! A container writes into a named pipe that stays open on both ends, so that neither a kubelet that goes away nor
//! one that comes back disturbs it. The end of a container is therefore told from outside, not by the pipe.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cri::{Lines, Stream};
use crate::node::kubelet::journal::journal;

/// A log file of this size, in bytes, is put aside as `<name>.1`, replacing the one before.
pub const LARGEST_FILE: u64 = 10 * 1024 * 1024;

/// The log of one attempt of a container. Readers are told of every write and of the end.
#[derive(Debug)]
pub struct LogBook {
    path: PathBuf,
    largest: u64,
    file: Mutex<(File, u64)>,
    progress: watch::Sender<Progress>,
}

/// How far a log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub written: u64,
    pub ended: bool,
}

impl LogBook {
    /// Opens the log at `path`, continuing what is there.
    pub fn open(path: PathBuf) -> io::Result<Arc<Self>> {
        Self::with_size(path, LARGEST_FILE)
    }

    fn with_size(path: PathBuf, largest: u64) -> io::Result<Arc<Self>> {
        let file = File::options().create(true).append(true).open(&path)?;
        let size = file.metadata()?.len();
        let progress = watch::Sender::new(Progress::default());
        Ok(Arc::new(Self { path, largest, file: Mutex::new((file, size)), progress }))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that was put aside last.
    pub fn rotated(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".1");
        name.into()
    }

    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Nothing will be written any more.
    pub fn end(&self) {
        self.progress.send_modify(|progress| progress.ended = true);
    }

    /// Appends whole formatted lines.
    fn append(&self, lines: &[u8]) -> io::Result<()> {
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, size) = &mut *guard;
        if *size > 0 && *size + lines.len() as u64 > self.largest {
            fs::rename(&self.path, Self::rotated(&self.path))?;
            *file = File::options().create(true).append(true).open(&self.path)?;
            *size = 0;
        }
        file.write_all(lines)?;
        *size += lines.len() as u64;
        drop(guard);
        self.progress.send_modify(|progress| progress.written += lines.len() as u64);
        Ok(())
    }
}

/// Makes the named pipe at `path` if it is not there.
pub fn prepare(path: &Path) -> io::Result<()> {
    match mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The end of the pipe that a container gets.
pub fn writing_end(path: &Path) -> io::Result<File> {
    // For reading too: a pipe without a reader would kill the writer.
    File::options().read(true).write(true).open(path)
}

/// Starts to move what arrives in the pipe at `path` into `book`, until `ended` is cancelled and the pipe is empty.
pub fn start(
    path: &Path,
    stream: Stream,
    book: Arc<LogBook>,
    ended: CancellationToken,
) -> io::Result<tokio::task::JoinHandle<()>> {
    let receiver = pipe::OpenOptions::new().read_write(true).open_receiver(path)?;
    Ok(tokio::spawn(async move {
        if let Err(error) = carry(&receiver, stream, &book, &ended).await {
            journal(format_args!("cannot write `{}`: {error}", book.path().display()));
        }
    }))
}

async fn carry(pipe: &pipe::Receiver, stream: Stream, book: &LogBook, ended: &CancellationToken) -> io::Result<()> {
    let mut lines = Lines::new(stream);
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let is_over = tokio::select! {
            biased;
            ready = pipe.readable() => { ready?; false }
            () = ended.cancelled() => true,
        };
        match pipe.try_read(&mut buffer) {
            Ok(count) => {
                let formatted = lines.push(&buffer[..count], Timestamp::now());
                if !formatted.is_empty() {
                    book.append(&formatted)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && is_over => break,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    match lines.finish(Timestamp::now()) {
        rest if rest.is_empty() => Ok(()),
        rest => book.append(&rest),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn everything_written_before_the_end_is_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("stdout");
        prepare(&fifo).unwrap();
        prepare(&fifo).unwrap();
        let book = LogBook::open(folder.path().join("0.log")).unwrap();
        let ended = CancellationToken::new();
        let mut writer = writing_end(&fifo).unwrap();
        let carried = start(&fifo, Stream::Stdout, Arc::clone(&book), ended.clone()).unwrap();
        for number in 0..1000 {
            // The runtime has one thread: let the other side empty the pipe.
            tokio::task::yield_now().await;
            writeln!(writer, "line {number}").unwrap();
        }
        write!(writer, "tail").unwrap();
        ended.cancel();
        carried.await.unwrap();
        let text = fs::read_to_string(book.path()).unwrap();
        assert_eq!(text.lines().count(), 1001);
        assert!(text.lines().nth(999).unwrap().ends_with(" stdout F line 999"));
        assert!(text.ends_with(" stdout P tail\n"));
        assert_eq!(book.progress().borrow().written, text.len() as u64);
    }

    #[test]
    fn a_full_file_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let book = LogBook::with_size(folder.path().join("0.log"), 20).unwrap();
        for line in ["aaaaaaaaaaaaaaa\n", "bbbbbbbbbbbbbbb\n", "ccccccccccccccc\n"] {
            book.append(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(book.path()).unwrap(), "ccccccccccccccc\n");
        assert_eq!(fs::read_to_string(LogBook::rotated(book.path())).unwrap(), "bbbbbbbbbbbbbbb\n");
    }
}
