//! `cknet image`: the probe image for clusters whose nodes pull nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{complain, print};
use crate::cluster::workloads::IMAGE;
use crate::exit::ExitCode;
use crate::image::image;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// The file to write: an OCI image layout as a tar file, for `ctr images import` and its like.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// A static build of cknet; this very executable unless given.
    #[arg(long, value_name = "FILE")]
    executable: Option<PathBuf>,
    /// What the image is called; scenarios use the name that it has unless given.
    #[arg(long, value_name = "NAME:TAG", default_value = IMAGE)]
    name: String,
}

pub fn write(options: &Options) -> ExitCode {
    let path = options.executable.clone().unwrap_or_else(|| "/proc/self/exe".into());
    let shown = options.executable.as_ref().map_or("this executable".into(), |path| format!("`{}`", path.display()));
    let executable = match fs::read(&path) {
        Ok(executable) => executable,
        Err(error) => return complain(ExitCode::Usage, &format!("cannot read {shown}: {error}")),
    };
    let image = match image(&options.name, &executable) {
        Ok(image) => image,
        Err(error) => return complain(ExitCode::Usage, &format!("{shown} cannot be the program of an image: {error}")),
    };
    if let Err(error) = replace(&options.output, &image.archive) {
        let problem = format!("cannot write `{}`: {error}", options.output.display());
        return complain(ExitCode::Infrastructure, &problem);
    }
    print(&format!("{}@{}  linux/{}\n", options.name, image.digest, image.architecture))
}

/// The file is the old one or the new one, never half of it.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let written = fs::write(&draft, content).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // It may be what filled the disk; the first error is the one to tell.
        let _ = fs::remove_file(&draft);
    }
    written
}
