//! A connection attempt every millisecond from inside a pod, each from a fresh port, so that the moment at which a
//! verdict turns is seen to a millisecond. This runs as a program of its own on a node.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cknet::provider::{Conversation, Invocation, Node};
use cknet_kernel::ns::NetNs;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::pipe;

/// The first argument that makes a benchmark this program.
pub const PERSONALITY: &str = "ticks";

/// Between two attempts.
const TICK: Duration = Duration::from_millis(1);

/// An attempt without an answer for so long was dropped; the answer takes microseconds.
const SILENCE: Duration = Duration::from_millis(40);

/// An attempt on the clock that all processes of a machine share.
#[derive(Clone, Copy, Debug)]
pub struct Tick {
    pub left: Duration,
    pub answered: bool,
}

/// The clock of ticks.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// `ticks NAMESPACE ADDRESS`: a line for each attempt, `NANOSECONDS 0` or `1`, until nobody reads them.
pub fn main(arguments: &[String]) {
    let target: SocketAddr = arguments[1].parse().unwrap();
    NetNs::open(Path::new(&arguments[0])).unwrap().run(|| attempt_forever(target)).unwrap();
}

fn attempt_forever(target: SocketAddr) {
    let mut output = io::stdout().lock();
    let mut open: std::collections::VecDeque<(Duration, Socket)> = Default::default();
    let mut next = Instant::now();
    loop {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let left = now();
        // It is under way, or refused at once, which counts as no answer.
        let _ = socket.connect(&target.into());
        open.push_back((left, socket));
        next += TICK;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        while let Some((left, socket)) = open.front() {
            let answered = socket.peer_addr().is_ok();
            if !answered && now() - *left < SILENCE {
                break;
            }
            if writeln!(output, "{} {}", left.as_nanos(), u8::from(answered)).is_err() {
                return;
            }
            // A reset leaves nothing behind.
            let _ = socket.set_linger(Some(Duration::ZERO));
            open.pop_front();
        }
        if output.flush().is_err() {
            return;
        }
    }
}

/// Ticks as they come in.
pub struct Ticks {
    lines: Lines<BufReader<pipe::Receiver>>,
    _leash: Box<dyn Send + Sync>,
    _stdin: pipe::Sender,
}

impl Ticks {
    /// Starts attempts on `target` from the pod `uid` on `node`.
    pub async fn start(node: &dyn Node, uid: &str, target: SocketAddr) -> Self {
        let own = std::env::current_exe().unwrap().display().to_string();
        let namespace = format!("/run/netns/cni-{uid}");
        let invocation = Invocation::new([own, PERSONALITY.into(), namespace, target.to_string()]);
        let Conversation { stdin, stdout, leash } = node.converse(invocation).await.unwrap();
        Self { lines: BufReader::new(stdout).lines(), _leash: leash, _stdin: stdin }
    }

    /// The next attempt that is decided.
    pub async fn next(&mut self) -> Tick {
        let line = self.lines.next_line().await.unwrap().expect("the attempts ended by themselves");
        let (nanos, answered) = line.split_once(' ').unwrap();
        Tick { left: Duration::from_nanos(nanos.parse().unwrap()), answered: answered == "1" }
    }
}
