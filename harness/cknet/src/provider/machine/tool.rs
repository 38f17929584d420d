//! The program by which a provider is driven: `lxc`, `multipass`, `vagrant`, with a deadline for each call.

use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Output};
use std::sync::Arc;
use std::time::Duration;

use crate::commands::{CommandError, Commands, Given, System};

/// A provider's program, and what each call of it shares.
#[derive(Clone, Debug)]
pub struct Tool {
    pub program: PathBuf,
    given: Arc<Given>,
    commands: Arc<dyn Commands>,
}

/// What a call answered.
#[derive(Clone, Debug)]
pub struct Said {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// A call that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("`{command}` did not end within {deadline:?}; killed")]
    Late { command: String, deadline: Duration },
    #[error("`{command}` ended with {status}: {said}")]
    Refused { command: String, status: ExitStatus, said: String },
    #[error("`{command}` answered what cannot be read: {problem}")]
    Unreadable { command: String, problem: String },
    #[error("the task that called `{0}` ended by itself")]
    Task(String),
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl Said {
    /// The last line of what it complained of.
    pub fn last_complaint(&self) -> Option<&str> {
        self.stderr.lines().map(str::trim).rfind(|line| !line.is_empty())
    }
}

impl Tool {
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), given: Arc::default(), commands: Arc::new(System) }
    }

    pub fn given(self, given: Given) -> Self {
        Self { given: Arc::new(given), ..self }
    }

    #[cfg(test)]
    pub fn answered_by(self, commands: Arc<dyn Commands>) -> Self {
        Self { commands, ..self }
    }

    /// The same program, which holds a lock with us for as long as it runs, even when nobody waits for it any more.
    pub fn holding(&self, lock: Arc<File>) -> Self {
        let given = Given { held: Some(lock), ..Given::clone(&self.given) };
        self.clone().given(given)
    }

    /// Calls it; any exit code is an answer. When the caller gives up waiting the call goes on.
    pub async fn ask(&self, arguments: &[&str], stdin: &[u8], deadline: Duration) -> Result<Said, ToolError> {
        let (own, stdin) = (self.clone(), stdin.to_vec());
        let words: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let called = tokio::task::spawn_blocking(move || {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            own.commands.run(&own.program, &words, &own.given, stdin, deadline)
        });
        match called.await.map_err(|_| ToolError::Task(self.line(arguments)))? {
            Ok(output) => Ok(output.into()),
            Err(CommandError::Deadline { deadline, .. }) => {
                Err(ToolError::Late { command: self.line(arguments), deadline })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The same for callers that have nothing to do beside it.
    pub fn ask_now(&self, arguments: &[&str], deadline: Duration) -> Result<Said, CommandError> {
        Ok(self.commands.run(&self.program, arguments, &self.given, Vec::new(), deadline)?.into())
    }

    /// Calls it; what it printed, if it succeeded.
    pub async fn call(&self, arguments: &[&str], deadline: Duration) -> Result<String, ToolError> {
        self.call_with(arguments, &[], deadline).await
    }

    /// The same with something on its standard input.
    pub async fn call_with(&self, arguments: &[&str], stdin: &[u8], deadline: Duration) -> Result<String, ToolError> {
        let said = self.ask(arguments, stdin, deadline).await?;
        if said.status.success() { Ok(said.stdout) } else { Err(self.refused(arguments, &said)) }
    }

    /// Calls it and reads the JSON that it prints.
    pub async fn read(&self, arguments: &[&str], deadline: Duration) -> Result<serde_json::Value, ToolError> {
        let text = self.call(arguments, deadline).await?;
        serde_json::from_str(&text)
            .map_err(|error| ToolError::Unreadable { command: self.line(arguments), problem: error.to_string() })
    }

    /// The error of a call that was refused.
    pub fn refused(&self, arguments: &[&str], said: &Said) -> ToolError {
        let complaint = if said.stderr.trim().is_empty() { &said.stdout } else { &said.stderr };
        let lines: Vec<&str> = complaint.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = lines.get(lines.len().saturating_sub(4)..).unwrap_or_default().join(" | ");
        let said_nothing = || "it said nothing".to_string();
        let complaint = if last.is_empty() { said_nothing() } else { last };
        ToolError::Refused { command: self.line(arguments), status: said.status, said: complaint }
    }

    fn line(&self, arguments: &[&str]) -> String {
        let name = self.program.file_name().unwrap_or(self.program.as_os_str()).to_string_lossy().into_owned();
        [name.as_str()].iter().chain(arguments).copied().collect::<Vec<_>>().join(" ")
    }
}
