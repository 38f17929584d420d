//! `agnhost porter`: answers on the ports that variables of the environment name, with their values.

use std::io::{self, Write};
use std::thread;

use super::options_of;
use crate::http::{Reply, server};
use crate::options::{Known, truth};
use crate::{say, streams};

const OPTIONS: &[Known] = &[truth("json-response")];

pub fn run(arguments: &[String]) -> u8 {
    let given = match options_of(arguments, OPTIONS, 0) {
        Ok(given) => given,
        Err(code) => return code,
    };
    let json = given.holds("json-response", false);
    let mut servers = Vec::new();
    for (name, value) in std::env::vars() {
        let Some((kind, port)) = served(&name) else { continue };
        servers.push(thread::spawn(move || {
            let error = serve(kind, port, value, json);
            say::error(format_args!("server on port \"{port}\" failed: {error}"));
        }));
    }
    let served = servers.len();
    let failed = servers.into_iter().map(thread::JoinHandle::join).count();
    if served > 0 && failed == served {
        return 1;
    }
    // Without ports it waits all the same.
    loop {
        thread::park();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Udp,
    Sctp,
    Tls,
}

/// What the variable `name` asks for.
fn served(name: &str) -> Option<(Kind, u16)> {
    let (kind, port) = name.strip_prefix("SERVE_")?.rsplit_once('_')?;
    let kind = match kind {
        "PORT" | "TCP_PORT" => Kind::Http,
        "UDP_PORT" => Kind::Udp,
        "SCTP_PORT" => Kind::Sctp,
        "TLS_PORT" => Kind::Tls,
        _ => return None,
    };
    Some((kind, port.parse().ok()?))
}

fn serve(kind: Kind, port: u16, value: String, json: bool) -> io::Error {
    let served = || match kind {
        Kind::Http => {
            let listener = streams::listen(port)?;
            io::Result::Err(server::serve(&listener, move |request| {
                if json {
                    let told = serde_json::json!({"Method": request.method, "Body": value});
                    return Reply::of(200, "application/json", told.to_string());
                }
                Reply::text(value.clone())
            }))
        }
        Kind::Udp => {
            let socket = streams::datagrams(port)?;
            say::error(format_args!("Started UDP server on port {port}"));
            loop {
                let (_, from) = streams::undisturbed(|| socket.recv_from(&mut [0; 16]))?;
                socket.send_to(value.as_bytes(), from)?;
            }
        }
        Kind::Sctp => {
            let socket = streams::listen_sctp(port)?;
            say::error("Started SCTP server");
            loop {
                let (mut stream, _) = socket.accept()?;
                // A peer that goes away concerns nobody else.
                let _ = stream.write_all(value.as_bytes());
            }
        }
        Kind::Tls => Err(io::Error::new(io::ErrorKind::Unsupported, "this agnhost serves no TLS")),
    };
    match served() {
        Ok(never) => never,
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("SERVE_PORT_80", Some((Kind::Http, 80)))]
    #[case("SERVE_TCP_PORT_81", Some((Kind::Http, 81)))]
    #[case("SERVE_UDP_PORT_53", Some((Kind::Udp, 53)))]
    #[case("SERVE_SCTP_PORT_9", Some((Kind::Sctp, 9)))]
    #[case("SERVE_TLS_PORT_443", Some((Kind::Tls, 443)))]
    #[case("SERVE_PORT_x", None)]
    #[case("PORT_80", None)]
    fn variables_name_ports(#[case] name: &str, #[case] expected: Option<(Kind, u16)>) {
        assert_eq!(served(name), expected);
    }
}
