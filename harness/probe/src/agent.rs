//! The agent: one process per node that probes on request, over frames on two byte streams.
//!
//! Owns the conversation. It must run on a single-threaded process of its own, because the engine moves its thread
//! between namespaces; the control stream is therefore never subject to what the probes are.

use std::io::{self, Read, Write};
use std::time::Duration;

use crate::engine::{Prober, raise_open_file_limit};
use crate::wire::frame::{self, FrameError};
use crate::wire::{AgentReply, AgentRequest, Batch, VERSION, VantageId};

/// The conversation could not go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("cannot start the probing agent: {0}")]
    Start(#[source] io::Error),
    #[error("the agent's stream: {0}")]
    Frame(#[from] FrameError),
}

/// Answers requests until `Shutdown` or the end of `input`.
pub fn run(mut input: impl Read, mut output: impl Write) -> Result<(), AgentError> {
    // With the soft limit large batches only take several chunks, so a refusal is no reason to give up.
    let _ = raise_open_file_limit();
    let mut prober = Prober::new().map_err(AgentError::Start)?;
    frame::write(&mut output, &AgentReply::Hello { version: VERSION, pid: std::process::id() })?;
    while let Some(request) = frame::read(&mut input)? {
        match request {
            AgentRequest::Attach { vantage, netns } => {
                frame::write(&mut output, &attach(&mut prober, vantage, &netns))?;
            }
            AgentRequest::Detach { vantage } => frame::write(&mut output, &detach(&mut prober, vantage))?,
            AgentRequest::Probe(batch) => probe(&mut prober, &batch, &mut output)?,
            AgentRequest::Hold { name, from, address, quiet } => {
                let line = prober.hold(&name, &from, address, quiet);
                frame::write(&mut output, &AgentReply::Held { name, line })?;
            }
            AgentRequest::Exchange { names, quiet } => {
                let lines = prober.exchange(&names, quiet);
                frame::write(&mut output, &AgentReply::Exchanged { lines })?;
            }
            AgentRequest::Release => {
                let count = prober.release();
                frame::write(&mut output, &AgentReply::Released { count })?;
            }
            AgentRequest::Shutdown => break,
        }
    }
    Ok(())
}

/// The personality `cknet probe agent`: [`run`] on standard input and output.
pub fn on_standard_streams() -> Result<(), AgentError> {
    run(io::stdin().lock(), io::stdout().lock())
}

fn attach(prober: &mut Prober, vantage: VantageId, netns: &str) -> AgentReply {
    match prober.attach(&vantage, netns) {
        Ok(()) => AgentReply::Attached { vantage },
        Err(error) => AgentReply::Failed { vantage, reason: error.to_string() },
    }
}

fn detach(prober: &mut Prober, vantage: VantageId) -> AgentReply {
    if prober.detach(&vantage) {
        AgentReply::Detached { vantage }
    } else {
        let reason = format!("no vantage `{vantage}` is attached");
        AgentReply::Failed { vantage, reason }
    }
}

fn probe(prober: &mut Prober, batch: &Batch, output: &mut impl Write) -> Result<(), FrameError> {
    let mut pass = prober.probe(batch);
    let reply = AgentReply::Observations {
        pass: batch.pass,
        list: std::mem::take(&mut pass.observations),
        launched_us: micros(pass.launched),
        took_us: micros(pass.took),
    };
    // The reply first: closing thousands of connections takes time in which the caller can already judge.
    let sent = frame::write(output, &reply);
    drop(pass);
    sent
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(u64::MAX)
}
