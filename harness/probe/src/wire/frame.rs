//! Frames: a big-endian `u32` length, then that many bytes of JSON.
//!
//! The functions over [`Read`] and [`Write`] are for the agent. A caller with asynchronous streams sends what
//! [`encode`] returns, and receives by reading four bytes, asking [`length`], reading so many and calling
//! [`decode`].

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest body that is sent or accepted, in bytes. A batch of 7,000 cells is about 1 MiB.
pub const MAX_BODY: usize = 64 << 20;

/// Why a frame could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {length} bytes is longer than the {MAX_BODY} that are allowed")]
    TooLong { length: usize },
    #[error("a frame's body is not what was awaited: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("the stream ended inside a frame: {read} of {length} bytes came")]
    Truncated { read: usize, length: usize },
    #[error("the stream failed: {0}")]
    Stream(#[from] io::Error),
}

/// The whole frame of a message: length and body.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - 4;
    let prefix = u32::try_from(length).ok().filter(|_| length <= MAX_BODY).ok_or(FrameError::TooLong { length })?;
    frame[..4].copy_from_slice(&prefix.to_be_bytes());
    Ok(frame)
}

/// The length of the body that follows this prefix, if such a body is accepted.
pub fn length(prefix: [u8; 4]) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(prefix) as usize;
    if length > MAX_BODY { Err(FrameError::TooLong { length }) } else { Ok(length) }
}

/// The message in a body.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    Ok(serde_json::from_slice(body)?)
}

/// Writes one message and flushes.
pub fn write<T: Serialize>(output: &mut impl Write, message: &T) -> Result<(), FrameError> {
    output.write_all(&encode(message)?)?;
    Ok(output.flush()?)
}

/// Reads one message; nothing at the end of the stream, if that is between two frames.
pub fn read<T: DeserializeOwned>(input: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut prefix = Vec::with_capacity(4);
    match input.take(4).read_to_end(&mut prefix)? {
        0 => return Ok(None),
        4 => {}
        read => return Err(FrameError::Truncated { read, length: 4 }),
    }
    let length = length([prefix[0], prefix[1], prefix[2], prefix[3]])?;
    // The length is a claim: memory is taken as the bytes come, not in advance.
    let mut body = Vec::with_capacity(length.min(1 << 20));
    let read = input.take(length as u64).read_to_end(&mut body)?;
    if read < length {
        return Err(FrameError::Truncated { read, length });
    }
    decode(&body).map(Some)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn messages_come_back_in_order_and_then_the_end() {
        let mut stream = Vec::new();
        write(&mut stream, &"one").unwrap();
        write(&mut stream, &"two").unwrap();
        let mut rest = stream.as_slice();
        assert_eq!(read::<String>(&mut rest).unwrap().as_deref(), Some("one"));
        assert_eq!(read::<String>(&mut rest).unwrap().as_deref(), Some("two"));
        assert_eq!(read::<String>(&mut rest).unwrap(), None);
    }

    #[test]
    fn an_end_inside_a_frame_is_an_error() {
        let whole = encode(&"message").unwrap();
        for cut in 1..whole.len() {
            let found = read::<String>(&mut &whole[..cut]);
            assert!(matches!(found, Err(FrameError::Truncated { .. })), "cut at {cut}: {found:?}");
        }
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_memory_is_taken() {
        let found = read::<String>(&mut u32::MAX.to_be_bytes().as_slice());
        assert!(matches!(found, Err(FrameError::TooLong { length }) if length == u32::MAX as usize));
        assert_eq!(length([0x04, 0, 0, 0]).unwrap(), MAX_BODY);
        assert!(length([0x04, 0, 0, 1]).is_err());
    }
}
