//! `agnhost connect HOST:PORT`: tries one connection. Silent success is 0; otherwise 1 and a word on standard error
//! that suites look for: `TIMEOUT`, `REFUSED`, `DNS`, `OTHER`, `UNKNOWN`.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::options_of;
use crate::errors::{in_go_words, is_timeout};
use crate::options::{Known, long_value};
use crate::{names, say, streams, time};

const OPTIONS: &[Known] =
    &[long_value("timeout"), long_value("protocol"), long_value("udp-data"), long_value("sctp-data")];
/// Without a time-out of its own an attempt ends with the kernel's, which is about two minutes.
const KERNELS: Duration = Duration::from_secs(130);

pub fn run(arguments: &[String]) -> u8 {
    let given = match options_of(arguments, OPTIONS, 1) {
        Ok(given) => given,
        Err(code) => return code,
    };
    let text = given.value("timeout").unwrap_or("0");
    let Some(timeout) = time::go_duration(text) else {
        say::error(format_args!("Error: invalid argument \"{text}\" for \"--timeout\" flag"));
        return 1;
    };
    let place = &given.operands[0];
    let data = |name: &str| format!("{}\n", given.value(name).unwrap_or("hostname"));
    let outcome = match given.value("protocol").unwrap_or("tcp") {
        "" | "tcp" => tcp(place, timeout),
        "udp" => udp(place, timeout, &data("udp-data")),
        "sctp" => sctp(place, timeout, &data("sctp-data")),
        other => Err(format!("Unsupported protocol\n{other}")),
    };
    match outcome {
        Ok(()) => 0,
        Err(words) => {
            say::error(words);
            1
        }
    }
}

fn address(place: &str) -> Result<SocketAddr, String> {
    let no_port = || format!("UNKNOWN: address {place}: missing port in address");
    let (host, port) = names::split(place).ok_or_else(no_port)?;
    names::socket_address(host, port).map_err(|problem| format!("DNS: {}", problem.in_go_words(host)))
}

fn tcp(place: &str, timeout: Duration) -> Result<(), String> {
    let address = address(place)?;
    match streams::connect(address, timeout) {
        Ok(_) => Ok(()),
        Err(error) if is_timeout(&error) => Err("TIMEOUT".into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Err("REFUSED".into()),
        Err(error) => Err(format!("OTHER: dial tcp {address}: {}", in_go_words("connect", &error))),
    }
}

fn udp(place: &str, timeout: Duration, data: &str) -> Result<(), String> {
    let address = address(place)?;
    let other = |error: io::Error| format!("OTHER: dial udp {address}: {}", in_go_words("connect", &error));
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(other)?;
    socket.connect(address).map_err(other)?;
    let local = socket.local_addr().map_err(other)?;
    socket.set_read_timeout((!timeout.is_zero()).then_some(timeout)).map_err(other)?;
    let told = |call: &str, error: &io::Error| {
        let what = format!("{call} udp {local}->{address}: {}", in_go_words(call, error));
        match error.kind() {
            _ if is_timeout(error) => format!("TIMEOUT: {what}"),
            io::ErrorKind::ConnectionRefused => format!("REFUSED: {what}"),
            _ => format!("UNKNOWN: {what}"),
        }
    };
    socket.send(data.as_bytes()).map_err(|error| told("write", &error))?;
    match streams::undisturbed(|| socket.recv(&mut [0; 1024])).map_err(|error| told("read", &error))? {
        0 => Err("OTHER: the answer is empty, so it is not sure that the request arrived".into()),
        _ => Ok(()),
    }
}

fn sctp(place: &str, timeout: Duration, data: &str) -> Result<(), String> {
    let address = address(place)?;
    let patience = if timeout.is_zero() { KERNELS } else { timeout };
    let told = |error: io::Error| match error.kind() {
        _ if is_timeout(&error) => "TIMEOUT".to_string(),
        io::ErrorKind::Unsupported => format!("OTHER: {error}"),
        _ => format!("OTHER: {}", crate::errors::in_c_words(&error).to_lowercase()),
    };
    let mut socket = streams::connect_sctp(address, patience).map_err(told)?;
    socket.write_all(data.as_bytes()).map_err(told)?;
    streams::undisturbed(|| socket.read(&mut [0; 1024])).map_err(told)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_connection_ends_with_the_word_that_suites_look_for() {
        let second = Duration::from_secs(1);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap().to_string();
        assert_eq!(tcp(&open, second), Ok(()));
        drop(listener);
        assert_eq!(tcp(&open, second), Err("REFUSED".into()));
        assert_eq!(tcp("web", second), Err("UNKNOWN: address web: missing port in address".into()));
        let refused = udp(&open, second, "hostname\n").unwrap_err();
        assert!(refused.starts_with("REFUSED: read udp 127.0.0.1:"), "{refused}");
    }

    #[test]
    fn a_datagram_needs_an_answer() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let place = socket.local_addr().unwrap().to_string();
        let silent = udp(&place, Duration::from_millis(50), "hostname\n").unwrap_err();
        assert!(silent.starts_with("TIMEOUT: read udp 127.0.0.1:") && silent.ends_with(": i/o timeout"), "{silent}");
    }
}
