//! `agnhost serve-hostname`: says its host name over HTTP, or raw over TCP and UDP.

use std::io::Write;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use super::{host_name, number, options_of};
use crate::http::{Reply, server};
use crate::options::{Given, Known, long_value, truth};
use crate::{say, streams};

const OPTIONS: &[Known] = &[truth("tcp"), truth("udp"), truth("http"), truth("close"), long_value("port")];
/// It leaves its pod time to be taken out of services before it ends.
const AWAITING_DELETION: Duration = Duration::from_secs(60);

pub fn run(arguments: &[String]) -> u8 {
    match options_of(arguments, OPTIONS, 0).and_then(|given| serve(&given)) {
        Ok(()) => 0,
        Err(code) => code,
    }
}

fn serve(given: &Given) -> Result<(), u8> {
    let (tcp, udp, http) = (given.holds("tcp", false), given.holds("udp", false), given.holds("http", true));
    let port: u16 = number(given, "port", 9376)?;
    if http && (tcp || udp) {
        say::error("Can't server TCP/UDP mode and HTTP mode at the same time");
        return Err(1);
    }
    // Before other threads are made, so that none of them is ended by it.
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.thread_block().map_err(|_| 1)?;
    let failed = |error: std::io::Error| {
        say::error(format_args!("listen :{port}: {}", crate::errors::in_c_words(&error).to_lowercase()));
        1
    };
    let name = host_name();
    if tcp {
        let (listener, name) = (streams::listen(port).map_err(failed)?, name.clone());
        thread::spawn(move || {
            streams::accept_all(&listener, move |mut stream| {
                // A peer that goes away concerns nobody else.
                let _ = stream.write_all(name.as_bytes());
            })
        });
    }
    if udp {
        let (socket, name) = (streams::datagrams(port).map_err(failed)?, name.clone());
        thread::spawn(move || {
            while let Ok((_, from)) = streams::undisturbed(|| socket.recv_from(&mut [0; 16])) {
                let _ = socket.send_to(name.as_bytes(), from);
            }
        });
    }
    if http {
        let (listener, close) = (streams::listen(port).map_err(failed)?, given.holds("close", false));
        thread::spawn(move || {
            server::serve(&listener, move |_| {
                let reply = Reply::text(name.clone());
                if close { reply.with("Connection", "close") } else { reply }
            })
        });
    }
    say::error(format_args!("Serving on port {port}."));
    ends.wait().map_err(|_| 1)?;
    say::error("Shutting down after receiving signal: terminated.\nAwaiting pod deletion.");
    thread::sleep(AWAITING_DELETION);
    Ok(())
}
