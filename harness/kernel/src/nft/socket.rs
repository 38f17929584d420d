//! The netlink socket to nf_tables: sending transactions, walking lists.
//!
//! The kernel works inside the send call, so every answer to a transaction is queued when it returns; no answer is
//! waited for.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, ReceiveTimeout, SndBuf, SndBufForce};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, getsockopt, recv, sendto, setsockopt,
    socket,
};
use nix::sys::time::TimeVal;

use super::batch::Batch;
use super::error::{NftError, Refusal, describe};
use super::wire::{Message, NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, Writer, messages};

/// Refusals quote the refused message, and those are below 64 KiB.
const RECEIVE_BYTES: usize = 128 * 1024;
/// Room for the answers to a transaction of which every message is refused.
const ANSWER_BYTES: usize = 4 << 20;
/// What the kernel keeps of the send buffer for itself, generously.
const SEND_OVERHEAD: usize = 4096;
/// A list that others change while it is walked is walked again, so many times.
const LIST_ATTEMPTS: usize = 16;
/// Guards a list against a kernel that stops answering.
const LIST_SECONDS: i64 = 5;

/// A connection to nf_tables of the network namespace it was opened in; it may be used from any other.
#[derive(Debug)]
pub struct Nft {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Nft {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// Opening needs no privilege; changes and lists need `CAP_NET_ADMIN` over the namespace.
    pub fn open() -> Result<Self, NftError> {
        let socket =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)
                .map_err(|errno| NftError::Open(errno.into()))?;
        // Without privilege over the whole machine the forced size is refused and the plain one is capped.
        setsockopt(&socket, RcvBufForce, &ANSWER_BYTES)
            .or_else(|_| setsockopt(&socket, RcvBuf, &ANSWER_BYTES))
            .and_then(|()| setsockopt(&socket, ReceiveTimeout, &TimeVal::new(LIST_SECONDS, 0)))
            .map_err(|errno| NftError::Open(errno.into()))?;
        Ok(Self { socket, buffer: vec![0; RECEIVE_BYTES] })
    }

    /// Sends one transaction. On any error nothing of it has happened.
    pub fn send(&mut self, batch: Batch) -> Result<(), NftError> {
        if batch.is_empty() {
            return Ok(());
        }
        let changes = batch.messages();
        let (writer, starts) = batch.finish();
        let bytes = writer.len();
        self.discard();
        self.make_room(bytes);
        self.transmit(&writer).map_err(|errno| NftError::Send { messages: changes, bytes, source: errno.into() })?;
        let mut answers = Answers { last: changes as u32, ..Answers::default() };
        loop {
            match self.receive(MsgFlags::MSG_DONTWAIT) {
                Ok(received) => {
                    messages(received).for_each(|message| answers.take(message, writer.bytes(), &starts));
                }
                Err(Errno::EAGAIN) => break,
                // Answers were lost; the rest is still queued.
                Err(Errno::ENOBUFS) => answers.lost = true,
                Err(errno) => return Err(NftError::Receive(errno.into())),
            }
        }
        answers.conclude(changes, bytes)
    }

    /// Asks for a list and gathers what `entry` makes of each of its messages; from the start again if the rules
    /// changed while it was walked.
    pub(super) fn list<T>(
        &mut self,
        what: &str,
        kind: u16,
        family: u8,
        filter: impl Fn(&mut Writer),
        entry: impl Fn(Message<'_>, &mut Vec<T>),
    ) -> Result<Vec<T>, NftError> {
        for _ in 0..LIST_ATTEMPTS {
            let mut writer = Writer::default();
            writer.start(kind, NLM_F_DUMP, 0, family, 0);
            filter(&mut writer);
            writer.finish();
            self.discard();
            self.transmit(&writer).map_err(|errno| NftError::List { what: what.into(), errno })?;
            if let Some(found) = self.walk(what, &entry)? {
                return Ok(found);
            }
        }
        Err(NftError::Restless { what: what.into(), attempts: LIST_ATTEMPTS })
    }

    /// Reads one list to its end; `None` if the rules changed on the way.
    fn walk<T>(&mut self, what: &str, entry: &impl Fn(Message<'_>, &mut Vec<T>)) -> Result<Option<Vec<T>>, NftError> {
        let (mut found, mut interrupted) = (Vec::new(), false);
        loop {
            let received = match self.receive(MsgFlags::empty()) {
                Ok(received) => received,
                Err(Errno::ENOBUFS) => return Ok(None),
                Err(errno) => return Err(NftError::Receive(errno.into())),
            };
            for message in messages(received) {
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match (message.kind, message.error_number()) {
                    (NLMSG_DONE, 0) => return Ok((!interrupted).then_some(found)),
                    (NLMSG_DONE | NLMSG_ERROR, number) => match Errno::from_raw(number) {
                        Errno::EINTR | Errno::EAGAIN => return Ok(None),
                        errno => {
                            return Err(NftError::List { what: what.into(), errno });
                        }
                    },
                    _ => entry(message, &mut found),
                }
            }
        }
    }

    /// Throws away what an earlier, failed exchange may have left.
    fn discard(&mut self) {
        while matches!(self.receive(MsgFlags::MSG_DONTWAIT), Ok(_) | Err(Errno::ENOBUFS)) {}
    }

    /// Makes the send buffer hold `bytes`; what the kernel allows is found out by sending.
    fn make_room(&self, bytes: usize) {
        let wanted = bytes + SEND_OVERHEAD;
        if getsockopt(&self.socket, SndBuf).is_ok_and(|size| size < wanted) {
            let _ =
                setsockopt(&self.socket, SndBufForce, &wanted).or_else(|_| setsockopt(&self.socket, SndBuf, &wanted));
        }
    }

    fn transmit(&self, writer: &Writer) -> Result<(), Errno> {
        retried(|| {
            sendto(self.socket.as_raw_fd(), writer.bytes(), &NetlinkAddr::new(0, 0), MsgFlags::empty()).map(|_| ())
        })
    }

    fn receive(&mut self, flags: MsgFlags) -> Result<&[u8], Errno> {
        let Self { socket, buffer } = self;
        let length = retried(|| recv(socket.as_raw_fd(), buffer, flags | MsgFlags::MSG_TRUNC))?;
        buffer.get(..length).ok_or(Errno::EMSGSIZE)
    }
}

fn retried<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// The answers to one transaction, gathered.
#[derive(Debug, Default)]
struct Answers {
    /// The sequence number that asked for an acknowledgement.
    last: u32,
    acknowledged: bool,
    lost: bool,
    whole: Option<Errno>,
    refusals: Vec<Refusal>,
}

impl Answers {
    fn take(&mut self, message: Message<'_>, sent: &[u8], starts: &[usize]) {
        if message.kind != NLMSG_ERROR {
            return;
        }
        match (message.error_number(), message.sequence) {
            (0, sequence) => self.acknowledged |= sequence == self.last,
            // The opening marker stands for the transaction: no privilege, or the commit failed.
            (number, 0) => self.whole = Some(Errno::from_raw(number)),
            (number, sequence) => {
                let refused = starts.get(sequence as usize).and_then(|start| sent.get(*start..));
                let what = refused.map_or_else(|| format!("message {sequence}"), describe);
                self.refusals.push(Refusal { what, errno: Errno::from_raw(number) });
            }
        }
    }

    fn conclude(self, messages: usize, bytes: usize) -> Result<(), NftError> {
        if !self.refusals.is_empty() {
            return Err(NftError::Refused(self.refusals));
        }
        match self.whole {
            Some(errno) => Err(NftError::Transaction { errno }),
            None if self.lost => Err(NftError::Transaction { errno: Errno::ENOBUFS }),
            None if self.acknowledged => Ok(()),
            None => Err(NftError::Silence { messages, bytes }),
        }
    }
}
