//! What the runner and the fabric say to each other: one JSON message each way, descriptors beside it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::provider::{Exit, Topology};

/// A numbered request; the reply carries the same number.
#[derive(Debug, Serialize, Deserialize)]
pub struct Envelope {
    pub id: u64,
    pub request: Request,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Make these segments and nodes; once.
    Build(Topology),
    /// Start a program; three descriptors: its standard streams.
    Spawn(Spawn),
    /// Send a signal to the process group of a spawned program.
    Signal { process: u32, signal: i32 },
    /// Write a file; one descriptor: its content.
    Put { node: String, path: String, mode: u32 },
    /// Open a file; the reply carries its descriptor.
    Take { node: String, path: String },
    /// Connect from inside a node; the reply carries the connected TCP socket.
    Dial { node: String, address: SocketAddr },
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Spawn {
    pub node: String,
    pub argv: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// The standard streams are a terminal that becomes the program's controlling terminal.
    pub terminal: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    Done {
        id: u64,
    },
    Spawned {
        id: u64,
        process: u32,
    },
    Failed {
        id: u64,
        error: String,
    },
    /// A program that this channel spawned has ended.
    Exited {
        process: u32,
        exit: Exit,
    },
}
