//! As much of redis as tutorials need of a database that is reachable or not: `PING`, `SET`, `GET` over its port.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::options::{self, Known, value};
use crate::streams::{IDLE, accept_all, connect, listen};
use crate::{names, say};

const SERVER: &[Known] = &[value('p', "port")];
const CLIENT: &[Known] = &[value('p', "port"), value('h', "host")];
/// More than any tutorial keeps.
const MOST_KEYS: usize = 10_000;
const LONGEST_LINE: u64 = 64 * 1024;

type Keys = Arc<Mutex<BTreeMap<String, String>>>;

/// Serves on port 6379.
pub fn server(arguments: &[String]) -> u8 {
    let port = options::read(arguments, SERVER).ok().and_then(|given| given.number("port", 6379).ok());
    let listener = match listen(port.unwrap_or(6379)) {
        Ok(listener) => listener,
        Err(error) => {
            say::error(format_args!("# Could not create server TCP listening socket: {error}"));
            return 1;
        }
    };
    say::line("* Ready to accept connections tcp");
    let keys = Keys::default();
    say::error(accept_all(&listener, move |stream| {
        // A peer that goes away concerns nobody else.
        let _ = converse(&stream, &keys);
    }));
    1
}

fn converse(stream: &TcpStream, keys: &Keys) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    let mut reader = BufReader::new(stream);
    while let Some(words) = command(&mut reader)? {
        let reply = answer(&words, keys);
        (&*stream).write_all(reply.as_bytes())?;
        if words.first().is_some_and(|word| word.eq_ignore_ascii_case("quit")) {
            break;
        }
    }
    Ok(())
}

/// The words of the next command, as an array or on one line; `None` at the end.
fn command(from: &mut impl BufRead) -> io::Result<Option<Vec<String>>> {
    let Some(first) = line(from)? else { return Ok(None) };
    let Some(count) = first.strip_prefix('*').and_then(|count| count.parse::<usize>().ok()) else {
        return Ok(Some(first.split_whitespace().map(String::from).collect()));
    };
    let mut words = Vec::new();
    for _ in 0..count.min(64) {
        // The length of the word is told on a line before it.
        let (Some(_), Some(word)) = (line(from)?, line(from)?) else { return Ok(None) };
        words.push(word);
    }
    Ok(Some(words))
}

fn line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut text = String::new();
    let count = from.take(LONGEST_LINE).read_line(&mut text)?;
    Ok((count > 0).then(|| text.trim_end().to_string()))
}

fn answer(words: &[String], keys: &Keys) -> String {
    let mut keys = keys.lock().unwrap_or_else(PoisonError::into_inner);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    match (words.first().map(|word| word.to_ascii_uppercase()).as_deref(), &words[words.len().min(1)..]) {
        (None, _) => String::new(),
        (Some("PING"), []) => "+PONG\r\n".into(),
        (Some("PING" | "ECHO"), [text]) => bulk(text),
        (Some("QUIT"), _) => "+OK\r\n".into(),
        (Some("SET"), [key, value, ..]) if keys.len() < MOST_KEYS => {
            keys.insert(key.to_string(), value.to_string());
            "+OK\r\n".into()
        }
        (Some("GET"), [key]) => keys.get(*key).map_or_else(|| "$-1\r\n".into(), |value| bulk(value)),
        (Some(other), _) => format!("-ERR unknown command '{other}'\r\n"),
    }
}

/// `redis-cli [-h HOST] [-p PORT] COMMAND ...`
pub fn client(arguments: &[String]) -> u8 {
    let given = match options::read(arguments, CLIENT) {
        Ok(given) => given,
        Err(problem) => {
            say::error(problem);
            return 1;
        }
    };
    let host = given.value("host").unwrap_or("127.0.0.1");
    let port = given.number("port", 6379).unwrap_or(6379);
    let asked = || {
        let address = names::socket_address(host, port).map_err(|_| io::Error::other("Name or service not known"))?;
        let stream = connect(address, Duration::ZERO)?;
        (&stream).write_all(format!("{}\r\n", given.operands.join(" ")).as_bytes())?;
        let mut reader = BufReader::new(&stream);
        let first = line(&mut reader)?.unwrap_or_default();
        if first.starts_with('$') && first != "$-1" { line(&mut reader) } else { Ok(Some(first)) }
    };
    match asked() {
        Ok(text) => {
            say::line(text.unwrap_or_default().trim_start_matches('+'));
            0
        }
        Err(error) => {
            let words = crate::errors::in_c_words(&error);
            say::error(format_args!("Could not connect to Redis at {host}:{port}: {words}"));
            1
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn commands_come_as_arrays_and_as_lines() {
        let keys = Keys::default();
        let said = |text: &str| answer(&command(&mut text.as_bytes()).unwrap().unwrap(), &keys);
        assert_eq!(said("PING\r\n"), "+PONG\r\n");
        assert_eq!(said("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\nhi\r\n"), "+OK\r\n");
        assert_eq!((said("get a\r\n"), said("GET b\r\n")), ("$2\r\nhi\r\n".into(), "$-1\r\n".into()));
        assert_eq!(said("FLY\r\n"), "-ERR unknown command 'FLY'\r\n");
    }
}
