//! Connections that stay open while the world changes, and echo requests.
//!
//! A connection is judged by a word of its own at every look. An agent that has ended holds no connection any more, so
//! that its end is never taken for that of the connection.

use std::time::{Duration, Instant};

use cknet_probe::wire::{Line, Sight, Target};

use super::Looked;
use super::flows::{ask, flow};
use super::path_mtu::address;
use super::witness::Witnesses;
use crate::judge::{Look, Seen, meets, outcome_of};
use crate::run::stage::{HeldConnection, Stage};
use crate::scenario::model::{Connect, Connection, ConnectionState, Outcome, Ping};
use crate::vantage::Question;

/// Longest wait until a connection is there; what a step did before may take a moment to be seen.
const OPENED: Duration = Duration::from_secs(5);

/// Between two attempts to open a connection.
const AGAIN: Duration = Duration::from_millis(20);

/// Bytes of an echo request after its header, as ping(8) sends them.
const PAYLOAD: u16 = 56;

/// Opens a connection that stays open.
pub async fn open(stage: &mut Stage<'_>, connect: &Connect) -> Result<(), String> {
    let flow = flow(stage, &connect.from, &connect.to, connect.port, &connect.via).await?;
    let Target::Tcp { address, .. } = flow.question.target else {
        return Err(format!("a connection over {} does not stay open", connect.port));
    };
    let from = flow.question.from.clone();
    let started = Instant::now();
    loop {
        let line = stage.cluster.prober.hold(connect.name.as_str(), &from, address).await;
        let found = match line.map_err(|error| error.to_string())? {
            Line::Echoed { peer, .. } if flow.peers.is_empty() || flow.peers.contains(&peer) => {
                // Behind a service it is the one backend that took it, which has to be alive when it falls silent.
                let held = HeldConnection { from, peer, protocol: flow.protocol };
                stage.held.insert(connect.name.clone(), held);
                return Ok(());
            }
            Line::Echoed { peer, .. } => return Err(format!("`{peer}` took the connection `{}`", connect.name)),
            other => shown(&other),
        };
        if started.elapsed() >= OPENED {
            return Err(format!("connection `{}` is not there after {OPENED:?}: {found}", connect.name));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Sends a word over a connection.
pub async fn connection(stage: &Stage<'_>, expected: &Connection) -> Looked {
    let name = &expected.name;
    let held = stage.held.get(name).ok_or_else(|| format!("connection `{name}` was not opened"))?;
    let begun = Instant::now();
    let line = stage.cluster.prober.exchange(name.as_str(), &held.from).await.map_err(|error| error.to_string())?;
    let seen = match &line {
        Line::Echoed { peer, .. } if *peer != held.peer => {
            return Err(format!("`{peer}` answered on connection `{name}` instead of `{}`", held.peer));
        }
        Line::Echoed { .. } => ConnectionState::Open,
        Line::Silent | Line::Unreachable { .. } => {
            stage.waiting.silent_since(begun);
            ConnectionState::Silent
        }
        Line::Reset => ConnectionState::Reset,
        Line::Ended => ConnectionState::Ended,
        Line::Unknown { detail } => return Err(format!("connection `{name}`: {detail}")),
    };
    let met = seen == expected.state || expected.state == ConnectionState::Broken && seen != ConnectionState::Open;
    if !met {
        return Ok(Look::Refuted(Seen::word(shown(&line))));
    }
    if seen == ConnectionState::Silent {
        // Whoever resets or closes a connection is there; silence may be that of the dead.
        let mut witnesses = Witnesses::default();
        let peer = std::slice::from_ref(&held.peer);
        witnesses.add(stage, peer, held.protocol);
        let own = ask(stage, witnesses.questions().collect()).await?;
        witnesses.doubt(peer, &own)?;
    }
    Ok(Look::Holds(shown(&line)))
}

fn shown(line: &Line) -> String {
    match line {
        Line::Echoed { rtt_us, peer, seen_source } => {
            format!("open, echo in {}.{:01} ms; `{peer}` sees {seen_source}", rtt_us / 1000, rtt_us % 1000 / 100)
        }
        Line::Silent => "silent".into(),
        Line::Reset => "reset".into(),
        Line::Ended => "ended by the other side".into(),
        Line::Unreachable { errno } => format!("silent ({errno})"),
        Line::Unknown { detail } => detail.clone(),
    }
}

/// Sends one echo request.
pub async fn ping(stage: &Stage<'_>, expected: &Ping) -> Looked {
    let target = Target::Icmp { address: address(stage, &expected.to)?, payload: PAYLOAD, whole: false };
    let from = super::flows::vantage(stage, &expected.from)?;
    let mut questions = vec![Question { from, target: target.clone() }];
    let own = super::flows::vantage(stage, &expected.to).ok().filter(|_| expected.is != Outcome::Allowed);
    questions.extend(own.map(|from| Question { from, target }));
    let seen = ask(stage, questions).await?;
    let outcome = outcome_of(&seen[0], true)?;
    if !meets(expected.is, outcome) {
        return Ok(Look::Refuted(Seen::word(outcome.word())));
    }
    match seen.get(1) {
        Some(own) if own.sight != Sight::Answered => {
            Err(format!("`{}` does not answer its own echo requests ({:?})", expected.to, own.sight))
        }
        _ => Ok(Look::Holds(outcome.word().to_string())),
    }
}
