//! What a cknet client and a cknet server say to each other, on TCP, SCTP, UDP and HTTP.
//!
//! The client greets with `cknet1 <nonce>\n`; the server answers `cknet1 <nonce> <identity> <client address>\n`.
//! On HTTP the nonce is a header and the answer a JSON body. Only text is made and read here: no sockets.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

const GREETING: &str = "cknet1";
/// Length of a greeting: `cknet1`, a space, 16 digits, a line feed.
pub const HELLO_LEN: usize = 24;
/// The request header that carries the nonce on HTTP.
pub const NONCE_HEADER: &str = "x-cknet-nonce";

/// A number that proves that an answer belongs to its question; written as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nonce(pub u64);

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Nonce {
    fn parse(digits: &[u8]) -> Option<Self> {
        if digits.len() != 16 {
            return None;
        }
        let text = std::str::from_utf8(digits).ok()?;
        text.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u64::from_str_radix(text, 16).ok().map(Self))?
    }
}

/// An endless source of nonces, different in each process.
#[derive(Debug)]
pub struct Nonces {
    keys: RandomState,
    next: u64,
}

impl Default for Nonces {
    fn default() -> Self {
        // The standard library keys its hashers from the kernel's random numbers.
        Self { keys: RandomState::new(), next: 0 }
    }
}

impl Nonces {
    pub fn draw(&mut self) -> Nonce {
        self.next += 1;
        Nonce(self.keys.hash_one(self.next))
    }
}

/// The client's greeting.
pub fn hello(nonce: Nonce) -> [u8; HELLO_LEN] {
    let mut line = [b'\n'; HELLO_LEN];
    line[..7].copy_from_slice(b"cknet1 ");
    for (at, digit) in line[7..23].iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(nonce.0 >> (60 - 4 * at) & 0xf) as usize];
    }
    line
}

/// What a server finds at the start of what a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A whole greeting.
    Hello(Nonce),
    /// The start of an HTTP request.
    Http,
    /// Not enough bytes to tell.
    Incomplete,
    /// Something else.
    Foreign,
}

/// Reads the first bytes of a connection, or a datagram.
pub fn opening(bytes: &[u8]) -> Opening {
    const METHODS: [&[u8]; 7] = [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH "];
    if METHODS.iter().any(|method| bytes.starts_with(method)) {
        return Opening::Http;
    }
    if bytes.len() >= HELLO_LEN && bytes.starts_with(b"cknet1 ") && bytes[HELLO_LEN - 1] == b'\n' {
        return Nonce::parse(&bytes[7..HELLO_LEN - 1]).map_or(Opening::Foreign, Opening::Hello);
    }
    let begins = |whole: &[u8]| whole.starts_with(bytes) || bytes.starts_with(whole);
    if bytes.len() < HELLO_LEN && (begins(b"cknet1 ") || METHODS.iter().any(|method| begins(method))) {
        return Opening::Incomplete;
    }
    Opening::Foreign
}

/// The server's answer, appended to `out`.
pub fn write_answer(out: &mut Vec<u8>, nonce: Nonce, identity: &str, source: SocketAddr) {
    use std::io::Write;
    // Writing to a vector cannot fail.
    let _ = writeln!(out, "{GREETING} {nonce} {identity} {source}");
}

/// A server's answer as the client reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    pub nonce: Nonce,
    pub identity: &'a str,
    /// The client's address as the server saw it.
    pub source: SocketAddr,
}

/// Reads an answer's line; what follows the line feed is padding.
///
/// `Ok(None)`: the line is not complete. `Err`: this is not a cknet server's answer.
pub fn read_answer(bytes: &[u8]) -> Result<Option<Answer<'_>>, NotAnAnswer> {
    let line = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => &bytes[..end],
        // An identity and an address are far shorter.
        None if bytes.len() > 1024 => return Err(NotAnAnswer),
        None if bytes.starts_with(b"cknet1 ") || b"cknet1 ".starts_with(bytes) => return Ok(None),
        None => return Err(NotAnAnswer),
    };
    let mut words = std::str::from_utf8(line).map_err(|_| NotAnAnswer)?.split(' ');
    let mut word = || words.next().ok_or(NotAnAnswer);
    if word()? != GREETING {
        return Err(NotAnAnswer);
    }
    let nonce = Nonce::parse(word()?.as_bytes()).ok_or(NotAnAnswer)?;
    let identity = word()?;
    let source = word()?.parse().map_err(|_| NotAnAnswer)?;
    Ok(Some(Answer { nonce, identity, source }))
}

/// The bytes are not a cknet server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnAnswer;

/// The JSON body of an answer over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpAnswer {
    pub identity: String,
    /// The client's address as the server saw it.
    pub source: SocketAddr,
    /// The address the server was reached at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<SocketAddr>,
    /// The request's nonce, if it carried one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
}

/// The client's request.
pub fn http_request(host: &str, path: &str, nonce: Nonce) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\n{NONCE_HEADER}: {nonce}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
}

/// The nonce in a request's head.
pub fn http_nonce(head: &str) -> Option<Nonce> {
    let value = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(NONCE_HEADER).then_some(value.trim())
    })?;
    Nonce::parse(value.as_bytes())
}

/// What a client has read of a server's response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpReply {
    Incomplete,
    NotHttp,
    /// A server that is not ours.
    Foreign {
        status: u16,
    },
    Ours {
        status: u16,
        answer: HttpAnswer,
    },
}

/// Reads a response; `ended` says that no more bytes will come.
pub fn read_http(bytes: &[u8], ended: bool) -> HttpReply {
    let incomplete = if ended { HttpReply::NotHttp } else { HttpReply::Incomplete };
    if !(bytes.starts_with(b"HTTP/1.") || b"HTTP/1.".starts_with(bytes)) {
        return HttpReply::NotHttp;
    }
    let Some(head_end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() > MAX_HEAD { HttpReply::NotHttp } else { incomplete };
    };
    let Ok(head) = std::str::from_utf8(&bytes[..head_end]) else {
        return HttpReply::NotHttp;
    };
    let Some(status) = head.split(' ').nth(1).and_then(|code| code.parse().ok()) else {
        return HttpReply::NotHttp;
    };
    // A header of our own, because a proxy on the way replaces `Server`.
    if !head.lines().any(|line| line.eq_ignore_ascii_case("x-cknet: 1")) {
        return HttpReply::Foreign { status };
    }
    // Our server's body is one JSON object in one piece, so a body that parses is a whole one.
    match serde_json::from_slice(&bytes[head_end + 4..]) {
        Ok(answer) => HttpReply::Ours { status, answer },
        Err(error) if error.is_eof() => incomplete,
        Err(_) => HttpReply::Foreign { status },
    }
}

/// The longest head of a request or response that is read, in bytes.
pub const MAX_HEAD: usize = 16 << 10;

/// The server's response, appended to `out`; a `HEAD` request gets no body.
pub fn write_http(out: &mut Vec<u8>, answer: &HttpAnswer, head_only: bool) {
    use std::io::Write;
    let body = serde_json::to_string(answer).unwrap_or_default();
    let length = body.len() + 1;
    // Writing to a vector cannot fail.
    let _ = write!(
        out,
        "HTTP/1.1 200 OK\r\nX-Cknet: 1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    if !head_only {
        let _ = writeln!(out, "{body}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NONCE: Nonce = Nonce(0x0123_4567_89ab_cdef);

    #[test]
    fn a_greeting_is_read_as_it_was_written() {
        assert_eq!(&hello(NONCE), b"cknet1 0123456789abcdef\n");
        assert_eq!(opening(&hello(NONCE)), Opening::Hello(NONCE));
        for cut in 0..HELLO_LEN {
            assert_eq!(opening(&hello(NONCE)[..cut]), Opening::Incomplete, "cut at {cut}");
        }
    }

    #[test]
    fn other_openings_are_told_apart() {
        assert_eq!(opening(b"GET / HTTP/1.1\r\n"), Opening::Http);
        assert_eq!(opening(b"POST /x"), Opening::Http);
        assert_eq!(opening(b"\x16\x03\x01"), Opening::Foreign);
        assert_eq!(opening(b"cknet1 0123456789abcdeg\n"), Opening::Foreign);
        assert_eq!(opening(b"cknet1 +123456789abcdef\n"), Opening::Foreign);
        assert_eq!(opening(b"SSH-2.0-OpenSSH"), Opening::Foreign);
    }

    #[test]
    fn an_answer_is_read_as_it_was_written_whatever_follows_it() {
        let source = "[fd00::5]:41234".parse().unwrap();
        let mut bytes = Vec::new();
        write_answer(&mut bytes, NONCE, "production/backend-1", source);
        let expected = Answer { nonce: NONCE, identity: "production/backend-1", source };
        assert_eq!(read_answer(&bytes), Ok(Some(expected)));
        assert_eq!(read_answer(&bytes[..bytes.len() - 1]), Ok(None));
        bytes.extend([b'.'; 1400]);
        assert_eq!(read_answer(&bytes), Ok(Some(expected)));
    }

    #[test]
    fn another_servers_line_is_not_an_answer() {
        for bytes in
            [&b"220 mail ready\r\n"[..], b"cknet1 xyz\n", b"cknet1 0123456789abcdef a/b\n", b"\0\0\0", &[b'c'; 2000]]
        {
            assert_eq!(read_answer(bytes), Err(NotAnAnswer), "{bytes:?}");
        }
    }

    #[test]
    fn http_answers_of_ours_and_of_others() {
        let request = http_request("web.example", "/a", NONCE);
        assert_eq!(http_nonce(&request), Some(NONCE));
        let answer = HttpAnswer {
            identity: "a/b".into(),
            source: "10.0.0.1:5".parse().unwrap(),
            local: None,
            nonce: Some(NONCE.to_string()),
        };
        let mut bytes = Vec::new();
        write_http(&mut bytes, &answer, false);
        assert_eq!(read_http(&bytes[..30], false), HttpReply::Incomplete);
        assert_eq!(read_http(&bytes[..bytes.len() - 3], false), HttpReply::Incomplete);
        assert_eq!(read_http(&bytes[..bytes.len() - 3], true), HttpReply::NotHttp);
        assert_eq!(read_http(&bytes, false), HttpReply::Ours { status: 200, answer });
        let foreign = b"HTTP/1.1 403 Forbidden\r\nServer: nginx\r\n\r\n";
        assert_eq!(read_http(foreign, false), HttpReply::Foreign { status: 403 });
        assert_eq!(read_http(b"\x15\x03\x01", false), HttpReply::NotHttp);
    }

    #[test]
    fn nonces_do_not_repeat() {
        let mut nonces = Nonces::default();
        let drawn: std::collections::HashSet<_> = (0..10_000).map(|_| nonces.draw()).collect();
        assert_eq!(drawn.len(), 10_000);
    }
}
