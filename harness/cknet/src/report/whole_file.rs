//! Owns the writing of a file that is either the old one or the new one, never half of it, whatever happens
//! in between.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::ReportError;

/// Replaces the file at `path`, making the folders above it. When it fails, an earlier file is intact.
pub fn replace(report: &'static str, path: &Path, contents: &[u8]) -> Result<(), ReportError> {
    let error = |action| move |source| ReportError { report, action, path: path.to_owned(), source };
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(error("make the folder of"))?;
    let draft = draft_path(path);
    let written = write_synced(&draft, contents)
        .map_err(error("write"))
        .and_then(|()| fs::rename(&draft, path).map_err(error("replace")));
    if written.is_err() {
        // The draft may be what filled the disk. That it cannot be removed is not worth a second error.
        let _ = fs::remove_file(&draft);
        return written;
    }
    // The new name is safe only when the folder is on disk too.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(error("sync the folder of"))
}

/// In the same folder, since a rename does not cross file systems; with the pid, so that two runs that write the
/// same report do not write into each other's draft; and without `.xml` at its end, so that no pattern of a CI
/// service picks it up.
fn draft_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

fn write_synced(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn makes_folders_and_leaves_nothing_else() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a/b/TEST.xml");
        for contents in ["first", "second"] {
            replace("junit", &path, contents.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), contents);
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_path_that_cannot_be_written_is_named() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("a"), "a file, not a folder").unwrap();
        let path = folder.path().join("a/TEST.xml");
        let error = replace("junit", &path, b"x").unwrap_err();
        assert!(error.to_string().contains(&format!("`{}`", path.display())), "{error}");
    }

    #[test]
    fn what_was_there_survives_a_failed_write() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("TEST.xml");
        replace("junit", &path, b"first").unwrap();
        // A folder in the place of the draft: the write fails for root too, whom permissions do not stop.
        fs::create_dir(draft_path(&path)).unwrap();
        assert_eq!(replace("junit", &path, b"second").unwrap_err().action, "write");
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }

    #[test]
    fn a_full_disk_is_an_error() {
        // Every write to this device fails for want of space.
        let error = write_synced(Path::new("/dev/full"), b"x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }
}
