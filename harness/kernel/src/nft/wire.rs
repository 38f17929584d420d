//! The bytes of netfilter netlink messages: headers, attributes, padding; written and read.
//!
//! Knows nothing of tables and rules. Numbers are those of `linux/netlink.h` and `linux/netfilter/nfnetlink.h`.

/// Messages and attributes start on a multiple of four bytes.
const ALIGN: usize = 4;
/// `struct nlmsghdr` and `struct nfgenmsg`.
pub(super) const NLMSG_HEADER: usize = 16;
pub(super) const NFGEN_HEADER: usize = 4;
const ATTRIBUTE_HEADER: usize = 4;
const NLA_F_NESTED: u16 = 1 << 15;
const NLA_TYPE_MASK: u16 = 0x3fff;

pub(super) const NLM_F_REQUEST: u16 = 0x1;
pub(super) const NLM_F_ACK: u16 = 0x4;
pub(super) const NLM_F_DUMP_INTR: u16 = 0x10;
pub(super) const NLM_F_DUMP: u16 = 0x300;
pub(super) const NLM_F_CREATE: u16 = 0x400;
pub(super) const NLM_F_APPEND: u16 = 0x800;

pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;

const fn aligned(length: usize) -> usize {
    (length + ALIGN - 1) & !(ALIGN - 1)
}

/// Writes messages one after another into one buffer.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    message: usize,
}

impl Writer {
    /// Starts a message; [`Writer::finish`] writes its length.
    pub(super) fn start(&mut self, kind: u16, flags: u16, sequence: u32, family: u8, resource: u16) {
        self.message = self.bytes.len();
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.push(family);
        self.bytes.push(0);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
    }

    pub(super) fn finish(&mut self) {
        let length = (self.bytes.len() - self.message) as u32;
        self.bytes[self.message..self.message + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.header(kind, ATTRIBUTE_HEADER + value.len());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// A text attribute, with the closing NUL that the kernel demands.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        self.header(kind, ATTRIBUTE_HEADER + value.len() + 1);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    pub(super) fn be32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    pub(super) fn be64(&mut self, kind: u16, value: u64) {
        self.attribute(kind, &value.to_be_bytes());
    }

    pub(super) fn byte(&mut self, kind: u16, value: u8) {
        self.attribute(kind, &[value]);
    }

    /// An attribute whose value is the attributes written by `inner`.
    ///
    /// The length field has 16 bits: callers keep `inner` below 64 KiB.
    pub(super) fn nested(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.header(kind | NLA_F_NESTED, 0);
        inner(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Ors `flags` into the header of the message that starts at `message`.
    pub(super) fn set_flags(&mut self, message: usize, flags: u16) {
        let at = message + 6..message + 8;
        if let Some(field) = self.bytes.get_mut(at)
            && let Ok(old) = <[u8; 2]>::try_from(&*field)
        {
            field.copy_from_slice(&(u16::from_ne_bytes(old) | flags).to_ne_bytes());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn header(&mut self, kind: u16, length: usize) {
        self.bytes.extend_from_slice(&(length as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }
}

/// One received message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    /// Everything after `struct nlmsghdr`.
    pub(super) body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes after the netfilter header.
    pub(super) fn attributes(&self) -> Attributes<'a> {
        Attributes { rest: self.body.get(NFGEN_HEADER..).unwrap_or_default() }
    }

    /// The error number of an `NLMSG_ERROR` or `NLMSG_DONE` message: 0 is an acknowledgement.
    pub(super) fn error_number(&self) -> i32 {
        self.body.first_chunk::<4>().map_or(0, |bytes| -i32::from_ne_bytes(*bytes))
    }
}

/// The messages in `bytes`; a truncated tail ends the walk.
pub(super) fn messages(bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<NLMSG_HEADER>()?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let body = rest.get(NLMSG_HEADER..length)?;
        let message = Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            body,
        };
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some(message)
    })
}

/// Walks attributes: `(type, value)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find_map(|(found, value)| (found == kind).then_some(value))
    }

    pub(super) fn text(self, kind: u16) -> Option<String> {
        self.find(kind).map(text)
    }

    pub(super) fn be32(self, kind: u16) -> Option<u32> {
        self.find(kind)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }

    pub(super) fn be64(self, kind: u16) -> Option<u64> {
        self.find(kind)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
    }

    pub(super) fn nested(self, kind: u16) -> Option<Attributes<'a>> {
        self.find(kind).map(Self::of)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.rest.first_chunk::<ATTRIBUTE_HEADER>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK;
        let value = self.rest.get(ATTRIBUTE_HEADER..length)?;
        self.rest = self.rest.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// Text up to its NUL; the kernel's names are ASCII.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = Writer::default();
        writer.start(7, NLM_F_ACK, 9, 2, 0);
        writer.text(1, "odd");
        writer.nested(2, |inner| {
            inner.byte(1, 5);
            inner.be64(3, u64::MAX - 1);
        });
        writer.finish();
        writer.start(8, 0, 10, 2, 0);
        writer.finish();

        let read: Vec<_> = messages(writer.bytes()).collect();
        assert_eq!(read.iter().map(|message| (message.kind, message.sequence)).collect::<Vec<_>>(), [(7, 9), (8, 10)]);
        assert_eq!(read[0].flags, NLM_F_ACK | NLM_F_REQUEST);
        assert_eq!(read[0].attributes().text(1).unwrap(), "odd");
        let inner = read[0].attributes().nested(2).unwrap();
        assert_eq!(inner.find(1).unwrap(), [5]);
        assert_eq!(inner.be64(3), Some(u64::MAX - 1));
    }

    #[test]
    fn truncated_input_ends_the_walk() {
        let mut writer = Writer::default();
        writer.start(7, 0, 1, 2, 0);
        writer.text(1, "text");
        writer.finish();
        let whole = writer.bytes();
        for cut in 0..whole.len() {
            assert_eq!(messages(&whole[..cut]).count(), 0, "cut at {cut}");
        }
        assert_eq!(Attributes::of(&[8, 0, 1]).count(), 0);
        assert_eq!(Attributes::of(&[1, 0, 1, 0, 0, 0]).count(), 0, "a length below its own header");
    }
}
