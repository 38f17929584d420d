//! One request and its response.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::message::{Headers, head};
use super::url::Url;

/// What to ask for.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// `GET` unless given.
    pub method: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// A response whose body has still to be read.
pub struct Response {
    /// The first line.
    pub line: String,
    pub status: u16,
    pub headers: Headers,
    pub body: Body,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The rest of a response.
pub enum Body {
    Counted(io::Take<BufReader<TcpStream>>),
    Chunked { from: BufReader<TcpStream>, left: u64, ended: bool },
    UntilClosed(BufReader<TcpStream>),
}

/// Sends a request for `url` to its server and reads the head of the response.
pub fn send(stream: TcpStream, url: &Url, ask: &Ask) -> io::Result<Response> {
    send_for(stream, &url.path, url, ask)
}

/// Sends a request for `url` to a proxy, which is asked with the whole of it.
pub fn send_to_proxy(stream: TcpStream, url: &Url, ask: &Ask) -> io::Result<Response> {
    send_for(stream, &format!("{}://{}{}", url.scheme, url.authority, url.path), url, ask)
}

/// Has a proxy open a tunnel to `host`; the inner error is the status with which it refuses.
pub fn tunnel(stream: TcpStream, host: &str, port: u16) -> io::Result<Result<TcpStream, u16>> {
    let to = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    (&stream).write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes())?;
    // Byte by byte: what follows the head belongs to whoever speaks next.
    let mut unbuffered = BufReader::with_capacity(1, &stream);
    let Some((line, _)) = head(&mut unbuffered)? else { return Err(io::ErrorKind::UnexpectedEof.into()) };
    match status_of(&line) {
        Some(200..=299) => Ok(Ok(stream)),
        Some(refusal) => Ok(Err(refusal)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn status_of(line: &str) -> Option<u16> {
    line.split(' ').nth(1).and_then(|status| status.parse().ok()).filter(|_| line.starts_with("HTTP/"))
}

fn send_for(stream: TcpStream, target: &str, url: &Url, ask: &Ask) -> io::Result<Response> {
    let method = ask.method.as_deref().unwrap_or("GET");
    let mut text = format!("{method} {target} HTTP/1.1\r\n");
    let has = |name: &str| ask.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    if !has("host") {
        text += &format!("Host: {}\r\n", url.authority);
    }
    for (name, value) in &ask.headers {
        text += &format!("{name}: {value}\r\n");
    }
    if !ask.body.is_empty() && !has("content-length") {
        text += &format!("Content-Length: {}\r\n", ask.body.len());
    }
    text += "Connection: close\r\n\r\n";
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(&ask.body);
    (&stream).write_all(&bytes)?;
    let mut reader = BufReader::new(stream);
    let Some((line, headers)) = head(&mut reader)? else { return Err(io::ErrorKind::UnexpectedEof.into()) };
    let status = status_of(&line).ok_or(io::ErrorKind::InvalidData)?;
    let header = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let length = header("content-length").and_then(|length| length.parse().ok());
    let body = if method == "HEAD" || status == 204 || status == 304 {
        Body::Counted(reader.take(0))
    } else if header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        Body::Chunked { from: reader, left: 0, ended: false }
    } else if let Some(length) = length {
        Body::Counted(reader.take(length))
    } else {
        Body::UntilClosed(reader)
    };
    Ok(Response { line, status, headers, body })
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Counted(reader) => match reader.read(buffer)? {
                0 if reader.limit() > 0 && !buffer.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
                count => Ok(count),
            },
            Self::UntilClosed(reader) => reader.read(buffer),
            Self::Chunked { ended: true, .. } => Ok(0),
            Self::Chunked { from, left, ended } => {
                if *left == 0 {
                    *left = next_chunk(from)?;
                    if *left == 0 {
                        *ended = true;
                        return Ok(0);
                    }
                }
                let count = from.take(*left).read(buffer)?;
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *left -= count as u64;
                if *left == 0 {
                    // The line end after the data.
                    from.read_exact(&mut [0; 2])?;
                }
                Ok(count)
            }
        }
    }
}

/// The length of the next chunk, in hexadecimal digits on a line of its own.
fn next_chunk(from: &mut impl BufRead) -> io::Result<u64> {
    let mut line = String::new();
    from.take(1024).read_line(&mut line)?;
    let digits = line.split(';').next().unwrap_or_default().trim();
    u64::from_str_radix(digits, 16).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::url;
    use crate::http::{Reply, server};
    use std::net::TcpListener;
    use std::thread;

    /// What is read of the answer `raw`.
    fn fetched(raw: &'static [u8]) -> io::Result<(u16, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            stream.write_all(raw).unwrap();
        });
        let url = url::parse(&format!("http://{at}/")).unwrap();
        let response = send(TcpStream::connect(at).unwrap(), &url, &Ask::default());
        served.join().unwrap();
        let mut response = response?;
        let mut text = String::new();
        response.body.read_to_string(&mut text)?;
        Ok((response.status, text))
    }

    #[test]
    fn a_body_ends_by_its_length_its_chunks_or_the_connection() {
        assert_eq!(fetched(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi there").unwrap(), (200, "hi".into()));
        let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n6\r\n there\r\n0\r\n\r\n";
        assert_eq!(fetched(chunks).unwrap(), (200, "hi there".into()));
        assert_eq!(fetched(b"HTTP/1.0 404 Not Found\r\n\r\ngone").unwrap(), (404, "gone".into()));
    }

    #[test]
    fn an_answer_that_is_cut_off_or_is_none_is_an_error() {
        assert!(fetched(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi").is_err());
        assert!(fetched(b"220 mail\r\n\r\n").is_err());
        assert!(fetched(b"").is_err());
    }

    #[test]
    fn our_server_answers_our_client() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        thread::spawn(move || server::serve(&listener, |request| Reply::text(request.path.clone())));
        let url = url::parse(&format!("http://{at}/echo")).unwrap();
        let mut response = send(TcpStream::connect(at).unwrap(), &url, &Ask::default()).unwrap();
        let mut text = String::new();
        response.body.read_to_string(&mut text).unwrap();
        assert_eq!((response.status, text.as_str()), (200, "/echo"));
    }
}
