//! `/dial` of netexec: asks another server, some times, and tells what it answered.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::json;

use crate::errors::in_go_words;
use crate::http::{Reply, Request, client, url};
use crate::{names, streams};

/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is told, in bytes.
const LONGEST: u64 = 1 << 20;
/// More tries than any suite asks for.
const MOST_TRIES: usize = 1000;

/// Answers `/dial?host=&port=&request=&protocol=&tries=`.
pub fn answer(request: &Request) -> Reply {
    let asked = request.value("request");
    if asked.is_empty() {
        return Reply::error(400, "request parameter not specified");
    }
    let tries = match request.value("tries") {
        "" => Ok(1),
        text => text.parse::<usize>(),
    };
    let Ok(tries) = tries else { return Reply::error(400, "tries parameter is invalid") };
    let address =
        request.value("port").parse().ok().and_then(|port| names::socket_address(request.value("host"), port).ok());
    let Some(address) = address else { return Reply::error(400, "host and/or port param are invalid") };
    let dial = match request.value("protocol").to_lowercase().as_str() {
        "" | "http" => http,
        "udp" => udp,
        "sctp" => sctp,
        other => return Reply::error(400, format!("unsupported protocol. {other}")),
    };
    let (mut responses, mut errors) = (Vec::new(), Vec::new());
    for _ in 0..tries.min(MOST_TRIES) {
        match dial(asked, address) {
            Ok(text) => responses.push(text),
            Err(text) => errors.push(text),
        }
    }
    let mut told = serde_json::Map::new();
    if !responses.is_empty() {
        told.insert("responses".into(), json!(responses));
    }
    if !errors.is_empty() {
        told.insert("errors".into(), json!(errors));
    }
    Reply::text(serde_json::Value::Object(told).to_string())
}

fn http(asked: &str, address: SocketAddr) -> Result<String, String> {
    let text = format!("http://{address}/{asked}");
    let failed = |what: String| format!("Get \"{text}\": {what}");
    let silent = |error: &io::Error, call: &str| match in_go_words(call, error) {
        silence if silence == "i/o timeout" => "context deadline exceeded (Client.Timeout exceeded while awaiting \
                                                headers)"
            .to_string(),
        words if call == "connect" => format!("dial tcp {address}: {words}"),
        words => words,
    };
    let url = url::parse(&text).ok_or_else(|| failed("not a URL".into()))?;
    let stream = streams::connect(address, PATIENCE).map_err(|error| failed(silent(&error, "connect")))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| failed(error.to_string()))?;
    let response = client::send(stream, &url, &client::Ask::default());
    let response = response.map_err(|error| failed(silent(&error, "read")))?;
    let mut body = Vec::new();
    response.body.take(LONGEST).read_to_end(&mut body).map_err(|error| failed(silent(&error, "read")))?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn udp(asked: &str, address: SocketAddr) -> Result<String, String> {
    let talk = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(asked.as_bytes())?;
        let mut buffer = [0; 2048];
        let count = streams::undisturbed(|| socket.recv(&mut buffer))?;
        io::Result::Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
    };
    match talk() {
        Ok(text) if !text.is_empty() => Ok(text),
        Ok(_) => Err("reading from udp connection failed. err:'<nil>'".into()),
        Err(error) => Err(format!("reading from udp connection failed. err:'{}'", in_go_words("read", &error))),
    }
}

fn sctp(asked: &str, address: SocketAddr) -> Result<String, String> {
    let talk = || {
        let mut socket = streams::connect_sctp(address, PATIENCE)?;
        socket.write_all(asked.as_bytes())?;
        let mut buffer = [0; 1024];
        let count = streams::undisturbed(|| socket.read(&mut buffer))?;
        io::Result::Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
    };
    talk().map_err(|error| format!("sctp dial failed. err:{error}"))
}
