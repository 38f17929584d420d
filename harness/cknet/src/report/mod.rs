//! Owns the telling of a run: reporters get events and nothing else. It must not know how a verdict was reached,
//! and asks nothing back.

mod claims;
pub mod clean;
mod failure;
mod gather;
mod html;
pub mod junit;
mod ndjson;
pub mod terminal;
mod units;
mod whole_file;

pub use claims::{as_markdown, as_text};
pub use failure::in_short;
pub use html::Html;
pub use ndjson::Ndjson;

use std::io;
use std::path::PathBuf;

use crate::event::Event;

/// Something that tells of a run.
pub trait Reporter {
    /// Takes note of one event. Events come in the order in which they happened.
    ///
    /// # Errors
    /// When what it writes could not be written. It stays usable: later events may be told again.
    fn event(&mut self, event: &Event) -> Result<(), ReportError>;

    /// Nothing more will come; whatever is still held back is written.
    ///
    /// # Errors
    /// When the report is not complete on disk.
    fn finish(&mut self) -> Result<(), ReportError>;
}

/// A report could not be written. What was written before is intact, and the run must not end with success.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the {report} report `{path}`: {source}")]
pub struct ReportError {
    /// `junit`, `ndjson`, `terminal`.
    pub report: &'static str,
    pub action: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

/// Tells every reporter, also after one of them had an error.
#[derive(Default)]
pub struct Fanout {
    reporters: Vec<Box<dyn Reporter + Send>>,
    /// The first error of each reporter, in the order of `reporters`; one full disk is told once.
    errors: Vec<Option<ReportError>>,
}

impl Fanout {
    /// Adds a reporter.
    pub fn add(&mut self, reporter: impl Reporter + Send + 'static) {
        self.reporters.push(Box::new(reporter));
        self.errors.push(None);
    }

    /// Tells all of them.
    pub fn event(&mut self, event: &Event) {
        for (reporter, first) in self.reporters.iter_mut().zip(&mut self.errors) {
            note(first, reporter.event(event));
        }
    }

    /// Ends all of them and returns the first error of each that had one.
    pub fn finish(mut self) -> Vec<ReportError> {
        for (reporter, first) in self.reporters.iter_mut().zip(&mut self.errors) {
            note(first, reporter.finish());
        }
        self.errors.into_iter().flatten().collect()
    }
}

fn note(first: &mut Option<ReportError>, result: Result<(), ReportError>) {
    if let (None, Err(error)) = (&first, result) {
        *first = Some(error);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::event::ScenarioFinished;
    use std::sync::mpsc;

    struct Broken;

    impl Reporter for Broken {
        fn event(&mut self, _: &Event) -> Result<(), ReportError> {
            let source = io::ErrorKind::StorageFull.into();
            Err(ReportError { report: "junit", action: "write", path: "out.xml".into(), source })
        }

        fn finish(&mut self) -> Result<(), ReportError> {
            self.event(&happening())
        }
    }

    struct Whole(mpsc::Sender<&'static str>);

    impl Reporter for Whole {
        fn event(&mut self, _: &Event) -> Result<(), ReportError> {
            self.0.send("event").unwrap();
            Ok(())
        }

        fn finish(&mut self) -> Result<(), ReportError> {
            self.0.send("finish").unwrap();
            Ok(())
        }
    }

    fn happening() -> Event {
        let finished = ScenarioFinished { scenario: "a.b".into(), took_ms: 1, waits: None };
        Event::new(jiff::Timestamp::UNIX_EPOCH, finished)
    }

    #[test]
    fn one_broken_reporter_does_not_silence_the_next_and_is_told_once() {
        let (sender, told) = mpsc::channel();
        let mut fanout = Fanout::default();
        fanout.add(Broken);
        fanout.add(Whole(sender));
        fanout.event(&happening());
        fanout.event(&happening());
        let errors = fanout.finish();
        assert_eq!(told.iter().collect::<Vec<_>>(), ["event", "event", "finish"]);
        let [error] = &errors[..] else { panic!("{errors:?}") };
        assert!(error.to_string().starts_with("cannot write the junit report `out.xml`: "), "{error}");
    }
}
