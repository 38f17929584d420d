//! The conversation with the probe agent of one node.
//!
//! One task owns the stream. It takes every question that is waiting, asks them in one batch, and shares the answers
//! out; while a batch is under way further questions gather for the next one. Connections that the agent holds live as
//! long as the agent: a new one holds none, and says so.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cknet_probe::wire::{self, AgentReply, AgentRequest, Batch, Cell, Line, Observation, VantageId, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::{ProbeError, Question, Vantage};
use crate::provider::{Conversation, Invocation, Node};

/// What a batch may take beyond its deadline for silence before the agent counts as dead.
const SLACK: Duration = Duration::from_secs(10);

/// Longest wait for what still comes back after the last probe left.
const CAP: Duration = Duration::from_secs(2);

type Answer<T> = Result<T, ProbeError>;

/// Questions that share a batch with those of others.
struct Asked {
    questions: Vec<Question>,
    quiet: Duration,
    answer: oneshot::Sender<Answer<Vec<Observation>>>,
}

/// What is to be done with connections that the agent holds.
struct Errand {
    what: What,
    answer: oneshot::Sender<Answer<Line>>,
}

enum What {
    /// Opens one.
    Hold { name: String, path: String, address: SocketAddr, quiet: Duration },
    /// Sends a word over one.
    Exchange { name: String, quiet: Duration },
    /// Closes all.
    Release,
}

enum Wish {
    Ask(Asked),
    Errand(Errand),
}

/// The agent of one node; clones share it.
#[derive(Clone)]
pub struct Agent {
    node: String,
    ask: mpsc::UnboundedSender<Wish>,
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

    pub async fn ask(&self, questions: Vec<Question>, quiet: Duration) -> Answer<Vec<Observation>> {
        let (answer, answered) = oneshot::channel();
        self.wish(Wish::Ask(Asked { questions, quiet, answer }), answered).await
    }

    /// Opens a connection that the agent holds under a name.
    pub async fn hold(&self, name: &str, from: &Vantage, address: SocketAddr, quiet: Duration) -> Answer<Line> {
        self.errand(What::Hold { name: name.into(), path: from.place.netns(), address, quiet }).await
    }

    /// Sends a word over a connection that the agent holds.
    pub async fn exchange(&self, name: &str, quiet: Duration) -> Answer<Line> {
        self.errand(What::Exchange { name: name.into(), quiet }).await
    }

    /// Closes the connections that the agent holds.
    pub async fn release(&self) -> Answer<()> {
        self.errand(What::Release).await.map(|_| ())
    }

    async fn errand(&self, what: What) -> Answer<Line> {
        let (answer, answered) = oneshot::channel();
        self.wish(Wish::Errand(Errand { what, answer }), answered).await
    }

    async fn wish<T>(&self, wish: Wish, answered: oneshot::Receiver<Answer<T>>) -> Answer<T> {
        let dead = || ProbeError::Agent { node: self.node.clone(), what: "ended".into() };
        self.ask.send(wish).map_err(|_| dead())?;
        answered.await.map_err(|_| dead())?
    }
}

async fn run(node: Arc<dyn Node>, mut wishes: mpsc::UnboundedReceiver<Wish>) {
    let name = node.name().to_string();
    let failed = |what: String| ProbeError::Agent { node: name.clone(), what };
    let opened = tokio::time::timeout(SLACK, Stream::open(&*node)).await;
    let mut stream = match opened.unwrap_or_else(|_| Err("did not start in time".into())) {
        Ok(stream) => stream,
        Err(problem) => {
            if let Some(first) = wishes.recv().await {
                refuse([first], &failed(problem));
            }
            return;
        }
    };
    let mut waiting = Vec::new();
    while wishes.recv_many(&mut waiting, usize::MAX).await > 0 {
        let (mut asked, mut errands) = (Vec::new(), Vec::new());
        for wish in waiting.drain(..) {
            match wish {
                Wish::Ask(ask) => asked.push(ask),
                Wish::Errand(errand) => errands.push(errand),
            }
        }
        // What is left in the lists has not been answered.
        let done = match stream.probe(&mut asked).await {
            Ok(()) => stream.run(&mut errands).await,
            Err(problem) => Err(problem),
        };
        if let Err(problem) = done {
            let left = asked.into_iter().map(Wish::Ask).chain(errands.into_iter().map(Wish::Errand));
            return refuse(left, &failed(problem));
        }
    }
}

/// Tells everybody who waits why there is no answer; whoever asked may have stopped waiting.
fn refuse(wishes: impl IntoIterator<Item = Wish>, why: &ProbeError) {
    for wish in wishes {
        match wish {
            Wish::Ask(asked) => drop(asked.answer.send(Err(why.clone()))),
            Wish::Errand(errand) => drop(errand.answer.send(Err(why.clone()))),
        }
    }
}

/// An answer, unless it takes longer than its own deadlines and some slack.
async fn in_time<T>(longest: Duration, answer: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let answered = tokio::time::timeout(longest + SLACK, answer).await;
    answered.unwrap_or_else(|_| Err("did not answer in time".into()))
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

    /// Asks all that is waiting in one batch and shares the answers out.
    async fn probe(&mut self, waiting: &mut Vec<Asked>) -> Result<(), String> {
        if waiting.is_empty() {
            return Ok(());
        }
        let quiet = waiting.iter().map(|asked| asked.quiet).max().unwrap_or_default();
        let questions = waiting.iter().flat_map(|asked| &asked.questions);
        let mut observations = in_time(quiet + CAP, self.batch(questions, quiet)).await?.into_iter();
        for Asked { questions, answer, .. } in waiting.drain(..) {
            let _ = answer.send(Ok(observations.by_ref().take(questions.len()).collect()));
        }
        Ok(())
    }

    /// Does what is to be done with connections, in order; those over which a word is to be sent share one wait.
    async fn run(&mut self, errands: &mut Vec<Errand>) -> Result<(), String> {
        let (words, others): (Vec<_>, Vec<_>) =
            errands.drain(..).partition(|errand| matches!(errand.what, What::Exchange { .. }));
        errands.extend(others.into_iter().chain(words));
        while let Some(errand) = errands.first() {
            let line = match &errand.what {
                What::Hold { name, path, address, quiet } => {
                    let (name, path, address, quiet) = (name.clone(), path.clone(), *address, *quiet);
                    let from = VantageId::new(path.clone());
                    // Twice: for the handshake and for the first echo.
                    in_time(quiet * 2, async {
                        self.attach(&path).await?;
                        self.send(&AgentRequest::Hold { name, from, address, quiet }).await?;
                        match self.receive().await? {
                            AgentReply::Held { line, .. } => Ok(line),
                            _ => Err("answered another question".into()),
                        }
                    })
                    .await?
                }
                What::Release => {
                    in_time(Duration::ZERO, async {
                        self.send(&AgentRequest::Release).await?;
                        match self.receive().await? {
                            AgentReply::Released { .. } => Ok(()),
                            _ => Err("answered another question".into()),
                        }
                    })
                    .await?;
                    Line::Ended
                }
                What::Exchange { .. } => return self.exchange(errands).await,
            };
            let _ = errands.remove(0).answer.send(Ok(line));
        }
        Ok(())
    }

    /// Sends a word over all these connections at once.
    async fn exchange(&mut self, errands: &mut Vec<Errand>) -> Result<(), String> {
        let named = |errand: &Errand| match &errand.what {
            What::Exchange { name, quiet } => Some((name.clone(), *quiet)),
            _ => None,
        };
        let quiet = errands.iter().filter_map(named).map(|(_, quiet)| quiet).max().unwrap_or_default();
        let names = errands.iter().filter_map(named).map(|(name, _)| name).collect();
        let lines: BTreeMap<String, Line> = in_time(quiet, async {
            self.send(&AgentRequest::Exchange { names, quiet }).await?;
            match self.receive().await? {
                AgentReply::Exchanged { lines } => Ok(lines),
                _ => Err("answered another question".into()),
            }
        })
        .await?;
        for errand in errands.drain(..) {
            let line = named(&errand).and_then(|(name, _)| lines.get(&name).cloned());
            let unknown = || Line::Unknown { detail: "the agent did not say what became of it".into() };
            let _ = errand.answer.send(Ok(line.unwrap_or_else(unknown)));
        }
        Ok(())
    }

    async fn batch<'a>(
        &mut self,
        questions: impl Iterator<Item = &'a Question> + Clone,
        quiet: Duration,
    ) -> Result<Vec<Observation>, String> {
        for question in questions.clone() {
            self.attach(&question.from.place.netns()).await?;
        }
        self.pass += 1;
        let cells: Vec<Cell> = (0u32..)
            .zip(questions)
            .map(|(id, question)| Cell {
                id,
                from: VantageId::new(question.from.place.netns()),
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
