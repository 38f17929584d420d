//! Running programs with a deadline, and what they answered. Which kubectl is used is decided here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest run of one command.
const DEADLINE: Duration = Duration::from_secs(60);

/// How often something is looked at that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The program to use, or why there is none.
pub fn kubectl() -> Result<&'static OsString, &'static String> {
    static FOUND: OnceLock<Result<OsString, String>> = OnceLock::new();
    FOUND.get_or_init(find).as_ref()
}

fn find() -> Result<OsString, String> {
    const WAY_OUT: &str = "install it, or name one: CKNET_KUBECTL=/path/to/kubectl cargo test --test kubectl";
    let program = std::env::var_os("CKNET_KUBECTL").unwrap_or_else(|| "kubectl".into());
    let told = Command::new(&program).args(["version", "--client", "-o", "json"]).output();
    let told =
        told.map_err(|error| format!("kubectl 1.32 or newer is needed: `{}`: {error}; {WAY_OUT}", program.display()))?;
    let version: Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
    let version = &version["clientVersion"];
    let number = |part: &str| version[part].as_str()?.trim_end_matches('+').parse::<u32>().ok();
    match (number("major"), number("minor")) {
        (Some(major), Some(minor)) if (major, minor) >= (1, 32) => Ok(program),
        _ => Err(format!(
            "kubectl 1.32 or newer is needed, `{}` is {}; {WAY_OUT}",
            program.display(),
            version["gitVersion"]
        )),
    }
}

/// What a command did.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs a command with `input` on its standard input.
pub fn run(
    line: &str,
    program: &OsString,
    arguments: &[String],
    settings: &BTreeMap<&str, OsString>,
    input: &str,
) -> Done {
    let mut expression = duct::cmd(program, arguments).stdin_bytes(input).stdout_capture().stderr_capture().unchecked();
    for (name, value) in settings {
        expression = expression.env(name, value);
    }
    let handle = expression.start().unwrap_or_else(|error| panic!("cannot start `{line}`: {error}"));
    let Some(output) = handle.wait_timeout(DEADLINE).unwrap() else {
        handle.kill().unwrap();
        panic!("`{line}` did not end within {DEADLINE:?}");
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let code = output.status.code().unwrap_or_else(|| panic!("`{line}` was killed: {}", output.status));
    Done { code, out: text(&output.stdout), err: text(&output.stderr) }
}

/// A command that goes on, read line by line and spoken to. Ended when dropped.
pub struct Going {
    line: String,
    child: Child,
    lines: Receiver<String>,
}

impl Going {
    pub fn start(line: &str, program: &OsString, arguments: &[String], settings: &BTreeMap<&str, OsString>) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).envs(settings).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (tell, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Self { line: line.to_owned(), child, lines }
    }

    /// Its next line.
    pub fn next(&mut self) -> String {
        match self.lines.recv_timeout(Duration::from_secs(20)) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("`{}` said nothing more within 20 s", self.line),
            Err(RecvTimeoutError::Disconnected) => panic!("`{}` ended", self.line),
        }
    }

    /// Its lines up to the first that `wanted` holds for.
    pub fn until(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut seen = vec![self.next()];
        while !wanted(seen.last().unwrap()) {
            assert!(seen.len() < 200, "`{}` said other things only: {seen:#?}", self.line);
            seen.push(self.next());
        }
        seen
    }

    /// Types a line.
    pub fn say(&mut self, text: &str) {
        writeln!(self.child.stdin.as_ref().unwrap(), "{text}").unwrap();
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Splits at blanks, except between single quotes.
pub fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

/// Tries until it works; fails with what was awaited, how long, and what was seen last.
#[track_caller]
pub fn eventually<T>(what: &str, within: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(last) => assert!(started.elapsed() < within, "{what}: not within {within:?}; last: {last}"),
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The cells of a table that kubectl printed, the heads first. Columns stand two blanks apart.
pub fn table(text: &str) -> Vec<Vec<&str>> {
    let Some(head) = text.lines().next() else { return Vec::new() };
    let starts = head.char_indices().filter(|&(at, c)| c != ' ' && (at == 0 || head[..at].ends_with("  ")));
    let mut starts: Vec<usize> = starts.map(|(at, _)| at).collect();
    starts.push(usize::MAX);
    text.lines().map(|line| starts.windows(2).map(|pair| cell(line, pair[0], pair[1])).collect()).collect()
}

fn cell(line: &str, from: usize, to: usize) -> &str {
    line[line.len().min(from)..line.len().min(to)].trim()
}
