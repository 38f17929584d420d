//! The command line: what can be asked of cknet, and which exit code answers.
//!
//! Data goes to standard output, everything else to standard error.

mod check;
mod claims;
mod clusters;
mod diff;
mod docs;
mod doctor;
mod down;
mod explain;
mod former;
mod image;
mod interrupt;
mod keep;
mod list;
mod place;
mod product;
mod prove;
mod repeat;
mod rerun;
mod run;
mod shell;
mod suite;
mod up;
mod workshop;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode as ProcessExit;

use clap::{CommandFactory, Parser, Subcommand};

use crate::exit::ExitCode;

/// Checks what a document claims about the network of a Kubernetes cluster against a real network.
#[derive(Debug, Parser)]
#[command(name = "cknet", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios and report which claims hold.
    Run(run::Options),
    /// Run again what failed in a former run.
    Rerun(rerun::Options),
    /// Say what changed between two runs.
    Diff(diff::Options),
    /// Run scenarios with each of their sabotages and see that the named expectation fails.
    Prove(prove::Options),
    /// Say for a run what it confirms and refutes of the document, section by section.
    Claims(claims::Options),
    /// List scenarios, or their cases.
    List(list::Options),
    /// Check scenario files without a cluster.
    Check(check::Options),
    /// Say what a scenario does, what it expects and what the rules predict.
    Explain(explain::Options),
    /// Make a cluster and leave it running, for kubectl and `cknet shell`.
    Up(up::UpOptions),
    /// Take down a cluster that `cknet up` left running.
    Down(down::Options),
    /// Open a shell on a node or in a pod of a running cluster.
    Shell(shell::Options),
    /// Show running clusters.
    Status,
    /// Remove what runs that were killed have left.
    Gc(clusters::GcOptions),
    /// Say what is missing on this machine, and the command that installs it.
    Doctor,
    /// Write a page per scenario and an index of them.
    Docs(docs::Options),
    /// Write the probe image, without any container engine.
    Image(image::Options),
    /// Print the JSON Schema of scenario files.
    Schema,
    /// Print a completion script for a shell.
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// Which scenario files.
#[derive(Clone, Debug, clap::Args)]
struct Selection {
    /// Scenario ids (`policy.deny-all-ingress`), areas (`policy`), patterns with `*`, or paths; all when none is given.
    #[arg(value_name = "SCENARIO")]
    filter: Vec<String>,
    /// The folder of scenarios; `scenarios` here or above unless given.
    #[arg(long, value_name = "DIR")]
    scenarios: Option<PathBuf>,
}

/// What the command line of `cknet` takes.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The command line of `cknet`.
pub fn main() -> ProcessExit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; everything else is a usage error.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::Usage.into() } else { ExitCode::Passed.into() };
        }
    };
    raise_descriptor_limit();
    let code = match cli.command {
        Command::Run(options) => with_runtime(run::run(options)),
        Command::Rerun(options) => with_runtime(rerun::rerun(options)),
        Command::Diff(options) => diff::diff(&options),
        Command::Prove(options) => with_runtime(prove::prove(options)),
        Command::Claims(options) => claims::claims(&options),
        Command::List(options) => list::list(&options),
        Command::Check(options) => check::check(&options),
        Command::Explain(options) => explain::explain(&options),
        Command::Up(options) => up::up(options),
        Command::Down(options) => down::down(&options),
        // Any number may be the exit code of a command in there.
        Command::Shell(options) => return with_runtime(shell::shell(options)),
        Command::Status => clusters::status(),
        Command::Gc(options) => clusters::gc(&options),
        Command::Doctor => doctor::doctor(),
        Command::Docs(options) => docs::docs(&options),
        Command::Image(options) => image::write(&options),
        Command::Schema => print(&format!("{:#}\n", crate::scenario::schema())),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "cknet", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    };
    code.into()
}

/// Runs one command on a runtime of its own.
fn with_runtime<C: From<ExitCode>>(command: impl Future<Output = C>) -> C {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(command);
            // Connections that still wait for a dead cluster must not hold the command up.
            runtime.shutdown_background();
            code
        }
        Err(error) => complain(ExitCode::Infrastructure, &format!("cannot start the runtime: {error}")).into(),
    }
}

/// A cluster passes every connection on through several processes, and the limit that shells set is for one program
/// with a few files. The machines inherit it.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Without it there are fewer connections.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Prints data.
fn print(text: &str) -> ExitCode {
    write_out(std::io::stdout(), text)
}

/// Prints data with styles, where they are shown.
fn print_styled(text: &str) -> ExitCode {
    write_out(anstream::stdout(), text)
}

fn write_out(mut stdout: impl Write, text: &str) -> ExitCode {
    // Flushed here: what the buffer still holds at the end of the process is lost without a word.
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::Passed,
        // Whoever reads has had enough, as `head` does.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::Passed,
        Err(error) => complain(ExitCode::Infrastructure, &format!("cannot write to standard output: {error}")),
    }
}

/// Says what is wrong and answers with `code`.
fn complain(code: ExitCode, problem: &str) -> ExitCode {
    note(&format!("error: {problem}"));
    code
}

/// Says something that is not data.
fn note(text: &str) {
    use anstream::stderr;
    // Without standard error there is nobody to tell.
    let _ = writeln!(stderr(), "{text}");
}
