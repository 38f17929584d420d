//! A shell over OpenSSH. One connection to a machine is kept as long as its node lives and carries all sessions
//! (ssh_config(5), ControlMaster); without it each session makes a connection of its own, which only takes longer.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::{Transport, quoted};

/// Where a machine answers, and how one proves who one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A host name, an address, or a `Host` of the file of settings.
    pub host: String,
    /// A file in the form of ssh_config(5), instead of the user's own.
    pub settings: Option<PathBuf>,
}

/// The way to one machine.
pub struct Ssh {
    target: Target,
    /// The socket of the connection that is kept; absent where its path would be too long for a socket's.
    socket: Option<PathBuf>,
    kept: Mutex<Option<Child>>,
}

/// Longest path of a socket (`sockaddr_un` of unix(7) has 108 bytes), less what ssh appends while it makes one.
const LONGEST_SOCKET: usize = 108 - 20;

impl Ssh {
    /// `folder` is where sockets may lie, `number` tells machines apart there.
    pub fn new(target: Target, folder: &Path, number: usize) -> Self {
        let socket = folder.join(format!("s{number}"));
        let short = socket.as_os_str().len() <= LONGEST_SOCKET;
        Self { target, socket: short.then_some(socket), kept: Mutex::default() }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("ssh");
        if let Some(settings) = &self.target.settings {
            command.arg("-F").arg(settings);
        }
        // Nobody is there to answer, and a machine that is gone has to be noticed.
        for option in ["BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=6"] {
            command.arg("-o").arg(option);
        }
        command.arg("-o").arg("LogLevel=ERROR");
        if let Some(socket) = &self.socket {
            command.arg("-o").arg(format!("ControlPath={}", socket.display()));
        }
        command
    }
}

impl Transport for Ssh {
    fn shell(&self, script: &str) -> Command {
        let mut command = self.command();
        // The login shell of whoever logs in reads this line; root needs no sudo.
        let line = format!(
            "if [ \"$(id -u)\" = 0 ]; then exec sh -c {script}; else exec sudo -n sh -c {script}; fi",
            script = quoted(script)
        );
        command.arg("-T").arg("--").arg(&self.target.host).arg(line);
        command
    }

    fn dial(&self, port: u16) -> Command {
        let mut command = self.command();
        command.arg("-W").arg(format!("127.0.0.1:{port}")).arg("--").arg(&self.target.host);
        command
    }

    fn answered(&self) {
        if self.socket.is_none() {
            return;
        }
        let mut command = self.command();
        // It ends with its standard input, and that with this process, however it dies.
        command.args(["-M", "-T"]).arg("--").arg(&self.target.host).arg("exec cat");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        cknet_kernel::child::with_default_signals(&mut command);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        // Without it there is only more to wait for.
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = command.spawn().ok();
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let kept = self.kept.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = kept.take() {
            // It may have ended with its machine.
            let _ = (child.kill(), child.wait());
        }
        if let Some(socket) = &self.socket {
            let _ = std::fs::remove_file(socket);
        }
    }
}
