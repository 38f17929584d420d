//! `agnhost netexec`: a server over HTTP, UDP and SCTP that tells who it is, who asks, and what others answer it.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use serde_json::json;

use super::{commands, dial, host_name, number, options_of};
use crate::http::{Reply, Request, server};
use crate::options::{Given, Known, long_value};
use crate::{say, streams, time};

const OPTIONS: &[Known] = &[
    long_value("http-port"),
    long_value("udp-port"),
    long_value("sctp-port"),
    long_value("delay-shutdown"),
    long_value("http-override"),
    long_value("udp-listen-addresses"),
    long_value("tls-cert-file"),
    long_value("tls-private-key-file"),
];

/// The UDP server listens, or there is none.
static READY: AtomicBool = AtomicBool::new(false);

pub fn run(arguments: &[String]) -> u8 {
    match options_of(arguments, OPTIONS, 0).and_then(|given| serve(&given)) {
        Ok(code) | Err(code) => code,
    }
}

fn serve(given: &Given) -> Result<u8, u8> {
    if given.has("tls-cert-file") {
        say::error("Error: this agnhost serves plain HTTP only");
        return Err(1);
    }
    let http: u16 = number(given, "http-port", 8080)?;
    let udp: i32 = number(given, "udp-port", 8081)?;
    let sctp: i32 = number(given, "sctp-port", -1)?;
    let delay: u64 = number(given, "delay-shutdown", 0)?;
    let (exit, exits) = mpsc::channel();
    if delay > 0 {
        delay_shutdown(Duration::from_secs(delay), exit.clone())?;
    }
    match u16::try_from(udp) {
        Ok(port) => {
            let socket = streams::datagrams(port).map_err(|error| cannot_listen("udp", port, &error))?;
            say::error(format_args!("Started UDP server on port {port}"));
            started(exit.clone(), move || commands::serve_udp(&socket))?;
            READY.store(true, Ordering::Relaxed);
        }
        // `/healthz` tells of the UDP server, so without one it is never well, as in the original.
        Err(_) => READY.store(false, Ordering::Relaxed),
    }
    if let Ok(port) = u16::try_from(sctp) {
        let socket = streams::listen_sctp(port).map_err(|error| cannot_listen("sctp", port, &error))?;
        say::error(format_args!("Started SCTP server on port {port}"));
        started(exit.clone(), move || commands::serve_sctp(&socket))?;
    }
    let listener = streams::listen(http).map_err(|error| cannot_listen("tcp", http, &error))?;
    say::error(format_args!("Started HTTP server on port {http}"));
    let instead = given.value("http-override").map(ToString::to_string);
    let asked_to_end = exit.clone();
    started(exit, move || {
        server::serve(&listener, move |request| match instead.as_deref().map(|path| overridden(request, path)) {
            Some(request) => answer(&request, &asked_to_end),
            None => answer(request, &asked_to_end),
        })
    })?;
    // The senders live as long as their threads, and those until one of them ends the program.
    Ok(exits.recv().unwrap_or(1))
}

fn cannot_listen(protocol: &str, port: u16, error: &std::io::Error) -> u8 {
    say::error(format_args!("listen {protocol} :{port}: {}", crate::errors::in_c_words(error).to_lowercase()));
    1
}

/// Serves on a thread; the end of it is the end of the program.
fn started(exit: Sender<u8>, serve: impl FnOnce() -> std::io::Error + Send + 'static) -> Result<(), u8> {
    let server = thread::Builder::new().spawn(move || {
        say::error(serve());
        // Nobody waits any more when the program ends already.
        let _ = exit.send(1);
    });
    server.map(drop).map_err(|_| 1)
}

/// Holds the end back for `delay` after it was asked for. To be called before other threads are made.
fn delay_shutdown(delay: Duration, exit: Sender<u8>) -> Result<(), u8> {
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.thread_block().map_err(|_| 1)?;
    let waiter = thread::Builder::new().spawn(move || {
        if ends.wait().is_ok() {
            say::error(format_args!("Sleeping {} seconds before terminating...", delay.as_secs()));
            thread::sleep(delay);
            let _ = exit.send(0);
        }
    });
    waiter.map(drop).map_err(|_| 1)
}

/// The request that is answered instead, whatever was asked for.
fn overridden(request: &Request, target: &str) -> Request {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Request { method: "GET".into(), path: path.into(), values: crate::http::url::query(query), ..request.clone() }
}

fn answer(request: &Request, exit: &Sender<u8>) -> Reply {
    say::error(format_args!("GET {}", request.path));
    match request.path.as_str() {
        "/clientip" => Reply::text(request.peer.to_string()),
        "/dial" => dial::answer(request),
        "/echo" => echo(request),
        "/exit" => end(request, exit),
        "/healthz" => Reply::of(if READY.load(Ordering::Relaxed) { 200 } else { 412 }, "text/plain", ""),
        "/header" => Reply::text(request.header(&request.value("key").to_lowercase())),
        "/hostname" | "/hostName" => Reply::text(host_name()),
        "/redirect" => {
            let status = request.value("code").parse().unwrap_or(302);
            Reply::of(status, "text/html", "").with("Location", request.value("location"))
        }
        "/shell" => shell(request),
        "/shutdown" => {
            let _ = exit.send(0);
            Reply::text("")
        }
        _ => Reply::text(format!("NOW: {} +0000 UTC", jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S%.9f"))),
    }
}

fn echo(request: &Request) -> Reply {
    let (message, code) = (request.value("msg"), request.value("code"));
    match code.parse() {
        _ if code.is_empty() => Reply::text(message),
        Ok(status) => Reply::of(status, "text/plain; charset=utf-8", message),
        Err(_) => Reply::text(format!("argument 'code' must be an integer or empty, got {code:?}\n")),
    }
}

/// `/exit?code=3&wait=1s`: ends the program a while later. Connections are not waited for.
fn end(request: &Request, exit: &Sender<u8>) -> Reply {
    let (code, wait) = (request.value("code"), request.value("wait"));
    let wait = if wait.is_empty() { Some(Duration::ZERO) } else { time::go_duration(wait) };
    let code = if code.is_empty() { Some(0) } else { code.parse().ok() };
    let (Some(wait), Some(code)) = (wait, code) else {
        return Reply::text("'wait' is a duration and 'code' an integer [0-127]\n");
    };
    thread::sleep(wait);
    let _ = exit.send(code);
    Reply::text("")
}

/// `/shell?cmd=LINE`: both outputs together, and the error.
fn shell(request: &Request) -> Reply {
    let line = Some(request.value("shellCommand")).filter(|line| !line.is_empty()).unwrap_or(request.value("cmd"));
    let begun = Instant::now();
    let mut told = serde_json::Map::new();
    match Command::new("/bin/sh").args(["-c", line]).output() {
        Ok(done) => {
            let output = [done.stdout, done.stderr].concat();
            if !output.is_empty() {
                told.insert("output".into(), json!(String::from_utf8_lossy(&output)));
            }
            match done.status.code() {
                Some(0) => {}
                Some(code) => drop(told.insert("error".into(), json!(format!("exit status {code}")))),
                None => drop(told.insert("error".into(), json!("signal: killed"))),
            }
        }
        Err(error) => drop(told.insert("error".into(), json!(crate::errors::in_c_words(&error)))),
    }
    say::error(format_args!("Command of {} bytes took {:?}", line.len(), begun.elapsed()));
    Reply::text(serde_json::Value::Object(told).to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;
    use std::net::SocketAddr;

    fn asked(target: &str) -> (u16, String) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = Request {
            method: "GET".into(),
            path: path.into(),
            values: crate::http::url::query(query),
            headers: vec![("x-me".into(), "you".into())],
            peer: SocketAddr::from(([10, 1, 0, 5], 4000)),
            keeps: true,
        };
        let (exit, _exits) = mpsc::channel();
        let reply = answer(&request, &exit);
        (reply.status, String::from_utf8(reply.body).unwrap())
    }

    #[rstest]
    #[case("/clientip", 200, "10.1.0.5:4000")]
    #[case("/echo?msg=one+two", 200, "one two")]
    #[case("/echo?msg=gone&code=404", 404, "gone")]
    #[case("/header?key=X-Me", 200, "you")]
    #[case("/redirect?location=/echo&code=307", 307, "")]
    #[case("/shell?cmd=echo+hi", 200, r#"{"output":"hi\n"}"#)]
    #[case("/shell?shellCommand=exit+3", 200, r#"{"error":"exit status 3"}"#)]
    #[case("/dial?host=127.0.0.1&port=1", 400, "request parameter not specified\n")]
    fn endpoints_answer_as_documented(#[case] target: &str, #[case] status: u16, #[case] body: &str) {
        assert_eq!(asked(target), (status, body.into()));
    }

    #[test]
    fn the_root_tells_the_time() {
        assert!(asked("/").1.starts_with("NOW: 20"));
    }
}
