//! What a provider's program answers, from a file in `fixtures/recorded` instead of from the program, for tests: each call
//! has to be the one that is written down, word for word and in that order.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::VecDeque;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Tool;
use crate::commands::{CommandError, Commands, Given};

/// One file: what is done, what is answered meanwhile, and what comes of it.
///
/// ```text
/// # Why it is there.
/// do: make
/// $ networks --format json
/// > a line of standard output
/// ! a line of standard error
/// exit 2
/// < a line of the standard input of a call
/// = a line of what comes of it
/// ```
///
/// `late` instead of an answer is a call that does not end within its deadline, `absent` a program that is not there.
pub struct Recorded {
    name: String,
    pub doing: String,
    pub outcome: String,
    calls: Arc<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    coming: Mutex<VecDeque<Call>>,
    unexpected: Mutex<Vec<String>>,
}

#[derive(Debug, Default)]
struct Call {
    arguments: String,
    stdin: String,
    stdout: String,
    stderr: String,
    code: i32,
    late: bool,
    absent: bool,
}

impl Recorded {
    /// All files of a provider.
    pub fn all(provider: &str) -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/recorded").join(provider);
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "nothing is written down for {provider}");
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let (mut doing, mut outcome, mut calls) = (String::new(), Vec::new(), VecDeque::<Call>::new());
        for line in text.lines().filter(|line| !line.is_empty()) {
            let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
            if mark == "$" {
                calls.push_back(Call { arguments: rest.into(), ..Call::default() });
                continue;
            }
            match (mark, calls.back_mut()) {
                ("#", _) => {}
                ("do:", None) => doing = rest.into(),
                ("=", _) => outcome.push(rest),
                (">", Some(call)) => call.stdout.push_str(&format!("{rest}\n")),
                ("!", Some(call)) => call.stderr.push_str(&format!("{rest}\n")),
                ("<", Some(call)) => call.stdin.push_str(&format!("{rest}\n")),
                ("exit", Some(call)) => call.code = rest.parse().unwrap(),
                ("late", Some(call)) => call.late = true,
                ("absent", Some(call)) => call.absent = true,
                _ => panic!("{}: `{line}` is not understood here", path.display()),
            }
        }
        let calls = Calls { coming: calls.into(), ..Calls::default() };
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        Self { name, doing, outcome: outcome.join("\n"), calls: Arc::new(calls) }
    }

    /// The program that answers so.
    pub fn tool(&self, program: &str) -> Tool {
        Tool::new(program).answered_by(self.calls.clone())
    }

    /// Holds what came of it against what is written down, and that every call was made and no other.
    pub fn judge(&self, outcome: &str) {
        let unexpected = self.calls.unexpected.lock().unwrap();
        let name = &self.name;
        assert!(unexpected.is_empty(), "{name}: {}", unexpected.join("\n"));
        let coming = self.calls.coming.lock().unwrap();
        let left: Vec<&str> = coming.iter().map(|call| call.arguments.as_str()).collect();
        assert!(left.is_empty(), "{name}: not called: {}", left.join("\n"));
        assert_eq!(outcome, self.outcome, "{name}");
    }
}

impl Commands for Calls {
    fn run(
        &self,
        program: &Path,
        arguments: &[&str],
        _: &Given,
        stdin: Vec<u8>,
        deadline: Duration,
    ) -> Result<Output, CommandError> {
        let program = program.display().to_string();
        let arguments = arguments.join(" ");
        let call = self.coming.lock().unwrap().pop_front().unwrap_or_default();
        let stdin = String::from_utf8(stdin).unwrap();
        if call.arguments != arguments || call.stdin.trim_end() != stdin.trim_end() {
            let Call { arguments: due, stdin: due_stdin, .. } = &call;
            let said = format!("called: {arguments}\n<{stdin}\n   due: {due}\n<{due_stdin}");
            self.unexpected.lock().unwrap().push(said);
            return Err(CommandError::Start { program, cause: io::Error::other("not the call that is written down") });
        }
        if call.late {
            return Err(CommandError::Deadline { program, deadline });
        }
        if call.absent {
            return Err(CommandError::Start { program, cause: io::ErrorKind::NotFound.into() });
        }
        let status = ExitStatus::from_raw(call.code << 8);
        Ok(Output { status, stdout: call.stdout.into_bytes(), stderr: call.stderr.into_bytes() })
    }
}
