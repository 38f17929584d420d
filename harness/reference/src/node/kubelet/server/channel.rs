//! The channels of one WebSocket: the first byte of each message says which one it belongs to. Pure.

use axum::extract::ws::{CloseFrame, Message};
use serde::Deserialize;
use serde_json::Value;

/// The protocols spoken, best first; the later one adds [`Incoming::Closed`].
pub const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// Channels to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    Stdout = 1,
    Stderr = 2,
    Status = 3,
}

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    Stdin(Vec<u8>),
    Resize {
        rows: u16,
        columns: u16,
    },
    /// Nothing more comes on this channel.
    Closed(u8),
    /// The client is going.
    Leaving,
    /// Nothing that matters here.
    Other,
}

#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Width")]
    width: u16,
    #[serde(rename = "Height")]
    height: u16,
}

/// Reads one message.
pub fn incoming(message: Message) -> Incoming {
    let bytes = match message {
        Message::Binary(bytes) => bytes,
        Message::Text(text) => text.into(),
        Message::Close(_) => return Incoming::Leaving,
        Message::Ping(_) | Message::Pong(_) => return Incoming::Other,
    };
    match bytes.split_first() {
        Some((0, data)) => Incoming::Stdin(data.to_vec()),
        Some((4, size)) => match serde_json::from_slice::<Size>(size) {
            Ok(size) => Incoming::Resize { rows: size.height, columns: size.width },
            Err(_) => Incoming::Other,
        },
        Some((255, [channel])) => Incoming::Closed(*channel),
        _ => Incoming::Other,
    }
}

/// A message to the client.
pub fn outgoing(channel: Outgoing, bytes: &[u8]) -> Message {
    let mut framed = Vec::with_capacity(bytes.len() + 1);
    framed.push(channel as u8);
    framed.extend_from_slice(bytes);
    Message::Binary(framed.into())
}

/// The last message with content.
pub fn status(status: &Value) -> Message {
    outgoing(Outgoing::Status, status.to_string().as_bytes())
}

/// Without this code a client takes the end for a failure.
pub fn goodbye() -> Message {
    Message::Close(Some(CloseFrame { code: 1000, reason: "".into() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn binary(bytes: &[u8]) -> Message {
        Message::Binary(bytes.to_vec().into())
    }

    #[rstest]
    #[case(binary(b"\x00ls\n"), Incoming::Stdin(b"ls\n".to_vec()))]
    #[case(binary(b"\x00"), Incoming::Stdin(vec![]))]
    #[case(binary(b"\x04{\"Width\":101,\"Height\":33}"), Incoming::Resize { rows: 33, columns: 101 })]
    #[case(binary(b"\x04{\"Width\":-1}"), Incoming::Other)]
    #[case(binary(b"\xff\x00"), Incoming::Closed(0))]
    #[case(binary(b"\xff"), Incoming::Other)]
    #[case(binary(b""), Incoming::Other)]
    #[case(binary(b"\x01out"), Incoming::Other)]
    #[case(Message::Close(None), Incoming::Leaving)]
    #[case(Message::Ping(vec![].into()), Incoming::Other)]
    fn a_message_is_what_its_first_byte_says(#[case] message: Message, #[case] expected: Incoming) {
        assert_eq!(incoming(message), expected);
    }

    #[test]
    fn output_is_marked_with_its_channel() {
        assert_eq!(outgoing(Outgoing::Stderr, b"no"), binary(b"\x02no"));
        assert_eq!(status(&serde_json::json!({"status": "Success"})), binary(b"\x03{\"status\":\"Success\"}"));
    }
}
