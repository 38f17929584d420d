//! BIRD beside Felix, with the backend `bird`: the process, and whether its sessions stand.
//!
//! The real program of the host, started in the node's namespaces and ended with calico-node. Must not know what its
//! configuration means.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::log;

const PROGRAM: &str = "bird";
const CONFIG: &str = "/run/calico/bird.cfg";
const CONTROL: &str = "/run/calico/bird.ctl";

/// Longest time for an answer on the control socket or from Felix.
const ANSWERS: Duration = Duration::from_secs(2);

/// The BIRD of this node.
#[derive(Default)]
pub struct Bird {
    child: Option<Child>,
    config: String,
}

impl Bird {
    /// Starts BIRD if it does not run, and gives it the configuration if that has changed.
    pub fn serve(&mut self, config: String) -> io::Result<()> {
        let runs = match &mut self.child {
            None => false,
            Some(child) => match child.try_wait()? {
                None => true,
                Some(status) => {
                    log("WARNING", &format!("BIRD ended ({status}), starting it again"));
                    false
                }
            },
        };
        if config != self.config || !runs {
            super::install(Path::new(CONFIG), &config)?;
        }
        if !runs {
            let mut command = Command::new("/proc/self/exe");
            command.args(["calico-node", "bird"]).kill_on_drop(true);
            self.child = Some(command.spawn()?);
            log("INFO", "BIRD started");
        } else if config != self.config {
            let process = self.child.as_ref().and_then(Child::id).and_then(|id| i32::try_from(id).ok());
            if let Some(process) = process {
                kill(Pid::from_raw(process), Signal::SIGHUP)?;
            }
        }
        self.config = config;
        Ok(())
    }
}

/// `cknet calico-node bird`: becomes BIRD, which ends when calico-node does.
pub fn exec() -> io::Error {
    if let Err(error) = prctl::set_pdeathsig(Signal::SIGKILL) {
        return error.into();
    }
    std::process::Command::new(PROGRAM).args(["-f", "-R", "-c", CONFIG, "-s", CONTROL]).exec()
}

/// `cknet calico-node -bird-ready -felix-ready`: what is not ready, in calico-node's words.
pub fn not_ready(felix: bool, bird: bool) -> Option<String> {
    if felix && !felix_ready().unwrap_or(false) {
        return Some("calico/node is not ready: felix is not ready: readiness probe reporting 503".into());
    }
    if !bird {
        return None;
    }
    let why = match missing_sessions() {
        Err(error) => format!("Error querying BIRD: unable to connect to BIRDv4 socket: {error}"),
        Ok(missing) if missing.is_empty() => return None,
        Ok(missing) => format!("BGP not established with {}", missing.join(",")),
    };
    Some(format!("calico/node is not ready: BIRD is not ready: {why}"))
}

fn felix_ready() -> io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, super::health::PORT))?;
    stream.set_read_timeout(Some(ANSWERS))?;
    stream.write_all(b"GET /readiness HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    Ok(answer.starts_with(b"HTTP/1.1 20"))
}

/// The peers with which there is no session.
fn missing_sessions() -> io::Result<Vec<String>> {
    let mut stream = UnixStream::connect(CONTROL)?;
    stream.set_read_timeout(Some(ANSWERS))?;
    stream.write_all(b"show protocols\n")?;
    let mut missing = Vec::new();
    // The greeting, then a table, of which each line but the last has a space or a dash after its code.
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if line.starts_with("0000") {
            return Ok(missing);
        }
        missing.extend(missing_session(&line));
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// The peer of a line about a BGP session that does not stand: `Mesh_192_168_60_12 BGP --- start 21:56:01 Active`.
fn missing_session(line: &str) -> Option<String> {
    let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-' || c == ' ');
    let mut words = line.split_whitespace();
    let (name, protocol) = (words.next()?, words.next()?);
    let (_, address) = name.split_once('_')?;
    (protocol == "BGP" && words.next_back() != Some("Established")).then(|| address.replace('_', "."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_do_not_stand_are_named() {
        let of = |line: &str| missing_session(line);
        assert_eq!(of("1002-Mesh_192_168_60_12 BGP        ---        up     21:56:01.000  Established   "), None);
        assert_eq!(of(" Mesh_192_168_60_13 BGP  ---  start  21:56:01.000  Connect").as_deref(), Some("192.168.60.13"));
        let refused = " Global_192_168_60_1 BGP --- start 21:56:01.000  Active  Socket: Connection refused";
        assert_eq!(of(refused).as_deref(), Some("192.168.60.1"));
        assert_eq!(of(" kernel1    Kernel     master4    up     21:56:01.000  "), None);
        assert_eq!(of("2002-Name       Proto      Table      State  Since         Info"), None);
        assert_eq!(of("0001 BIRD 2.0.12 ready."), None);
    }
}
