//! Signals in three stages: the first asks the run to stop, take everything down and report; the second gives up on
//! taking down; the third ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
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

impl Interrupts {
    /// Starts to listen for SIGINT, SIGTERM and SIGHUP; needs a tokio runtime.
    pub fn listen() -> std::io::Result<Self> {
        let interrupts =
            Self { stop: CancellationToken::new(), give_up: CancellationToken::new(), first: Arc::default() };
        for (number, kind) in [(1, SignalKind::interrupt()), (2, SignalKind::terminate()), (3, SignalKind::hangup())] {
            let mut signals = signal(kind)?;
            let interrupts = interrupts.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    interrupts.another(number);
                }
            });
        }
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

    #[expect(clippy::exit, reason = "the third signal is there to end a process that does not end by itself")]
    fn another(&self, number: u8) {
        if !self.stop.is_cancelled() {
            self.first.store(number, Ordering::Relaxed);
            self.stop.cancel();
        } else if !self.give_up.is_cancelled() {
            super::note("interrupted again: what is left can be removed with `cknet gc`");
            self.give_up.cancel();
        } else {
            let code = if number == 1 { ExitCode::Interrupted } else { ExitCode::Terminated };
            std::process::exit(i32::from(code.code()));
        }
    }
}
