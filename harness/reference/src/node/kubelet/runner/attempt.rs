//! One attempt to run a container: its command line and variables, its log, its process.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use cknet_kernel::child::{Child, Exit};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use nix::sys::signal::Signal;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::supervise::termination;
use super::{NotStarted, Runner};
use crate::node::kubelet::console::{Console, Seat};
use crate::node::kubelet::context::runtime_id;
use crate::node::kubelet::environment::{self, Facts, PATH, PUBLIC_PATH, Variables};
use crate::node::kubelet::events::Severity;
use crate::node::kubelet::files::{host_name, is_host_network};
use crate::node::kubelet::images::{self, Image};
use crate::node::kubelet::journal::journal;
use crate::node::kubelet::launch::{Program, Streams, launch};
use crate::node::kubelet::logs::capture::{self, LogBook};
use crate::node::kubelet::logs::cri::Stream;
use crate::node::kubelet::pull::{self, Wanted};
use crate::node::kubelet::record::ContainerRecord;
use crate::node::kubelet::registry::Running;
use crate::node::kubelet::status::{RUNTIME, Termination};
use crate::node::kubelet::until::until;

/// A process and what belongs to its attempt.
pub(super) struct Attempt {
    pub child: Child,
    pub id: String,
    pub since: Timestamp,
    pub inside: Running,
    pub output: Output,
    pub console: Option<Arc<Console>>,
}

/// The capture of both streams.
pub(super) struct Output {
    book: Arc<LogBook>,
    /// Dropping it tells the captures that nothing more comes.
    ended: DropGuard,
    tasks: Vec<JoinHandle<()>>,
}

impl Runner {
    /// Starts a new attempt.
    pub(super) async fn begin(&mut self) -> Result<Attempt, NotStarted> {
        let container = self.spec();
        self.view.image = container.image.clone().unwrap_or_default();
        let image = images::find(&self.view.image).map_err(|error| NotStarted::Image(error.to_string()))?;
        self.view.image_id = format!("{RUNTIME}://{}", image.repository);
        self.provide_image(container.image_pull_policy.as_deref()).await.map_err(NotStarted::Image)?;
        let variables = self.variables(&container, Some(image)).await.map_err(NotStarted::Configuration)?;
        let expanded = |words: &Option<Vec<String>>| -> Vec<String> {
            words.iter().flatten().map(|word| environment::expand(word, &variables)).collect()
        };
        let executable = self.node.config.executable.clone();
        let argv = images::command_line(image, &executable, &expanded(&container.command), &expanded(&container.args));
        let attempt = self.view.restarts;
        let id = runtime_id(&[&self.key.uid, &self.view.name, &attempt.to_string(), &Timestamp::now().to_string()]);
        self.view.id = Some(id.clone());
        let failed = |error: io::Error| NotStarted::Failed(self.never_ran(format!("cannot keep the output: {error}")));
        let output = self.capture(attempt).map_err(failed)?;
        let (stdout, stderr) = self.writing_ends().map_err(failed)?;
        let (console, seat) = Console::of(&container, &self.folder().join("stdout")).map_err(failed)?.unzip();
        let streams = match seat {
            Some(Seat::Terminal(terminal)) => Streams::Terminal(terminal),
            Some(Seat::Input(stdin)) => Streams::Files { stdin: Some(stdin), stdout, stderr },
            None => Streams::Files { stdin: None, stdout, stderr },
        };
        let inside =
            Running { sandbox: self.sandbox.clone(), variables, folder: container.working_dir.clone(), executable };
        self.say(Severity::Normal, "Created", format!("Created container: {}", self.view.name));
        let program = Program {
            argv,
            variables: inside.variables.clone(),
            folder: inside.folder.clone(),
            executable: inside.executable.clone(),
        };
        let since = Timestamp::now();
        match launch(&self.sandbox, program, streams).await {
            Ok(started) => {
                self.remember(&started.child, &id, attempt, since);
                Ok(Attempt { child: started.child, id, since, inside, output, console })
            }
            Err(error) => {
                output.finish().await;
                let text = "OCI runtime create failed: unable to start container process";
                Err(NotStarted::Failed(self.never_ran(format!("{text}: {error}: unknown"))))
            }
        }
    }

    /// Sees that the image is on the node.
    async fn provide_image(&self, policy: Option<&str>) -> Result<(), String> {
        let image = &self.view.image;
        let reference = match pull::wanted(image, policy, &self.node.pulled) {
            Wanted::Nothing => {
                let text = format!("Container image \"{image}\" already present on machine");
                self.say(Severity::Normal, "Pulled", text);
                return Ok(());
            }
            Wanted::Forbidden => {
                return Err(format!("Container image \"{image}\" is not present with pull policy of Never"));
            }
            Wanted::Pull(reference) => reference,
        };
        self.say(Severity::Normal, "Pulling", format!("Pulling image \"{image}\""));
        let mut stop = self.stop.clone();
        tokio::select! {
            pulled = pull::pull(image, reference, &self.node.pulled) => pulled?,
            () = until(&mut stop, Option::is_some) => return Err("context canceled".into()),
        }
        self.say(Severity::Normal, "Pulled", format!("Successfully pulled image \"{image}\""));
        Ok(())
    }

    async fn variables(&self, container: &Container, image: Option<&Image>) -> Result<Variables, String> {
        let wanted = environment::wanted_sources(container);
        let sources = self.node.fetch(&self.key.namespace, wanted).await?;
        let pod = self.pod();
        let spec = pod.spec.clone().unwrap_or_default();
        let config = &self.node.config;
        let is_host = is_host_network(&spec);
        let name = if is_host { config.node_name.clone() } else { host_name(&spec, &self.key.name) };
        let facts = Facts {
            pod: &pod,
            node_name: &config.node_name,
            host_ip: config.node_ip,
            pod_ip: self.address,
            host_name: &name,
            path: if image.is_some_and(Image::is_public) { PUBLIC_PATH } else { PATH },
            kubernetes: self.node.kubernetes().await,
            sources: &sources,
        };
        environment::variables(container, &facts)
    }

    fn remember(&self, child: &Child, id: &str, attempt: i32, since: Timestamp) {
        let written = child.started().and_then(|ticks| {
            let process = ContainerRecord { id: id.into(), attempt, pid: child.pid(), ticks, since };
            self.record.change(|record| drop(record.containers.insert(self.view.name.clone(), process)))
        });
        if let Err(error) = written {
            // Without it only a restart of the kubelet is less smooth.
            journal(format_args!("cannot record container `{}` of pod `{}`: {error}", self.view.name, self.key));
        }
    }

    pub(super) fn forget(&self) {
        let outcome = self.record.change(|record| drop(record.containers.remove(&self.view.name)));
        if let Err(error) = outcome {
            journal(format_args!("cannot update the record of pod `{}`: {error}", self.key));
        }
    }

    fn folder(&self) -> PathBuf {
        self.record.folder().join("containers").join(&self.view.name)
    }

    /// Opens the log of `attempt`; only that and the one before are kept.
    fn capture(&self, attempt: i32) -> io::Result<Output> {
        let folder = self.folder();
        fs::create_dir_all(&folder)?;
        if let Some(outdated) = attempt.checked_sub(2) {
            let path = folder.join(format!("{outdated}.log"));
            // Most attempts leave no second file, and the first attempts have no predecessor.
            let _ = (fs::remove_file(LogBook::rotated(&path)), fs::remove_file(&path));
        }
        let book = LogBook::open(folder.join(format!("{attempt}.log")))?;
        let ended = CancellationToken::new();
        let mut tasks = Vec::new();
        for (stream, name) in [(Stream::Stdout, "stdout"), (Stream::Stderr, "stderr")] {
            let path = folder.join(name);
            capture::prepare(&path)?;
            tasks.push(capture::start(&path, stream, Arc::clone(&book), ended.clone())?);
        }
        self.entry.logs_to(Arc::clone(&book));
        Ok(Output { book, ended: ended.drop_guard(), tasks })
    }

    fn writing_ends(&self) -> io::Result<(fs::File, fs::File)> {
        let folder = self.folder();
        Ok((capture::writing_end(&folder.join("stdout"))?, capture::writing_end(&folder.join("stderr"))?))
    }

    /// Takes over a process from before a restart of the kubelet; one that died meanwhile has ended unseen.
    pub(super) async fn adopt(&mut self, record: &ContainerRecord) -> Result<Attempt, NotStarted> {
        self.view.restarts = record.attempt;
        self.view.id = Some(record.id.clone());
        let container = self.spec();
        self.view.image = container.image.clone().unwrap_or_default();
        let image = images::find(&self.view.image).ok();
        self.view.image_id = format!("{RUNTIME}://{}", image.map_or("", |image| image.repository));
        let unseen = || NotStarted::Failed(termination(Exit::Unknown, record.since, record.id.clone()));
        let child = Child::adopt(record.pid, record.ticks).ok().flatten().ok_or_else(unseen)?;
        let output = match self.capture(record.attempt) {
            Ok(output) => output,
            Err(error) => {
                journal(format_args!("cannot read container `{}` of pod `{}`: {error}", self.view.name, self.key));
                // Whoever cannot be listened to is started anew.
                let _ = child.signal(Signal::SIGKILL);
                return Err(unseen());
            }
        };
        let variables = self.variables(&container, image).await.unwrap_or_default();
        let executable = self.node.config.executable.clone();
        let inside = Running { sandbox: self.sandbox.clone(), variables, folder: container.working_dir, executable };
        // The other end of its input went with the kubelet before this one.
        Ok(Attempt { child, id: record.id.clone(), since: record.since, inside, output, console: None })
    }

    /// The end of an attempt that did not get as far as a process.
    fn never_ran(&self, message: String) -> Termination {
        Termination {
            exit_code: 128,
            signal: None,
            reason: "StartError".into(),
            message: Some(message),
            began: None,
            ended: Timestamp::now(),
            container: self.view.id.clone(),
        }
    }
}

impl Output {
    /// Keeps what is still in the pipes and closes the log.
    pub(super) async fn finish(self) {
        drop(self.ended);
        for task in self.tasks {
            // A capture that failed has said so itself.
            let _ = task.await;
        }
        self.book.end();
    }
}
