//! The keyboard of a container: its standard input, or its terminal, for `kubectl attach` and `kubectl run -it`.
//!
//! Only containers whose spec asks for one have it; who types is not known here.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cknet_kernel::pty::{self, Pty, Terminal};
use k8s_openapi::api::core::v1::Container;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::{Mutex, broadcast};
use tokio_util::sync::CancellationToken;

/// What is shown of before to somebody who attaches, in bytes: a prompt, not a history.
const SHOWN_BEFORE: usize = 16 * 1024;
/// Pieces of output that a slow viewer may lag behind.
const LAG: usize = 256;
/// What processes left on a terminal may still write once the container has ended.
const LAST_OUTPUT: Duration = Duration::from_millis(200);
/// How one types the end of the input.
const END_OF_TRANSMISSION: &[u8] = &[4];

/// What a new process gets of its console.
pub enum Seat {
    Terminal(Terminal),
    Input(File),
}

/// A container's input, and the output of its terminal.
#[derive(Debug)]
pub struct Console {
    keyboard: Keyboard,
    /// The input ends with the first who attaches.
    once: bool,
    screen: std::sync::Mutex<Vec<u8>>,
    said: broadcast::Sender<Vec<u8>>,
    /// The terminal is silent for good.
    dark: CancellationToken,
}

#[derive(Debug)]
enum Keyboard {
    Terminal(Arc<Pty>),
    Pipe(Mutex<Option<pipe::Sender>>),
}

impl Console {
    /// The console that `container` asks for. What its terminal shows goes to the named pipe at `output`, too, whose
    /// other end is open.
    pub fn of(container: &Container, output: &Path) -> io::Result<Option<(Arc<Self>, Seat)>> {
        let once = container.stdin_once == Some(true);
        if container.tty == Some(true) {
            let (pty, terminal) = pty::open()?;
            let console = Self::new(Keyboard::Terminal(Arc::new(pty)), once);
            let log = pipe::OpenOptions::new().open_sender(output)?;
            tokio::spawn(Arc::clone(&console).carry(log));
            return Ok(Some((console, Seat::Terminal(terminal))));
        }
        if container.stdin != Some(true) {
            return Ok(None);
        }
        let (sender, receiver) = pipe::pipe()?;
        let console = Self::new(Keyboard::Pipe(Mutex::new(Some(sender))), once);
        Ok(Some((console, Seat::Input(receiver.into_blocking_fd()?.into()))))
    }

    fn new(keyboard: Keyboard, once: bool) -> Arc<Self> {
        let said = broadcast::Sender::new(LAG);
        Arc::new(Self { keyboard, once, screen: Default::default(), said, dark: CancellationToken::new() })
    }

    pub fn is_terminal(&self) -> bool {
        matches!(self.keyboard, Keyboard::Terminal(_))
    }

    /// Moves what the terminal shows into the log and to those who look on.
    async fn carry(self: Arc<Self>, mut log: pipe::Sender) {
        let _dark = self.dark.clone().drop_guard();
        let Keyboard::Terminal(pty) = &self.keyboard else { return };
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = pty.read(&mut buffer).await {
            let bytes = &buffer[..count];
            {
                let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
                screen.extend_from_slice(bytes);
                let excess = screen.len().saturating_sub(SHOWN_BEFORE);
                screen.drain(..excess);
                // Nobody may be looking on.
                let _ = self.said.send(bytes.to_vec());
            }
            if log.write_all(bytes).await.is_err() {
                return;
            }
        }
    }

    /// What the terminal showed, and what it shows from now on.
    pub fn look_on(&self) -> (Vec<u8>, broadcast::Receiver<Vec<u8>>) {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        (screen.clone(), self.said.subscribe())
    }

    /// Types; an error when nobody reads any more.
    pub async fn type_in(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.keyboard {
            Keyboard::Terminal(pty) => pty.write_all(bytes).await,
            Keyboard::Pipe(sender) => match &mut *sender.lock().await {
                Some(sender) => sender.write_all(bytes).await,
                None => Err(io::ErrorKind::BrokenPipe.into()),
            },
        }
    }

    /// Whoever typed types no more: the end of the input, where it was theirs alone.
    pub async fn typed_out(&self) {
        if !self.once {
            return;
        }
        match &self.keyboard {
            // A terminal that is gone needs no end of its input.
            Keyboard::Terminal(pty) => drop(pty.write_all(END_OF_TRANSMISSION).await),
            Keyboard::Pipe(sender) => drop(sender.lock().await.take()),
        }
    }

    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        match &self.keyboard {
            Keyboard::Terminal(pty) => pty.resize(rows, columns),
            Keyboard::Pipe(_) => Ok(()),
        }
    }

    /// Waits, but not long, until all is shown that was written.
    pub async fn settle(&self) {
        if self.is_terminal() {
            let _ = tokio::time::timeout(LAST_OUTPUT, self.dark.cancelled()).await;
            self.dark.cancel();
        }
    }

    /// Once the terminal shows nothing more.
    pub async fn is_dark(&self) {
        self.dark.cancelled().await;
    }
}
