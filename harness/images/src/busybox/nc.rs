//! `nc`: connects or listens, and passes standard input and output on.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::{fail, options_of};
use crate::errors::{in_c_words, is_timeout};
use crate::options::{Given, Known, flag, value};
use crate::{names, say, streams, time};

const OPTIONS: &[Known] = &[
    flag('l', ""),
    flag('k', ""),
    flag('z', ""),
    flag('v', ""),
    flag('n', ""),
    flag('u', ""),
    flag('4', ""),
    flag('N', ""),
    value('p', ""),
    value('w', ""),
    value('i', ""),
    value('q', ""),
    value('s', ""),
    value('e', ""),
];

/// How long input that is there already may take to be sent after the peer has ended.
const LAST_INPUT: Duration = Duration::from_millis(100);

pub fn run(arguments: &[String]) -> u8 {
    let outcome = options_of("nc", arguments, OPTIONS).and_then(|given| {
        let wait = match given.value("w").map(time::seconds) {
            Some(None) => return Err(fail("nc", "invalid number of seconds")),
            Some(Some(wait)) => wait,
            None => Duration::ZERO,
        };
        let result = if given.has("l") { listen(&given, wait) } else { connect(&given, wait) };
        result.map_err(|what| if what.is_empty() { 1 } else { fail("nc", what) })
    });
    outcome.map_or_else(|code| code, |()| 0)
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("bad port '{text}'"))
}

/// Failures of one connection; without `-v` a refusal says nothing.
fn connect(given: &Given, wait: Duration) -> Result<(), String> {
    let [host, port_text] = given.operands.as_slice() else {
        return Err("usage: nc [-zvu] [-w SEC] [-e PROG] HOST PORT, nc -l [-k] -p PORT".into());
    };
    let port = port(port_text)?;
    let addresses = names::addresses(host).map_err(|_| format!("bad address '{host}'"))?;
    let address = addresses.first().map(|ip| SocketAddr::new(*ip, port));
    let address = address.ok_or_else(|| format!("bad address '{host}'"))?;
    if given.has("u") {
        return datagrams(given, host, address, wait);
    }
    let stream = streams::connect(address, wait).map_err(|error| {
        let words = if is_timeout(&error) { "Connection timed out".into() } else { in_c_words(&error) };
        let is_told = given.has("v") || error.kind() != io::ErrorKind::ConnectionRefused;
        if is_told { format!("{host} ({address}): {words}") } else { String::new() }
    })?;
    if given.has("v") {
        say::error(format_args!("{host} ({address}) open"));
    }
    if given.has("z") {
        return Ok(());
    }
    talk(stream, given, wait)
}

fn listen(given: &Given, wait: Duration) -> Result<(), String> {
    // `-l -p PORT`, `-l PORT` and `-l ADDRESS PORT` are all in use.
    let text = given.value("p").or(given.operands.last().map(String::as_str));
    let port = port(text.ok_or("a port is needed")?)?;
    if given.has("u") {
        return listen_for_datagrams(port, wait);
    }
    let listener = streams::listen(port).map_err(|error| format!("bind: {}", in_c_words(&error)))?;
    if given.has("v") {
        say::error(format_args!("listening on [::]:{port} ..."));
    }
    loop {
        let (stream, peer) = listener.accept().map_err(|error| format!("accept: {}", in_c_words(&error)))?;
        if given.has("v") {
            say::error(format_args!("connect to [::]:{port} from {}", streams::plain(peer)));
        }
        let talked = talk(stream, given, wait);
        if !given.has("k") {
            return talked;
        }
    }
}

/// Passes both directions on until the peer has said all.
fn talk(stream: TcpStream, given: &Given, wait: Duration) -> Result<(), String> {
    let told = |error: io::Error| in_c_words(&error);
    if let Some(program) = given.value("e") {
        let end = || stream.try_clone().map(|end| Stdio::from(OwnedFd::from(end)));
        let (stdin, stdout) = (end().map_err(told)?, end().map_err(told)?);
        Command::new(program).stdin(stdin).stdout(stdout).status().map_err(told)?;
        return Ok(());
    }
    stream.set_read_timeout((!wait.is_zero()).then_some(wait)).map_err(told)?;
    let mut sending = stream.try_clone().map_err(told)?;
    let (sent, all_sent) = mpsc::channel();
    thread::spawn(move || {
        let _ = pass_on(&mut io::stdin(), &mut sending);
        let _ = sending.shutdown(Shutdown::Write);
        let _ = sent.send(());
    });
    let heard = pass_on(&mut &stream, &mut io::stdout());
    // A peer that has nothing to say still wants to hear what is there to be said; a keyboard is not waited for.
    let _ = all_sent.recv_timeout(LAST_INPUT);
    match heard {
        // Silence for longer than `-w` is the end of the conversation, and no failure.
        Err(error) if !is_timeout(&error) => Err(told(error)),
        _ => Ok(()),
    }
}

/// Copies what comes as soon as it comes.
fn pass_on(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match streams::undisturbed(|| from.read(&mut buffer))? {
            0 => return Ok(()),
            count => to.write_all(&buffer[..count]).and_then(|()| to.flush())?,
        }
    }
}

/// Sends what standard input gives and shows what comes back. `-z` only says that there is such a port to send to.
fn datagrams(given: &Given, host: &str, address: SocketAddr, wait: Duration) -> Result<(), String> {
    let told = |error: io::Error| format!("{host} ({address}): {}", in_c_words(&error));
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(told)?;
    socket.connect(address).map_err(told)?;
    if given.has("v") {
        say::error(format_args!("{host} ({address}) open"));
    }
    if given.has("z") {
        return Ok(());
    }
    let sending = socket.try_clone().map_err(told)?;
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok(count @ 1..) = io::stdin().read(&mut buffer) {
            let _ = sending.send(&buffer[..count]);
        }
    });
    socket.set_read_timeout((!wait.is_zero()).then_some(wait)).map_err(told)?;
    show_datagrams(&socket).map_err(told)
}

fn listen_for_datagrams(port: u16, wait: Duration) -> Result<(), String> {
    let told = |error: io::Error| in_c_words(&error);
    let socket = streams::datagrams(port).map_err(told)?;
    // The first peer is the only one, as with a connection.
    let mut buffer = [0; 2048];
    let (count, peer) = streams::undisturbed(|| socket.recv_from(&mut buffer)).map_err(told)?;
    socket.connect(peer).map_err(told)?;
    io::stdout().write_all(&buffer[..count]).and_then(|()| io::stdout().flush()).map_err(told)?;
    socket.set_read_timeout((!wait.is_zero()).then_some(wait)).map_err(told)?;
    show_datagrams(&socket).map_err(told)
}

fn show_datagrams(socket: &UdpSocket) -> io::Result<()> {
    let mut buffer = [0; 2048];
    loop {
        match streams::undisturbed(|| socket.recv(&mut buffer)) {
            Ok(count) => io::stdout().write_all(&buffer[..count]).and_then(|()| io::stdout().flush())?,
            Err(error) if is_timeout(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;

    fn connected(line: &str) -> Result<(), String> {
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        connect(&crate::options::read(&words, OPTIONS).unwrap(), Duration::from_secs(1))
    }

    #[test]
    fn a_port_is_tried_and_told_of() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(connected(&format!("-zv 127.0.0.1 {port}")), Ok(()));
        drop(listener);
        let refused = format!("127.0.0.1 (127.0.0.1:{port}): Connection refused");
        assert_eq!(connected(&format!("-zv 127.0.0.1 {port}")), Err(refused));
        assert_eq!(connected(&format!("-z 127.0.0.1 {port}")), Err(String::new()));
        assert_eq!(connected("-z 127.0.0.1 http"), Err("bad port 'http'".into()));
    }
}
