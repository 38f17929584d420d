//! Taps on nodes: each is one program on a node, started through the Node seam, that sees packets pass until it is
//! told that it is enough.
//!
//! What the packets mean is not known here.

use std::collections::BTreeMap;
use std::time::Duration;

use cknet_probe::tap::{self, Reply, Request, Seen};
use cknet_probe::wire::frame;
use futures::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::ProbeError;
use crate::provider::{Conversation, Invocation, Nodes};

/// Longest time for a tap to be open, and to tell what it saw.
const ANSWER: Duration = Duration::from_secs(10);

/// Open taps, by node. They end when this is dropped.
pub struct Taps {
    open: Vec<(String, Conversation)>,
}

impl Taps {
    /// Opens all taps at once and returns when every one is looking. A place that cannot be looked at is an error
    /// unless `some` will do: nothing seen there means nothing.
    pub async fn open(nodes: &Nodes, requests: BTreeMap<String, Request>, some: bool) -> Result<Self, ProbeError> {
        let opened = requests.into_iter().map(|(node, request)| async move {
            let failed = |what: String| ProbeError::Tap { node: node.clone(), what };
            let machine = nodes.get(&node).ok_or_else(|| ProbeError::NoNode(node.clone()))?;
            let opening = async {
                let invocation = Invocation::new(["cknet", "probe", "tap"]);
                let mut talk = machine.converse(invocation).await.map_err(|error| error.to_string())?;
                let bytes = frame::encode(&request).map_err(|error| error.to_string())?;
                talk.stdin.write_all(&bytes).await.map_err(|error| format!("cannot be asked: {error}"))?;
                match read(&mut talk.stdout).await? {
                    Reply::Open { version: tap::VERSION, blind } if some || blind.is_empty() => Ok(talk),
                    Reply::Open { version, blind } => {
                        let blind: Vec<String> =
                            blind.iter().map(|(place, why)| format!("cannot look at {place}: {why}")).collect();
                        Err(format!("of version {version} {}", blind.join(", ")))
                    }
                    Reply::Seen(_) => Err("told what it saw before it was open".into()),
                }
            };
            let opened = tokio::time::timeout(ANSWER, opening).await;
            let talk = opened.unwrap_or_else(|_| Err("was not open in time".into())).map_err(failed)?;
            Ok((node.clone(), talk))
        });
        Ok(Self { open: try_join_all(opened).await? })
    }

    /// Ends the taps; what each node saw.
    pub async fn close(self) -> Result<BTreeMap<String, Seen>, ProbeError> {
        let closed = self.open.into_iter().map(|(node, talk)| async move {
            let failed = |what: String| ProbeError::Tap { node: node.clone(), what };
            let Conversation { stdin, stdout, leash } = talk;
            drop(stdin);
            let mut stdout = stdout;
            let told = tokio::time::timeout(ANSWER, read(&mut stdout)).await;
            drop(leash);
            match told.unwrap_or_else(|_| Err("did not tell in time".into())).map_err(&failed)? {
                Reply::Seen(seen) => Ok((node.clone(), seen)),
                Reply::Open { .. } => Err(failed("did not tell what it saw".into())),
            }
        });
        Ok(try_join_all(closed).await?.into_iter().collect())
    }
}

async fn read(stream: &mut tokio::net::unix::pipe::Receiver) -> Result<Reply, String> {
    let ended = |error: std::io::Error| format!("ended: {error}");
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await.map_err(ended)?;
    let mut body = vec![0; frame::length(prefix).map_err(|error| error.to_string())?];
    stream.read_exact(&mut body).await.map_err(ended)?;
    frame::decode(&body).map_err(|error| error.to_string())
}
