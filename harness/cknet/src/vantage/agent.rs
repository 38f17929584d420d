//! The conversation with the probe agent of one node.
//!
//! One task owns the stream. It takes every question that is waiting, asks them in one batch, and shares the answers
//! out; while a batch is under way further questions gather for the next one.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cknet_probe::wire::{self, AgentReply, AgentRequest, Batch, Cell, Observation, VantageId, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::{ProbeError, Question};
use crate::provider::{Conversation, Invocation, Node};

/// What a batch may take beyond its deadline for silence before the agent counts as dead.
const SLACK: Duration = Duration::from_secs(10);

/// Longest wait for what still comes back after the last probe left.
const CAP: Duration = Duration::from_secs(2);

type Answer = Result<Vec<Observation>, ProbeError>;

struct Asked {
    questions: Vec<Question>,
    quiet: Duration,
    answer: oneshot::Sender<Answer>,
}

/// The agent of one node; clones share it.
#[derive(Clone)]
pub struct Agent {
    node: String,
    ask: mpsc::UnboundedSender<Asked>,
}

impl Agent {
    /// Starts the agent; a failure to start is the answer to the first question.
    pub fn start(node: Arc<dyn Node>) -> Self {
        let (ask, asked) = mpsc::unbounded_channel();
        let name = node.name().to_string();
        tokio::spawn(run(node, asked));
        Self { node: name, ask }
    }

    /// Whether the agent takes questions.
    pub fn lives(&self) -> bool {
        !self.ask.is_closed()
    }

    pub async fn ask(&self, questions: Vec<Question>, quiet: Duration) -> Answer {
        let dead = || ProbeError::Agent { node: self.node.clone(), what: "ended".into() };
        let (answer, answered) = oneshot::channel();
        self.ask.send(Asked { questions, quiet, answer }).map_err(|_| dead())?;
        answered.await.map_err(|_| dead())?
    }
}

async fn run(node: Arc<dyn Node>, mut asked: mpsc::UnboundedReceiver<Asked>) {
    let name = node.name().to_string();
    let failed = |what: String| ProbeError::Agent { node: name.clone(), what };
    let opened = tokio::time::timeout(SLACK, Stream::open(&*node)).await;
    let mut stream = match opened.unwrap_or_else(|_| Err("did not start in time".into())) {
        Ok(stream) => Some(stream),
        Err(problem) => {
            if let Some(first) = asked.recv().await {
                let _ = first.answer.send(Err(failed(problem)));
            }
            None
        }
    };
    let mut waiting = Vec::new();
    while let Some(open) = stream.as_mut() {
        if asked.recv_many(&mut waiting, usize::MAX).await == 0 {
            return;
        }
        let quiet = waiting.iter().map(|asked| asked.quiet).max().unwrap_or_default();
        let questions = waiting.iter().flat_map(|asked| &asked.questions);
        let seen = tokio::time::timeout(quiet + CAP + SLACK, open.batch(questions, quiet)).await;
        let seen = seen.unwrap_or_else(|_| Err("did not answer in time".into()));
        match seen {
            Ok(observations) => {
                let mut observations = observations.into_iter();
                for Asked { questions, answer, .. } in waiting.drain(..) {
                    // Whoever asked may have stopped waiting.
                    let _ = answer.send(Ok(observations.by_ref().take(questions.len()).collect()));
                }
            }
            Err(problem) => {
                for Asked { answer, .. } in waiting.drain(..) {
                    let _ = answer.send(Err(failed(problem.clone())));
                }
                stream = None;
            }
        }
    }
}

/// The frames to and from the agent.
struct Stream {
    conversation: Conversation,
    attached: HashSet<String>,
    pass: u64,
}

impl Stream {
    async fn open(node: &dyn Node) -> Result<Self, String> {
        let invocation = Invocation::new(["cknet", "probe", "agent"]);
        let conversation = node.converse(invocation).await.map_err(|error| format!("cannot be started: {error}"))?;
        let mut stream = Self { conversation, attached: HashSet::new(), pass: 0 };
        match stream.receive().await? {
            AgentReply::Hello { version, .. } if version == wire::VERSION => Ok(stream),
            AgentReply::Hello { version, .. } => {
                Err(format!("speaks version {version} of the protocol instead of {}", wire::VERSION))
            }
            _ => Err("did not say hello".into()),
        }
    }

    async fn batch<'a>(
        &mut self,
        questions: impl Iterator<Item = &'a Question> + Clone,
        quiet: Duration,
    ) -> Result<Vec<Observation>, String> {
        for question in questions.clone() {
            self.attach(&question.from.place.path()).await?;
        }
        self.pass += 1;
        let cells: Vec<Cell> = (0u32..)
            .zip(questions)
            .map(|(id, question)| Cell {
                id,
                from: VantageId::new(question.from.place.path()),
                target: question.target.clone(),
            })
            .collect();
        let count = cells.len();
        self.send(&AgentRequest::Probe(Batch { pass: self.pass, cells, quiet, cap: CAP })).await?;
        let AgentReply::Observations { pass, mut list, .. } = self.receive().await? else {
            return Err("answered another question".into());
        };
        list.sort_by_key(|observation| observation.id);
        if pass != self.pass || list.len() != count {
            return Err(format!("answered {} of {count} questions", list.len()));
        }
        Ok(list)
    }

    /// Names a namespace to the agent, once. One that cannot be entered leaves its questions inconclusive.
    async fn attach(&mut self, path: &str) -> Result<(), String> {
        if self.attached.contains(path) {
            return Ok(());
        }
        self.send(&AgentRequest::Attach { vantage: VantageId::new(path), netns: path.into() }).await?;
        match self.receive().await? {
            AgentReply::Attached { .. } => {
                self.attached.insert(path.to_string());
                Ok(())
            }
            AgentReply::Failed { .. } => Ok(()),
            _ => Err("answered another question".into()),
        }
    }

    async fn send(&mut self, request: &AgentRequest) -> Result<(), String> {
        let bytes = frame::encode(request).map_err(|error| error.to_string())?;
        self.conversation.stdin.write_all(&bytes).await.map_err(|error| format!("cannot be asked: {error}"))
    }

    async fn receive(&mut self) -> Result<AgentReply, String> {
        let ended = |error: std::io::Error| format!("ended: {error}");
        let mut prefix = [0; 4];
        self.conversation.stdout.read_exact(&mut prefix).await.map_err(ended)?;
        let mut body = vec![0; frame::length(prefix).map_err(|error| error.to_string())?];
        self.conversation.stdout.read_exact(&mut body).await.map_err(ended)?;
        frame::decode(&body).map_err(|error| error.to_string())
    }
}
