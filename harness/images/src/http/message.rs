//! Requests as they are read, replies as they are written.

use std::io::{self, BufRead, Read, Write};
use std::net::SocketAddr;

/// The longest head of a message, in bytes.
const LONGEST_HEAD: u64 = 64 * 1024;
/// The longest body of a request, in bytes.
const LONGEST_BODY: u64 = 1 << 20;

/// Names (in small letters) and values.
pub type Headers = Vec<(String, String)>;

/// A request with its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// Decoded, without the query.
    pub path: String,
    /// The values of the query, then those of a form in the body.
    pub values: Vec<(String, String)>,
    pub headers: Headers,
    pub peer: SocketAddr,
    /// The connection goes on after this request.
    pub keeps: bool,
}

impl Request {
    /// Reads one; `None` when the peer closed the connection instead.
    pub fn read(from: &mut impl BufRead, peer: SocketAddr) -> io::Result<Option<Self>> {
        let Some((first, headers)) = head(from)? else { return Ok(None) };
        let mut words = first.split(' ');
        let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let header = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0_u64);
        let mut body = Vec::new();
        from.take(length.min(LONGEST_BODY)).read_to_end(&mut body)?;
        let keeps = match header("connection").map(str::to_ascii_lowercase).as_deref() {
            Some("close") => false,
            Some("keep-alive") => true,
            _ => version == "HTTP/1.1",
        };
        // A proxy is asked with the whole URL.
        let target = target.strip_prefix("http://").map_or(target, |rest| rest.find('/').map_or("/", |at| &rest[at..]));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut values = super::url::query(query);
        if header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
            values.extend(form_urlencoded::parse(&body).into_owned());
        }
        let path = super::url::decoded(path);
        Ok(Some(Self { method: method.into(), path, values, headers, peer, keeps: keeps && length <= LONGEST_BODY }))
    }

    /// A value of the query or the form; empty when it was not given.
    pub fn value(&self, name: &str) -> &str {
        self.values.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// The first line and the headers; `None` at the end of the stream.
pub(crate) fn head(from: &mut impl BufRead) -> io::Result<Option<(String, Headers)>> {
    let mut bounded = from.take(LONGEST_HEAD);
    let mut line = String::new();
    if bounded.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let first = line.trim_end().to_string();
    let mut headers = Headers::new();
    loop {
        line.clear();
        if bounded.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.trim_end();
        if text.is_empty() {
            return Ok(Some((first, headers)));
        }
        if let Some((name, value)) = text.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_string()));
        }
    }
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(body: impl Into<String>) -> Self {
        Self::of(200, "text/plain; charset=utf-8", body.into())
    }

    pub fn page(body: impl Into<String>) -> Self {
        Self::of(200, "text/html", body.into())
    }

    /// An error as the servers of Go tell it.
    pub fn error(status: u16, body: impl Into<String>) -> Self {
        Self::of(status, "text/plain; charset=utf-8", format!("{}\n", body.into()))
    }

    pub fn of(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("Content-Type", kind.into())], body: body.into() }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Writes it in answer to `request`.
    pub(super) fn write(&self, request: &Request, to: &mut impl Write) -> io::Result<()> {
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        let connection = if request.keeps { "" } else { "Connection: close\r\n" };
        text += &format!("Content-Length: {}\r\n{connection}\r\n", self.body.len());
        let mut bytes = text.into_bytes();
        if request.method != "HEAD" {
            bytes.extend_from_slice(&self.body);
        }
        to.write_all(&bytes)?;
        to.flush()
    }
}

/// The words that go with a status (RFC 9110, 15).
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        412 => "Precondition Failed",
        417 => "Expectation Failed",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> io::Result<Option<Request>> {
        Request::read(&mut text.as_bytes(), SocketAddr::from(([10, 1, 0, 5], 4000)))
    }

    #[test]
    fn a_request_is_read_with_its_query_and_form() {
        let text = "POST /a%20b?msg=one+two&code=404 HTTP/1.1\r\nHost: web\r\n\
                    Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 5\r\n\r\nx=%2F";
        let request = read(text).unwrap().unwrap();
        assert_eq!((request.path.as_str(), request.value("msg"), request.value("code")), ("/a b", "one two", "404"));
        assert_eq!((request.value("x"), request.header("host"), request.keeps), ("/", "web", true));
        assert_eq!(read("").unwrap(), None);
        assert!(read("nonsense\r\n\r\n").is_err() && read("GET / HTTP/1.1\r\nHost").is_err());
    }

    #[test]
    fn a_reply_says_how_long_it_is_and_how_the_connection_goes_on() {
        let request = read("GET / HTTP/1.0\r\n\r\n").unwrap().unwrap();
        let mut bytes = Vec::new();
        Reply::text("hi").write(&request, &mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n\
             Connection: close\r\n\r\nhi"
        );
    }
}
