//! The words that the UDP and SCTP servers of `netexec` answer to: `hostname`, `echo TEXT`, `clientip`.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, UdpSocket};

use socket2::Socket;

use super::host_name;
use crate::say;
use crate::streams::{IDLE, plain, undisturbed};

/// The answer to `command`; `None` where there is none.
pub fn answer(command: &str, peer: SocketAddr) -> Option<String> {
    let command = command.trim();
    let lower = command.to_lowercase();
    match lower.split_once(' ') {
        Some(("echo", _)) => Some(command[5..].to_string()),
        None if lower == "hostname" => Some(host_name()),
        None if lower == "clientip" => Some(peer.to_string()),
        _ => None,
    }
}

/// Answers datagrams until receiving fails.
pub fn serve_udp(socket: &UdpSocket) -> io::Error {
    let mut buffer = [0; 2048];
    loop {
        let (count, from) = match undisturbed(|| socket.recv_from(&mut buffer)) {
            Ok(received) => received,
            // An earlier answer found nobody.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return error,
        };
        let command = String::from_utf8_lossy(&buffer[..count]);
        match answer(&command, plain(from)) {
            // A peer that cannot be answered concerns nobody else.
            Some(text) => drop(socket.send_to(text.as_bytes(), from)),
            None if command.trim().is_empty() => {}
            None => say::error(format_args!("Unknown UDP command received from {}: {command:?}", plain(from))),
        }
    }
}

/// Answers the first words of SCTP associations, one after the other, until accepting fails.
pub fn serve_sctp(listener: &Socket) -> io::Error {
    loop {
        let (mut stream, from) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) => return error,
        };
        let Some(peer) = from.as_socket() else { continue };
        let mut talk = || {
            stream.set_read_timeout(Some(IDLE))?;
            let mut buffer = [0; 2048];
            let count = undisturbed(|| stream.read(&mut buffer))?;
            let text = answer(&String::from_utf8_lossy(&buffer[..count]), peer).unwrap_or_default();
            stream.write_all(text.as_bytes())
        };
        // A peer that goes away concerns nobody else.
        let _: io::Result<()> = talk();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_answered() {
        let peer = SocketAddr::from(([10, 1, 0, 5], 4000));
        assert_eq!(answer("echo Hello there\n", peer).as_deref(), Some("Hello there"));
        assert_eq!(answer("clientip", peer).as_deref(), Some("10.1.0.5:4000"));
        assert_eq!(answer("HostName\n", peer), Some(host_name()));
        assert_eq!((answer("quit", peer), answer("", peer)), (None, None));
    }
}
