//! `kubectl attach`: what a container writes from now on, and its keyboard where it has one.

use std::pin::pin;
use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::Shared;
use super::answer::{container_not_found, find, outcome};
use super::channel::{Incoming, Outgoing};
use super::exec::agree;
use super::session::{In, Out, hold};
use crate::node::kubelet::console::Console;
use crate::node::kubelet::journal::journal;
use crate::node::kubelet::logs::capture::LogBook;
use crate::node::kubelet::logs::cri::Stream;
use crate::node::kubelet::logs::read::{LogQuery, read};

/// Pieces of a log on their way to a client.
const QUEUE: usize = 16;

pub(super) async fn attach(
    State(shared): State<Shared>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let entry = match find(&shared.node.registry, &namespace, &pod, &container) {
        Ok(entry) => entry,
        Err(refused) => return *refused,
    };
    let (Some(_), Some(book)) = (entry.running(), entry.log()) else {
        return container_not_found(&container);
    };
    let console = entry.console();
    match agree(upgrade) {
        Ok(upgrade) => upgrade.on_upgrade(move |socket| async move {
            hold(socket, |out, input| converse(book, console, out, input)).await;
        }),
        Err(refused) => *refused,
    }
}

/// Until the container has ended, or the client went: `None`.
async fn converse(book: Arc<LogBook>, console: Option<Arc<Console>>, out: Out, mut input: In) -> (Option<Value>, In) {
    let outcome = {
        let mut showing = pin!(async {
            match &console {
                Some(console) if console.is_terminal() => show_terminal(console, &out).await,
                // Whoever holds the keyboard could not come earlier, so nothing of before is kept from them.
                console => show_log(book, console.is_none().then_some(0), &out).await,
            }
        });
        tokio::select! {
            () = &mut showing => Some(outcome(0)),
            () = listen(&mut input, console.as_deref()) => None,
        }
    };
    (outcome, input)
}

async fn show_log(book: Arc<LogBook>, tail: Option<usize>, out: &Out) {
    let (sender, mut pieces) = mpsc::channel(QUEUE);
    tokio::spawn(read(book, LogQuery { follow: true, tail, ..LogQuery::default() }, sender));
    while let Some(Ok(piece)) = pieces.recv().await {
        let channel = if piece.stream == Stream::Stdout { Outgoing::Stdout } else { Outgoing::Stderr };
        if !out.send(channel, &piece.bytes).await {
            return;
        }
    }
}

async fn show_terminal(console: &Console, out: &Out) {
    let (before, mut said) = console.look_on();
    if !out.send(Outgoing::Stdout, &before).await {
        return;
    }
    loop {
        let bytes = tokio::select! {
            biased;
            bytes = said.recv() => bytes,
            () = console.is_dark() => return,
        };
        match bytes {
            Ok(bytes) => {
                if !out.send(Outgoing::Stdout, &bytes).await {
                    return;
                }
            }
            // What a slow client missed is in the log.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Takes in what the client says until it leaves.
async fn listen(input: &mut In, console: Option<&Console>) {
    let mut reads = true;
    loop {
        match (input.next().await, console) {
            (Incoming::Leaving, console) => {
                if let Some(console) = console {
                    console.typed_out().await;
                }
                return;
            }
            (Incoming::Stdin(bytes), Some(console)) if reads => reads = console.type_in(&bytes).await.is_ok(),
            (Incoming::Closed(0), Some(console)) => console.typed_out().await,
            (Incoming::Resize { rows, columns }, Some(console)) => {
                if let Err(error) = console.resize(rows, columns) {
                    journal(format_args!("cannot resize a terminal: {error}"));
                }
            }
            // What is typed for a container without a keyboard goes nowhere.
            _ => {}
        }
    }
}
