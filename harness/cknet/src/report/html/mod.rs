//! Owns the HTML report: `report.html`, one file that needs no other and no script, whole after every scenario. It
//! must not know how verdicts and findings are reached.

mod markup;
mod page;

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::gather::Gathered;
use super::{ReportError, Reporter, whole_file};
use crate::claims::Verdicts;
use crate::event::{Event, What};
use crate::scenario::Document;

/// Writes the report.
pub struct Html {
    path: PathBuf,
    /// The documents whose claims are shown.
    documents: BTreeMap<String, Document>,
    gathered: Gathered,
    verdicts: Verdicts,
}

impl Html {
    pub fn new(path: impl Into<PathBuf>, documents: BTreeMap<String, Document>) -> Self {
        Self { path: path.into(), documents, gathered: Gathered::default(), verdicts: Verdicts::default() }
    }

    /// The report as it stands; `None` before the run has started.
    pub fn render(&self) -> Option<String> {
        let findings = crate::claims::findings(&self.verdicts, &[], &self.documents);
        page::page(&self.gathered, &findings)
    }

    fn write(&self) -> Result<(), ReportError> {
        self.render().map_or(Ok(()), |page| whole_file::replace("html", &self.path, page.as_bytes()))
    }
}

impl Reporter for Html {
    fn event(&mut self, event: &Event) -> Result<(), ReportError> {
        self.gathered.record(event);
        self.verdicts.record(event);
        match event.what {
            What::RunStarted(_) | What::ScenarioFinished(_) | What::RunFinished(_) => self.write(),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), ReportError> {
        self.write()
    }
}
