//! Signals in three stages: the first asks the run to stop, take everything down and report; the second gives up on
//! taking down; the third ends the process.
//!
//! They are heard by a thread of their own, because the threads of the run may be stuck: in a terminal that takes no
//! more output, or in a file system that does not answer.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::event::Interrupt;
use crate::exit::ExitCode;

/// What signals ask for.
#[derive(Clone)]
pub struct Interrupts {
    /// The first signal: stop what is under way.
    pub stop: CancellationToken,
    /// The second signal: do not wait for anything any more.
    pub give_up: CancellationToken,
    first: Arc<AtomicU8>,
}

/// The signals by the number that says which came first.
const HEARD: [(u8, SignalKind); 3] =
    [(1, SignalKind::interrupt()), (2, SignalKind::terminate()), (3, SignalKind::hangup())];

impl Interrupts {
    /// Starts to listen for SIGINT, SIGTERM and SIGHUP, without those that the caller wants ignored, as `nohup` does.
    pub fn listen() -> io::Result<Self> {
        let interrupts =
            Self { stop: CancellationToken::new(), give_up: CancellationToken::new(), first: Arc::default() };
        let (tell, told) = mpsc::channel();
        let heard = interrupts.clone();
        thread::Builder::new().name("signals".into()).spawn(move || heard.hear(&tell))?;
        told.recv().map_err(io::Error::other)??;
        Ok(interrupts)
    }

    /// The signal that came first, if one came.
    pub fn which(&self) -> Option<Interrupt> {
        match self.first.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Interrupt::Int),
            2 => Some(Interrupt::Term),
            _ => Some(Interrupt::Hup),
        }
    }

    /// Listens for as long as the process lives; tells first whether it can.
    fn hear(&self, tell: &mpsc::Sender<io::Result<()>>) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().build() {
            Ok(runtime) => runtime,
            // Whoever started the thread waits for this and nothing else.
            Err(error) => return drop(tell.send(Err(error))),
        };
        runtime.block_on(async {
            let signals = match listeners() {
                Ok(signals) => signals,
                Err(error) => return drop(tell.send(Err(error))),
            };
            drop(tell.send(Ok(())));
            let each = signals.into_iter().map(|(number, mut signal)| async move {
                while signal.recv().await.is_some() {
                    self.another(number);
                }
            });
            futures::future::join_all(each).await;
        });
    }

    fn another(&self, number: u8) {
        if !self.stop.is_cancelled() {
            self.first.store(number, Ordering::Relaxed);
            self.stop.cancel();
        } else if !self.give_up.is_cancelled() {
            self.give_up.cancel();
        } else {
            let code = if number == 1 { ExitCode::Interrupted } else { ExitCode::Terminated };
            std::process::exit(i32::from(code.code()));
        }
    }
}

fn listeners() -> io::Result<Vec<(u8, Signal)>> {
    let ignored = ignored();
    let wanted = HEARD.into_iter().filter(|(_, kind)| ignored >> (kind.as_raw_value() - 1) & 1 == 0);
    wanted.map(|(number, kind)| Ok((number, signal(kind)?))).collect()
}

/// The signals that were ignored when the process was started, one bit each (proc_pid_status(5), `SigIgn`).
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
