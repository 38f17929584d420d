//! A stand-in for an API server in unit tests: it answers each request by its first line, and with 404 what it has no
//! answer for.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Method and path, status code, body.
type Answer = (&'static str, u16, Value);

/// It ends when this is dropped.
pub struct StandIn {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// A failure in the API's words.
pub fn status(code: u16, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "", "code": code,
    })
}

impl StandIn {
    pub async fn start(answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers: Arc<[Answer]> = answers.into();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(converse(stream, answers.clone()));
            }
        });
        Self { address, task }
    }

    pub fn client(&self) -> kube::Client {
        let url = format!("http://{}", self.address).parse().unwrap();
        kube::Client::try_from(kube::Config::new(url)).unwrap()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(stream: TcpStream, answers: Arc<[Answer]>) {
    let mut stream = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first).await.unwrap();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap() == 0 || line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    let asked = first.trim_end().trim_end_matches(" HTTP/1.1");
    // Where an answer says nothing of a query, it is one to each.
    let path = asked.split('?').next().unwrap_or_default();
    let known = answers.iter().find(|(what, ..)| *what == asked || *what == path);
    let absent = status(404, &format!("the stand-in has no answer to `{asked}`"));
    let (code, body) = known.map_or((404, absent), |(_, code, body)| (*code, body.clone()));
    let body = body.to_string();
    let head = format!("HTTP/1.1 {code} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", body.len());
    let text = format!("{head}connection: close\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await.unwrap();
}
