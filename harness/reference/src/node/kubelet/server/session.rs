//! One WebSocket with channels, as the programs behind it see it: a bounded way out, a stream of what comes in, and
//! an orderly end.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::channel::{Incoming, Outgoing, goodbye, incoming, outgoing, status};

/// Messages on their way out before whoever writes them has to wait.
const QUEUE: usize = 8;
/// How often a silent line is tried, to notice a client that is gone.
const PING: Duration = Duration::from_secs(15);
/// How long the client may take to receive the end and to answer it.
const GOODBYE: Duration = Duration::from_secs(5);

/// The way to the client. Sending waits while the client is slow.
#[derive(Clone, Debug)]
pub struct Out(mpsc::Sender<Message>);

impl Out {
    /// Sends `bytes`; `false` when the client is gone.
    pub async fn send(&self, channel: Outgoing, bytes: &[u8]) -> bool {
        self.0.send(outgoing(channel, bytes)).await.is_ok()
    }
}

/// What comes from the client.
pub struct In(SplitStream<WebSocket>);

impl In {
    /// The next thing it says; [`Incoming::Leaving`] also when it is gone without a word.
    pub async fn next(&mut self) -> Incoming {
        match self.0.next().await {
            Some(Ok(message)) => incoming(message),
            Some(Err(_)) | None => Incoming::Leaving,
        }
    }
}

/// Lets `talk` use the socket. What it returns is sent as the status, `None` when there is nobody to tell. It is
/// dropped as soon as the client cannot be reached any more.
pub async fn hold<F>(socket: WebSocket, talk: impl FnOnce(Out, In) -> F)
where
    F: Future<Output = (Option<serde_json::Value>, In)>,
{
    let (sink, stream) = socket.split();
    let (queue, messages) = mpsc::channel(QUEUE);
    let mut writing = std::pin::pin!(write_out(sink, messages));
    let talking = talk(Out(queue.clone()), In(stream));
    let mut input = tokio::select! {
        () = &mut writing => return,
        (outcome, input) = talking => {
            let Some(outcome) = outcome else { return };
            // The writer below may have to make room first.
            let told = async {
                queue.send(status(&outcome)).await.is_ok() && queue.send(goodbye()).await.is_ok()
            };
            tokio::select! {
                () = &mut writing => return,
                told = tokio::time::timeout(GOODBYE, told) => if told != Ok(true) { return },
            }
            drop(queue);
            input
        }
    };
    // A connection that is closed with unread input may lose what was sent last: wait for the other side.
    let farewell = async {
        tokio::join!(writing, async { while input.next().await != Incoming::Leaving {} });
    };
    let _ = tokio::time::timeout(GOODBYE, farewell).await;
}

/// Until everything is sent and no sender is left, or the client is gone.
async fn write_out(mut sink: SplitSink<WebSocket, Message>, mut messages: mpsc::Receiver<Message>) {
    let mut pings = interval_at(Instant::now() + PING, PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            message = messages.recv() => match message {
                Some(message) => message,
                None => return,
            },
            _ = pings.tick() => Message::Ping(Vec::new().into()),
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
}
