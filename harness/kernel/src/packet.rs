//! Packet sockets: copies of the IPv4 packets that pass the interfaces of one network namespace (packet(7)).
//!
//! A socket belongs to the namespace in which it was opened and looks at all its interfaces. It changes nothing and
//! is not seen by whoever sends: the kernel copies a packet as it is handed to a device or comes from one, before any
//! packet filter of this host has a say in it on the way in, and after all of them on the way out. What packets mean
//! is not known here.

use std::io::{self, IoSliceMut};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockType, recvmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeSpec;

/// Bytes of a packet that are copied: enough for a tunnel's headers and those of the packet in it.
pub const COPIED: usize = 256;

/// Bytes that may wait to be read, about 2,000 packets; what comes on top is lost and counted.
const WAITING: usize = 4 << 20;

/// More addresses than these are not looked for one by one.
const MOST_ADDRESSES: usize = 48;

/// Which packets are copied at all: whatever has to do with one of some addresses, tunnels, and ICMP.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Sender or receiver is one of these; with none or too many, every packet.
    pub addresses: Vec<Ipv4Addr>,
    /// UDP datagrams to these ports, whoever sends them.
    pub tunnels: Vec<u16>,
}

/// Whether a packet was handed to a device or came from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Entering,
    Leaving,
}

/// What is known of a copied packet beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Number of the interface in the socket's namespace.
    pub interface: u32,
    pub direction: Direction,
    /// The frame was addressed to the hardware address of another host.
    pub for_another: bool,
    /// Bytes that were copied, from the IP header on.
    pub copied: usize,
    /// Bytes of the whole packet.
    pub length: usize,
    /// Nanoseconds since 1970 of this machine's clock.
    pub at_ns: u64,
}

/// A packet socket on all interfaces of the namespace in which it was opened.
#[derive(Debug)]
pub struct PacketSocket {
    descriptor: OwnedFd,
}

impl PacketSocket {
    /// Opens a socket in the calling thread's network namespace. Needs `CAP_NET_RAW` in the user namespace that owns
    /// it.
    pub fn open(filter: &Filter) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // With protocol 0 nothing is received yet, so that nothing passes by the filter.
        let descriptor = socket(AddressFamily::Packet, SockType::Datagram, flags, None)?;
        setsockopt(&descriptor, sockopt::ReceiveTimestampns, &true)?;
        // With CAP_NET_ADMIN the system's limit does not hold; without it less is better than nothing.
        if setsockopt(&descriptor, sockopt::RcvBufForce, &WAITING).is_err() {
            setsockopt(&descriptor, sockopt::RcvBuf, &WAITING)?;
        }
        let packets = Self { descriptor };
        packets.attach(&filter.program())?;
        packets.bind()?;
        Ok(packets)
    }

    fn attach(&self, program: &[libc::sock_filter]) -> io::Result<()> {
        let length = u16::try_from(program.len()).map_err(io::Error::other)?;
        let described = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
        let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
        // SAFETY: `described` points to `len` instructions that outlive the call; the kernel copies them and does not
        // write to them.
        let answer = unsafe {
            libc::setsockopt(
                self.descriptor.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const described).cast(),
                size,
            )
        };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn bind(&self) -> io::Result<()> {
        // SAFETY: all fields of the structure are integers, for which zeros are values.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        // Only a socket for all protocols sees what leaves.
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the address is a whole `sockaddr_ll` that outlives the call.
        let answer = unsafe { libc::bind(self.descriptor.as_raw_fd(), (&raw const address).cast(), size) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The next packet that was copied, its first bytes in `buffer`; nothing if none waits.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Passed>> {
        let room = buffer.len();
        let mut parts = [IoSliceMut::new(buffer)];
        let mut control = nix::cmsg_space!(TimeSpec);
        let received = recvmsg::<LinkAddr>(
            self.descriptor.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT,
        );
        let message = match received {
            Ok(message) => message,
            Err(nix::errno::Errno::EAGAIN) => return Ok(None),
            // An interface went down; the socket goes on.
            Err(nix::errno::Errno::ENETDOWN) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut at_ns = 0;
        for one in message.cmsgs()? {
            if let ControlMessageOwned::ScmTimestampns(time) = one {
                let (seconds, nanos) = (time.tv_sec(), time.tv_nsec());
                at_ns = u64::try_from(seconds).unwrap_or(0) * 1_000_000_000 + u64::try_from(nanos).unwrap_or(0);
            }
        }
        let from = message.address.ok_or_else(|| io::Error::other("a packet without its interface"))?;
        let leaving = from.pkttype() == libc::PACKET_OUTGOING;
        Ok(Some(Passed {
            interface: u32::try_from(from.ifindex()).unwrap_or(0),
            direction: if leaving { Direction::Leaving } else { Direction::Entering },
            for_another: from.pkttype() == libc::PACKET_OTHERHOST,
            copied: message.bytes.min(room).min(COPIED),
            length: message.bytes,
            at_ns,
        }))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Where a jump of the filter leads.
#[derive(Clone, Copy)]
enum To {
    Next,
    /// Past so many further instructions.
    Past(u8),
    Copy,
    Leave,
}

/// Offset of the protocol of the link layer (`SKF_AD_OFF + SKF_AD_PROTOCOL` of `linux/filter.h`).
const LINK_PROTOCOL: u32 = (-0x1000_i32) as u32;

/// Offsets in an IPv4 header, which is where the data of a cooked packet begins.
const PROTOCOL: u32 = 9;
const SENDER: u32 = 12;
const RECEIVER: u32 = 16;

impl Filter {
    /// The filter as the kernel's packet filter runs it.
    fn program(&self) -> Vec<libc::sock_filter> {
        use libc::{BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_LD, BPF_LDX, BPF_MSH, BPF_W};
        let mut code: Vec<(u32, u32, To, To)> = Vec::new();
        let equal = BPF_JMP | BPF_JEQ;
        code.push((BPF_LD | BPF_H | BPF_ABS, LINK_PROTOCOL, To::Next, To::Next));
        code.push((equal, libc::ETH_P_IP as u32, To::Next, To::Leave));
        if self.addresses.is_empty() || self.addresses.len() > MOST_ADDRESSES {
            return assembled(&code, To::Copy);
        }
        code.push((BPF_LD | BPF_B | BPF_ABS, PROTOCOL, To::Next, To::Next));
        code.push((equal, libc::IPPROTO_ICMP as u32, To::Copy, To::Next));
        let ports = u8::try_from(self.tunnels.len()).unwrap_or(0);
        code.push((equal, libc::IPPROTO_UDP as u32, To::Next, To::Past(2 + ports)));
        code.push((BPF_LDX | BPF_B | BPF_MSH, 0, To::Next, To::Next));
        code.push((BPF_LD | BPF_H | BPF_IND, 2, To::Next, To::Next));
        for port in self.tunnels.iter().take(usize::from(ports)) {
            code.push((equal, u32::from(*port), To::Copy, To::Next));
        }
        for end in [SENDER, RECEIVER] {
            code.push((BPF_LD | BPF_W | BPF_ABS, end, To::Next, To::Next));
            for address in &self.addresses {
                code.push((equal, u32::from(*address), To::Copy, To::Next));
            }
        }
        assembled(&code, To::Leave)
    }
}

/// The instructions with their jumps resolved; what falls through ends with `last`.
fn assembled(code: &[(u32, u32, To, To)], last: To) -> Vec<libc::sock_filter> {
    let end = code.len();
    let copied = COPIED as u32;
    let ends = match last {
        To::Copy => [copied, 0],
        _ => [0, copied],
    };
    let place = |wanted: u32| end + usize::from(ends[0] != wanted);
    let jump = |to: To, from: usize| match to {
        To::Next => 0,
        To::Past(count) => count,
        To::Copy => u8::try_from(place(copied) - from - 1).unwrap_or(u8::MAX),
        To::Leave => u8::try_from(place(0) - from - 1).unwrap_or(u8::MAX),
    };
    let mut program: Vec<libc::sock_filter> = code
        .iter()
        .enumerate()
        .map(|(at, (code, k, yes, no))| libc::sock_filter {
            code: *code as u16,
            jt: jump(*yes, at),
            jf: jump(*no, at),
            k: *k,
        })
        .collect();
    program.extend(ends.map(|k| libc::sock_filter { code: libc::BPF_RET as u16, jt: 0, jf: 0, k }));
    program
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::UdpSocket;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::ns::NetNs;

    /// Everything that is copied until a datagram of `last` bytes has been seen twice: it leaves and it enters.
    fn copies(packets: &PacketSocket, last: usize) -> Vec<(Direction, usize)> {
        let started = Instant::now();
        let mut seen = Vec::new();
        let mut buffer = [0; COPIED];
        while seen.iter().filter(|(_, length)| *length == last).count() < 2 {
            assert!(started.elapsed() < Duration::from_secs(5), "only {seen:?}");
            if let Some(passed) = packets.receive(&mut buffer).unwrap() {
                assert!(passed.at_ns > 0 && passed.interface == 1, "{passed:?}");
                seen.push((passed.direction, passed.length));
            }
        }
        seen
    }

    #[test]
    fn what_passes_is_copied_and_what_the_filter_leaves_out_is_not() {
        let Ok(namespace) = NetNs::create() else {
            assert!(!nix::unistd::geteuid().is_root(), "root must be able to make a namespace");
            return;
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let netlink = crate::link::Netlink::open(&namespace).unwrap();
            netlink.up(1).await.unwrap();
        });
        let wanted = Filter { addresses: vec!["127.0.0.9".parse().unwrap()], tunnels: vec![4789] };
        let seen = namespace
            .run(|| {
                let packets = PacketSocket::open(&wanted).unwrap();
                let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
                // Nobody wants this one, nor the ICMP errors of the others: they say `port unreachable`.
                let listener = UdpSocket::bind("0.0.0.0:7000").unwrap();
                let tunnel = UdpSocket::bind("0.0.0.0:4789").unwrap();
                sender.send_to(&[0; 10], "127.0.0.1:7000").unwrap();
                sender.send_to(&[0; 20], "127.0.0.1:4789").unwrap();
                sender.send_to(&[0; 30], "127.0.0.9:7000").unwrap();
                let seen = copies(&packets, 58);
                drop((listener, tunnel));
                seen
            })
            .unwrap();
        let (leaving, entering) = (Direction::Leaving, Direction::Entering);
        assert_eq!(seen, [(leaving, 48), (entering, 48), (leaving, 58), (entering, 58)]);
    }

    #[test]
    fn a_filter_without_addresses_copies_all_of_ipv4() {
        assert_eq!(Filter::default().program().len(), 4);
        let many = vec![Ipv4Addr::LOCALHOST; MOST_ADDRESSES + 1];
        assert_eq!(Filter { addresses: many, tunnels: Vec::new() }.program().len(), 4);
    }
}
