//! Files that decide about a node's network, such as those in `/etc/cni/net.d`, with their text.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::FactsError;

/// The most of one file that is told, in bytes.
const MOST: u64 = 64 << 10;

/// One file, or its absence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFact {
    pub path: PathBuf,
    pub exists: bool,
    /// Bytes.
    pub size: u64,
    /// Permission bits, `0644`.
    pub mode: String,
    /// The first 64 KiB, where they are text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Tells about each path; a directory stands for the files right in it, by name.
pub(super) fn tell(paths: &[PathBuf]) -> Result<Vec<FileFact>, FactsError> {
    let mut facts = Vec::new();
    for path in paths {
        let failed = |source| FactsError::File { path: path.clone(), source };
        if path.is_dir() {
            let entries = std::fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            let mut files: Vec<_> = entries.map_err(failed)?.into_iter().map(|entry| entry.path()).collect();
            files.retain(|file| file.is_file());
            files.sort();
            for file in files {
                facts.push(one(&file).map_err(failed)?);
            }
        } else {
            facts.push(one(path).map_err(failed)?);
        }
    }
    Ok(facts)
}

fn one(path: &Path) -> io::Result<FileFact> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(FileFact { path: path.to_owned(), exists: false, size: 0, mode: String::new(), text: None });
        }
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(FileFact {
        path: path.to_owned(),
        exists: true,
        size: metadata.len(),
        mode: format!("{:04o}", metadata.permissions().mode() & 0o7777),
        text: String::from_utf8(bytes).ok(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_directory_stands_for_its_files_and_absence_is_a_fact() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("20-b.conf"), "b").unwrap();
        std::fs::write(directory.path().join("10-a.conf"), "aa").unwrap();
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        let missing = directory.path().join("none");
        let facts = tell(&[directory.path().to_owned(), missing.clone()]).unwrap();
        let told: Vec<_> = facts.iter().map(|fact| (fact.size, fact.text.as_deref(), fact.exists)).collect();
        assert_eq!(told, [(2, Some("aa"), true), (1, Some("b"), true), (0, None, false)]);
        assert_eq!(facts[2].path, missing);
    }
}
