//! Starts a program inside a sandbox. The words of its errors are those of a container runtime, because people and
//! tools know them.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cknet_kernel::child::Child;
use cknet_kernel::pty::Terminal;
use cknet_kernel::sandbox::Sandbox;

use super::environment::{PATH, Variables};

/// Where people are used to find the probing program in a test image; our own executable is as good in all others.
const AGNHOST: &str = "/agnhost";

/// What to start.
#[derive(Clone, Debug)]
pub struct Program {
    pub argv: Vec<String>,
    pub variables: Variables,
    /// Used when it exists; `/` otherwise.
    pub folder: Option<String>,
    /// What [`AGNHOST`] means.
    pub executable: PathBuf,
}

/// Where standard input, output and error of a program lead.
#[derive(Debug)]
pub enum Streams {
    /// This or nothing to read; output to these files.
    Files {
        stdin: Option<File>,
        stdout: File,
        stderr: File,
    },
    /// Pipes that the caller holds the other ends of, where wanted; `/dev/null` elsewhere.
    Pipes {
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    Terminal(Terminal),
}

/// A started program and the pipes that were asked for.
#[derive(Debug)]
pub struct Started {
    pub child: Child,
    pub stdin: Option<std::process::ChildStdin>,
    pub stdout: Option<std::process::ChildStdout>,
    pub stderr: Option<std::process::ChildStderr>,
}

/// A program could not be started.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    #[error("exec: \"{0}\": executable file not found in $PATH")]
    NotInPath(String),
    #[error("exec: \"{0}\": stat {0}: no such file or directory")]
    NoSuchFile(String),
    #[error("exec: \"{0}\": permission denied")]
    NotExecutable(String),
    #[error("no command was given")]
    Empty,
    #[error("exec: \"{program}\": {cause}")]
    Failed { program: String, cause: String },
}

impl LaunchError {
    fn failed(program: &str, cause: &io::Error) -> Self {
        Self::Failed { program: program.into(), cause: cause.to_string() }
    }
}

/// Starts `program` inside `sandbox`, as the leader of a process group.
pub async fn launch(sandbox: &Sandbox, program: Program, streams: Streams) -> Result<Started, LaunchError> {
    let name = program.argv.first().ok_or(LaunchError::Empty)?.clone();
    let spawned = sandbox.run(move || spawn(&program, streams)).await;
    let mut child = spawned.map_err(|error| LaunchError::failed(&name, &error))??;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let child = Child::watch(child).map_err(|error| LaunchError::failed(&name, &error))?;
    Ok(Started { child, stdin, stdout, stderr })
}

/// Runs on the thread inside the sandbox: what it looks up and starts is looked up and started there.
fn spawn(program: &Program, streams: Streams) -> Result<std::process::Child, LaunchError> {
    let (name, arguments) = program.argv.split_first().ok_or(LaunchError::Empty)?;
    let path = match look_up(name, &search_path(program)) {
        Err(_) if name == AGNHOST => program.executable.clone(),
        found => found?,
    };
    let mut command = Command::new(path);
    command.arg0(name).args(arguments).env_clear();
    command.envs(program.variables.iter().map(|(name, value)| (name, value)));
    let folder = program.folder.as_deref().filter(|folder| Path::new(folder).is_dir());
    command.current_dir(folder.unwrap_or("/"));
    let spawned = match streams {
        Streams::Terminal(terminal) => terminal.spawn(&mut command),
        Streams::Files { stdin, stdout, stderr } => command
            .stdin(stdin.map_or_else(Stdio::null, Stdio::from))
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn(),
        Streams::Pipes { stdin, stdout, stderr } => {
            let end = |wanted: bool| {
                if wanted { Stdio::piped() } else { Stdio::null() }
            };
            command.stdin(end(stdin)).stdout(end(stdout)).stderr(end(stderr)).process_group(0).spawn()
        }
    };
    spawned.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => LaunchError::NotExecutable(name.clone()),
        _ => LaunchError::failed(name, &error),
    })
}

fn search_path(program: &Program) -> String {
    let own = program.variables.iter().rev().find(|(name, _)| name == "PATH");
    own.map_or_else(|| PATH.to_string(), |(_, value)| value.clone())
}

/// The file that `name` means: itself when it is a path, else the first executable of that name in `search`.
fn look_up(name: &str, search: &str) -> Result<PathBuf, LaunchError> {
    if name.contains('/') {
        let path = PathBuf::from(name);
        return match std::fs::metadata(&path) {
            Ok(about) if about.is_file() && about.permissions().mode() & 0o111 != 0 => Ok(path),
            Ok(_) => Err(LaunchError::NotExecutable(name.into())),
            Err(_) => Err(LaunchError::NoSuchFile(name.into())),
        };
    }
    search
        .split(':')
        .filter(|folder| !folder.is_empty())
        .map(|folder| Path::new(folder).join(name))
        .find(|path| {
            std::fs::metadata(path).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
        })
        .ok_or_else(|| LaunchError::NotInPath(name.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_program_is_looked_up_as_a_shell_would() {
        assert_eq!(look_up("sh", "/nowhere::/bin").unwrap(), Path::new("/bin/sh"));
        assert_eq!(look_up("/bin/sh", "").unwrap(), Path::new("/bin/sh"));
        let message = |name: &str| look_up(name, "/bin").unwrap_err().to_string();
        assert_eq!(message("nope"), "exec: \"nope\": executable file not found in $PATH");
        assert_eq!(message("/nope"), "exec: \"/nope\": stat /nope: no such file or directory");
        assert_eq!(message("/etc/passwd"), "exec: \"/etc/passwd\": permission denied");
        assert_eq!(message("/etc"), "exec: \"/etc\": permission denied");
    }
}
