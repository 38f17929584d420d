//! A forward proxy: asks for others what they ask it for by a whole URL, opens tunnels, and keeps a log of who asked for
//! what. No caching, no rules, no TLS of its own.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::http::{Headers, head, url};
use crate::options::{self, Known, long_value};
use crate::streams::{IDLE, accept_all, plain};
use crate::{names, say, streams};

const OPTIONS: &[Known] = &[long_value("port"), long_value("log")];
/// Longest wait for the other side to take a connection.
const CONNECTING: Duration = Duration::from_secs(20);

/// `forward-proxy --port PORT --log FILE`: until accepting fails.
pub fn run(arguments: &[String]) -> u8 {
    let told = |error: String| {
        say::error(format_args!("forward-proxy: {error}"));
        2
    };
    let given = match options::read(arguments, OPTIONS) {
        Ok(given) => given,
        Err(error) => return told(error),
    };
    let port = match given.number("port", 3128) {
        Ok(port) => port,
        Err(error) => return told(error),
    };
    let log = match given.value("log") {
        Some(file) => File::options().create(true).append(true).open(file),
        None => return told("no log is named".into()),
    };
    let begun = log.and_then(|log| Ok((log, TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?)));
    match begun {
        Ok((log, listener)) => told(serve(&listener, log).to_string()),
        Err(error) => told(error.to_string()),
    }
}

/// Answers until accepting fails; a line for each request goes to `log`.
pub fn serve(listener: &TcpListener, log: impl Write + Send + 'static) -> io::Error {
    let log = Arc::new(Mutex::new(log));
    accept_all(listener, move |client| {
        // Who goes away or speaks nonsense concerns nobody else.
        let _ = answer(client, &log);
    })
}

fn answer(client: TcpStream, log: &Mutex<impl Write>) -> io::Result<()> {
    client.set_read_timeout(Some(IDLE))?;
    client.set_nodelay(true)?;
    let peer = plain(client.peer_addr()?);
    let mut reader = BufReader::new(client.try_clone()?);
    let Some((line, headers)) = head(&mut reader)? else { return Ok(()) };
    // The log has the request before its answer is on its way.
    note(log, peer, &line);
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(_version)) = (words.next(), words.next(), words.next()) else {
        return refuse(&client, "400 Bad Request", "no request of HTTP");
    };
    if method == "CONNECT" {
        return tunnel(client, reader, target);
    }
    match url::parse(target).filter(|url| target.contains("://") && url.scheme == "http") {
        Some(url) => pass_on(client, reader, method, &url, &headers),
        None => refuse(&client, "400 Bad Request", "a proxy is asked with a whole URL of http"),
    }
}

fn note(log: &Mutex<impl Write>, peer: SocketAddr, line: &str) {
    let now = jiff::Timestamp::now();
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    // A full disk is no reason to answer nobody.
    let _ = log.write_all(format!("{now:.3} {}: {line}\n", peer.ip()).as_bytes()).and_then(|()| log.flush());
}

fn refuse(mut client: &TcpStream, status: &str, why: &str) -> io::Result<()> {
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{why}\n",
        why.len() + 1
    );
    client.write_all(text.as_bytes())
}

/// A connection to the other side, or the refusal that the client has been told.
fn reach(client: &TcpStream, host: &str, port: u16) -> io::Result<TcpStream> {
    let reached = names::socket_address(host, port).map_err(|_| io::Error::other(format!("no address of `{host}`")));
    let reached = reached.and_then(|address| streams::connect(address, CONNECTING));
    if let Err(error) = &reached {
        refuse(client, "503 Service Unavailable", &format!("{host}:{port}: {error}"))?;
    }
    reached
}

fn tunnel(client: TcpStream, from_client: BufReader<TcpStream>, target: &str) -> io::Result<()> {
    let Some((host, port)) = names::split(target) else {
        return refuse(&client, "400 Bad Request", "a tunnel leads to a host and a port");
    };
    let server = reach(&client, host, port)?;
    (&client).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    join(client, from_client, server)
}

/// Passes a request on, and then whatever comes from either side.
fn pass_on(
    client: TcpStream,
    from_client: BufReader<TcpStream>,
    method: &str,
    url: &url::Url,
    headers: &Headers,
) -> io::Result<()> {
    let server = reach(&client, &url.host, url.port)?;
    let mut text = format!("{method} {} HTTP/1.1\r\n", url.path);
    let kept = |name: &str| !matches!(name, "proxy-connection" | "connection" | "keep-alive" | "proxy-authorization");
    for (name, value) in headers.iter().filter(|(name, _)| kept(name)) {
        text += &format!("{name}: {value}\r\n");
    }
    // One request for each connection: the end of the answer is the end of the connection.
    text += "connection: close\r\n\r\n";
    (&server).write_all(text.as_bytes())?;
    join(client, from_client, server)
}

/// Copies both ways until both sides have ended.
fn join(client: TcpStream, mut from_client: BufReader<TcpStream>, server: TcpStream) -> io::Result<()> {
    server.set_read_timeout(Some(IDLE))?;
    let (mut to_server, to_close) = (server.try_clone()?, server.try_clone()?);
    let upwards = thread::Builder::new().spawn(move || {
        let copied = copy(&mut from_client, &mut to_server);
        // The other side may have closed it before.
        let _ = to_server.shutdown(if copied.is_ok() { Shutdown::Write } else { Shutdown::Both });
    })?;
    let downwards = copy(&mut &server, &mut &client);
    // An answer that was not whole must not look whole.
    let _ = (client.shutdown(Shutdown::Both), to_close.shutdown(Shutdown::Both));
    // A panic there has closed both as well.
    let _ = upwards.join();
    downwards
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    io::copy(from, to).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::client::{self, Ask};
    use crate::http::{Reply, server};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn proxy() -> (SocketAddr, Log) {
        let (listener, log) = (TcpListener::bind("127.0.0.1:0").unwrap(), Log::default());
        let (at, kept) = (listener.local_addr().unwrap(), log.clone());
        thread::spawn(move || serve(&listener, kept));
        (at, log)
    }

    fn origin() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        thread::spawn(move || {
            server::serve(&listener, |request| {
                Reply::text(format!(
                    "{} {} {} [{}]",
                    request.method,
                    request.path,
                    request.header("host"),
                    request.value("a")
                ))
            })
        });
        at
    }

    fn read(mut response: client::Response) -> (u16, String) {
        let mut text = String::new();
        response.body.read_to_string(&mut text).unwrap();
        (response.status, text)
    }

    #[test]
    fn what_is_asked_for_by_its_whole_url_is_asked_for_and_noted() {
        let ((at, log), origin) = (proxy(), origin());
        let url = url::parse(&format!("http://{origin}/x?a=b")).unwrap();
        let asked = client::send_to_proxy(TcpStream::connect(at).unwrap(), &url, &Ask::default()).unwrap();
        assert_eq!(read(asked), (200, format!("GET /x {origin} [b]")));
        let post = Ask {
            method: Some("POST".into()),
            headers: vec![("Content-Type".into(), "application/x-www-form-urlencoded".into())],
            body: b"a=form".to_vec(),
        };
        let url = url::parse(&format!("http://{origin}/y")).unwrap();
        let asked = client::send_to_proxy(TcpStream::connect(at).unwrap(), &url, &post).unwrap();
        assert_eq!(read(asked), (200, format!("POST /y {origin} [form]")));
        let log = log.text();
        let lines: Vec<&str> = log.lines().collect();
        assert!(lines[0].ends_with(&format!(" 127.0.0.1: GET http://{origin}/x?a=b HTTP/1.1")), "{log}");
        assert!(lines[1].ends_with(&format!(" 127.0.0.1: POST http://{origin}/y HTTP/1.1")), "{log}");
    }

    #[test]
    fn a_tunnel_carries_whatever_is_sent() {
        let ((at, log), origin) = (proxy(), origin());
        let stream = client::tunnel(TcpStream::connect(at).unwrap(), "127.0.0.1", origin.port()).unwrap().unwrap();
        let url = url::parse(&format!("http://{origin}/z")).unwrap();
        let asked = client::send(stream, &url, &Ask::default()).unwrap();
        assert_eq!(read(asked), (200, format!("GET /z {origin} []")));
        assert!(log.text().contains(&format!("CONNECT 127.0.0.1:{} HTTP/1.1", origin.port())), "{}", log.text());
    }

    #[test]
    fn what_cannot_be_reached_or_understood_is_refused() {
        let (at, _) = proxy();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = url::parse(&format!("http://{closed}/")).unwrap();
        let ask = |url| client::send_to_proxy(TcpStream::connect(at).unwrap(), url, &Ask::default()).unwrap().status;
        assert_eq!(ask(&url), 503);
        assert_eq!(client::send(TcpStream::connect(at).unwrap(), &url, &Ask::default()).unwrap().status, 400);
        let tunnel = client::tunnel(TcpStream::connect(at).unwrap(), "127.0.0.1", closed.port()).unwrap();
        assert_eq!(tunnel.unwrap_err(), 503);
    }
}
