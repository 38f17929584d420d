//! From words on the command line to checked scenarios.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Selection, complain};
use crate::exit::ExitCode;
use crate::scenario::{
    Document, Filter, Fixtures, Found, LocateError, Premises, Profile, Roots, Scenario, locate, read_suite,
};

/// Documents by the names of their files.
pub type Documents = BTreeMap<String, Document>;

/// The chosen scenarios, checked; or the exit code after every problem has been told.
pub fn read(selection: &Selection, profile: &str) -> Result<Vec<Scenario>, ExitCode> {
    let (found, fixtures) = find(selection, profile)?;
    checked(&found, &fixtures)
}

/// The chosen scenarios, and the documents that they are about; read for a cluster that is there already, if it is.
pub fn read_with_documents(
    selection: &Selection,
    profile: &str,
    premises: Option<Premises>,
) -> Result<(Vec<Scenario>, Documents), ExitCode> {
    let (found, mut fixtures) = find(selection, profile)?;
    fixtures.premises = premises.map(Arc::new);
    Ok((checked(&found, &fixtures)?, fixtures.documents))
}

fn checked(found: &[Found], fixtures: &Fixtures) -> Result<Vec<Scenario>, ExitCode> {
    read_suite(found, fixtures).map_err(|problems| {
        super::note(problems.to_string().trim_end());
        super::note("hint: check again without a cluster: cknet check");
        ExitCode::Usage
    })
}

/// The chosen files, and what they refer to.
pub fn find(selection: &Selection, profile: &str) -> Result<(Vec<Found>, Fixtures), ExitCode> {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    let roots = Roots::find(selection.scenarios.as_deref(), &here).map_err(refused)?;
    let found = locate(&roots, &Filter { words: selection.filter.clone() }).map_err(refused)?;
    let profile = match Profile::embedded(profile) {
        Some(Ok(profile)) => profile,
        Some(Err(problems)) => return Err(complain(ExitCode::Usage, &problems.to_string())),
        None => return Err(complain(ExitCode::Usage, &format!("there is no CNI profile `{profile}`"))),
    };
    let fixtures =
        Fixtures::open(&roots.fixtures, profile).map_err(|error| complain(ExitCode::Usage, &error.to_string()))?;
    Ok((found, fixtures))
}

fn refused(error: LocateError) -> ExitCode {
    let code = match &error {
        LocateError::NoMatch { .. } => ExitCode::NothingChecked,
        _ => ExitCode::Usage,
    };
    complain(code, &error.to_string())
}
