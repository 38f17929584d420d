//! Where one trial works: a state directory, a folder for temporary files and one for reports of its own, the built
//! executable, and the processes that came of it.
//!
//! A process belongs to the workplace when its environment names the state directory, or when it lives in a PID
//! namespace in which such a process was seen: pods have an environment of their own, but no namespace.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;

/// The kernel frees the namespaces of a dead run within this time; some of it is RCU grace periods.
pub const FREED: Duration = Duration::from_secs(10);

/// Longest time for anything that a run is asked to do and does at once.
pub const SOON: Duration = Duration::from_secs(60);

const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Waits for a named condition.
pub fn until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < deadline, "{what}: not within {deadline:?}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// A process as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub pid: i32,
    /// The command line, words apart by blanks.
    pub command: String,
    /// The host name that its mount namespace shows: a node's name inside a node.
    pub node: String,
}

impl Process {
    pub fn signal(&self, signal: Signal) {
        // It may have ended by itself meanwhile.
        let _ = kill(Pid::from_raw(self.pid), signal);
    }
}

pub struct Workplace {
    folder: tempfile::TempDir,
    /// PID namespaces in which processes of this workplace were seen.
    namespaces: Mutex<BTreeSet<PathBuf>>,
}

impl Workplace {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("cknet-faults-").tempdir().unwrap();
        for name in ["state", "tmp", "reports"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder, namespaces: Mutex::default() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub fn reports(&self) -> PathBuf {
        self.path("reports")
    }

    /// `cknet` with these arguments, at home in this workplace.
    pub fn cknet<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        // Under `nohup` the tests would hand on that hangups are ignored.
        let mut command = Command::new("env");
        command.args(["--default-signal=HUP,INT", env!("CARGO_BIN_EXE_cknet")]).args(arguments);
        self.settle(&mut command);
        command
    }

    /// Makes any command at home in this workplace.
    pub fn settle(&self, command: &mut Command) {
        command.env("CKNET_STATE", self.state()).env("TMPDIR", self.path("tmp")).env("NO_COLOR", "1");
        command.current_dir(repository()).stdin(Stdio::null());
    }

    /// Starts a command with its outputs in files, as the leader of a process group, as a shell would.
    pub fn start(&self, mut command: Command) -> Running {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (stdout, stderr) = (self.path(&format!("stdout{number}")), self.path(&format!("stderr{number}")));
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap()).process_group(0);
        Running { child: command.spawn().unwrap(), stdout, stderr }
    }

    /// Runs `cknet` to its end.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ended {
        self.start(self.cknet(arguments)).ended(SOON)
    }

    /// The living processes of this workplace.
    pub fn processes(&self) -> Vec<Process> {
        let marker = format!("CKNET_STATE={}\0", self.state().display()).into_bytes();
        let ours = fs::read_link("/proc/self/ns/pid").unwrap();
        let mut namespaces = self.namespaces.lock().unwrap();
        let mut others = Vec::new();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            // Both are unreadable for a process that has ended.
            let namespace = fs::read_link(entry.path().join("ns/pid")).ok();
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            if contains(&environment, &marker) {
                namespaces.extend(namespace.filter(|namespace| *namespace != ours));
                found.push(pid);
            } else if let Some(namespace) = namespace {
                others.push((pid, namespace));
            }
        }
        found.extend(others.into_iter().filter(|(_, namespace)| namespaces.contains(namespace)).map(|(pid, _)| pid));
        found.into_iter().filter_map(process).collect()
    }

    /// The processes whose command line contains these words.
    pub fn processes_of(&self, words: &str) -> Vec<Process> {
        self.processes().into_iter().filter(|process| process.command.contains(words)).collect()
    }

    /// Waits until no process of this workplace is left, and with the last one no namespace.
    pub fn await_nothing_left(&self) {
        let started = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            assert!(started.elapsed() < FREED, "still there after {FREED:?}: {left:#?}");
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// What lies in the folder for temporary files; nothing should.
    pub fn temporary_files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.path("tmp")).unwrap().flatten().map(|entry| entry.path()).collect()
    }

    /// The folders of all runs.
    pub fn runs(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.state().join("runs")) else { return Vec::new() };
        let named = entries.flatten().filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
        named.map(|entry| entry.path()).collect()
    }

    /// Everything that was told in the folder for reports so far.
    pub fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.reports().join("events.ndjson")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for an event.
    pub fn await_event(&self, name: &str, run: &mut Running) -> Value {
        until(&format!("event `{name}`"), SOON, || {
            let found = self.events().into_iter().find(|event| event["event"] == name);
            if found.is_none()
                && let Some(status) = run.child.try_wait().unwrap()
            {
                panic!("the run ended ({status}) before event `{name}`: {}", run.said());
            }
            found
        })
    }

    /// What became of each case, by `phase/expectation`.
    pub fn outcomes(&self) -> std::collections::BTreeMap<String, String> {
        let judged = self.events().into_iter().filter(|event| event["event"] == "expectation-judged");
        let outcome = |event: Value| {
            let case = format!("{}/{}", text(&event["case"]["phase"]), text(&event["case"]["expectation"]));
            (case, text(&event["outcome"]["is"]))
        };
        judged.map(outcome).collect()
    }
}

/// Ends whatever a trial that failed has left.
impl Drop for Workplace {
    fn drop(&mut self) {
        for process in self.processes() {
            process.signal(Signal::SIGKILL);
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

/// The folder with `scenarios` and `fixtures`.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// A process that lives; a zombie holds nothing but its number.
fn process(pid: i32) -> Option<Process> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let status = fs::read_to_string(folder.join("stat")).ok()?;
    let state = status.rsplit_once(')')?.1.split_ascii_whitespace().next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    let command = fs::read(folder.join("cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ").trim().to_string();
    let node = fs::read_to_string(folder.join("root/etc/hostname")).unwrap_or_default().trim().to_string();
    Some(Process { pid, command, node })
}

/// A command that was started.
pub struct Running {
    pub child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The exit code; a signal is none.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by signal {:?}: {self:?}", self.status.signal()))
    }

    /// Asserts the exit code, with everything that was said where it is another one.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

impl Running {
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends a signal to the whole group, as a terminal does.
    pub fn signal_group(&self, signal: Signal) {
        killpg(self.pid(), signal).unwrap();
    }

    /// Sends a signal to the process alone, as `kill` does.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Everything said so far.
    pub fn said(&self) -> String {
        let read =
            |path: &Path| fs::read(path).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
        format!("{}{}", read(&self.stdout), read(&self.stderr))
    }

    /// Waits until it has said something.
    pub fn await_words(&mut self, words: &str) {
        until(&format!("the words `{words}`"), SOON, || {
            let ended = self.child.try_wait().unwrap();
            let said = self.said();
            assert!(ended.is_none() || said.contains(words), "it ended without saying `{words}`: {said}");
            said.contains(words).then_some(())
        });
    }

    /// Waits for its end; past the deadline it is killed and the trial fails.
    pub fn ended(mut self, deadline: Duration) -> Ended {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() >= deadline {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                panic!("it did not end within {deadline:?}: {}", self.said());
            }
            std::thread::sleep(LOOK_AGAIN);
        };
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        Ended { status, stdout: read(&self.stdout), stderr: read(&self.stderr) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Only where a trial failed.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
