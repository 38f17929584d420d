//! A root folder for a sandbox that runs a program under many names: the programs and libraries of the machine to
//! read, its kernel files, empty folders else, and the program where it is looked for.
//!
//! It is built in memory and laid over `/` of a mount namespace: who enters that namespace afterwards begins there.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};

use crate::space::{bind, bind_file, mount_memory, move_mount};

/// What a new root has beside what every one has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRoot {
    /// The program, as the caller sees it.
    pub program: PathBuf,
    /// Where the program is found inside; folders are made.
    pub at: PathBuf,
    /// Other names of it, absolute.
    pub links: Vec<PathBuf>,
}

/// Folders of the machine that programs need to run at all.
const READ_ONLY: &[&str] = &["bin", "sbin", "usr", "lib", "lib32", "lib64", "libx32", "opt", "nix", "gnu"];
/// Folders that the kernel fills, or that belong to the machine that the sandbox is on.
const LIVE: &[&str] = &["dev", "proc", "sys", "run", "etc"];
/// Folders that are empty and private.
const EMPTY: &[&str] = &["home", "media", "mnt", "root", "srv", "tmp", "var", "var/tmp", "var/log", "uploads"];
/// What the private files may take in memory.
const SIZE: &str = "mode=755,size=64m";

impl OwnRoot {
    /// Builds it and makes it the root of the calling thread and of its mount namespace, which nobody else may be in.
    /// `staging` is an empty folder, which is hidden afterwards.
    pub(crate) fn enter(&self, staging: &Path) -> io::Result<()> {
        // Opened before anything is covered.
        let program = File::open(&self.program)?;
        mount_memory(staging, SIZE)?;
        for name in READ_ONLY.iter().chain(LIVE) {
            show(name, staging)?;
        }
        for name in READ_ONLY {
            protect(&staging.join(name));
        }
        for name in EMPTY {
            let folder = staging.join(name);
            fs::create_dir_all(&folder)?;
            if name.ends_with("tmp") {
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777))?;
            }
        }
        symlink("/run", staging.join("var/run"))?;
        self.place(&program, staging)?;
        chdir(staging)?;
        move_mount(Path::new("."), Path::new("/"))?;
        chroot(".")?;
        Ok(chdir("/")?)
    }

    fn place(&self, program: &File, staging: &Path) -> io::Result<()> {
        let inside = |path: &Path| staging.join(path.strip_prefix("/").unwrap_or(path));
        let at = inside(&self.at);
        fs::create_dir_all(at.parent().unwrap_or(staging))?;
        File::create(&at)?;
        bind_file(program, &at)?;
        for link in &self.links {
            let link = inside(link);
            fs::create_dir_all(link.parent().unwrap_or(staging))?;
            symlink(&self.at, &link)?;
        }
        Ok(())
    }
}

/// Shows a folder of the machine in the new root, or the link that it is.
fn show(name: &str, staging: &Path) -> io::Result<()> {
    let (theirs, ours) = (Path::new("/").join(name), staging.join(name));
    let about = match fs::symlink_metadata(&theirs) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if about.is_symlink() {
        return symlink(fs::read_link(&theirs)?, &ours);
    }
    fs::create_dir(&ours)?;
    bind(&theirs, &ours)
}

/// Keeps the machine's files from being written through the new root. An ordinary user could not write them anyway,
/// and may not change the flags of mounts that came from outside its user namespace.
fn protect(folder: &Path) {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    // Folders that are links or absent have no mount.
    let _ = mount(None::<&str>, folder, None::<&str>, flags, None::<&str>);
}
