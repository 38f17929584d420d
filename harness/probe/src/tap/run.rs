//! The tap itself: opens its sockets, says so, gathers until it is told to end, and tells.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use cknet_kernel::ns::NetNs;
use cknet_kernel::packet::{COPIED, Direction as Way, Filter, PacketSocket, Passed};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Direction, MOST_SIGHTINGS, Place, Reply, Request, Seen, Sighting, Surroundings, VERSION, decode};
use crate::facts::{self, Kind};
use crate::firewall::drops;
use crate::netns;
use crate::wire::frame::{self, FrameError};

/// The tap could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    #[error("the tap was not told what to look at")]
    NothingAsked,
    #[error("the tap cannot look: {0}")]
    Look(#[from] io::Error),
    #[error("the tap's stream: {0}")]
    Frame(#[from] FrameError),
}

/// The personality `cknet probe tap`: [`run`] on standard input and output.
pub fn on_standard_streams() -> Result<(), TapError> {
    run(io::stdin().lock(), io::stdout().lock())
}

/// Reads one request, looks until `input` ends or the deadline has come, and tells what was seen.
pub fn run(mut input: impl Read + AsFd, mut output: impl Write) -> Result<(), TapError> {
    let request: Request = frame::read(&mut input)?.ok_or(TapError::NothingAsked)?;
    let ends = Instant::now() + request.deadline;
    let mut gathered = Seen::default();
    if request.surroundings {
        gathered.before = request.places.iter().filter_map(surroundings).collect();
    }
    let (mut taps, mut blind) = (Vec::new(), Vec::new());
    for place in &request.places {
        match Tap::open(place, &request) {
            Ok(tap) => taps.push(tap),
            Err(error) => blind.push((place.name.clone(), error.to_string())),
        }
    }
    frame::write(&mut output, &Reply::Open { version: VERSION, blind })?;
    while wait(input.as_fd(), &taps, ends)? {
        for tap in &mut taps {
            tap.gather(&request, &mut gathered)?;
        }
    }
    // What passed before the stream closed may still wait in the sockets.
    for tap in &mut taps {
        tap.gather(&request, &mut gathered)?;
    }
    drop(taps);
    if request.surroundings {
        gathered.after = request.places.iter().filter_map(surroundings).collect();
    }
    Ok(frame::write(&mut output, &Reply::Seen(gathered))?)
}

/// Waits for packets; whether the tap is to go on. Anything that comes on the stream after the request ends it.
fn wait(input: BorrowedFd<'_>, taps: &[Tap], ends: Instant) -> io::Result<bool> {
    let left = ends.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(false);
    }
    let mut polled = vec![PollFd::new(input, PollFlags::POLLIN)];
    polled.extend(taps.iter().map(|tap| PollFd::new(tap.packets.as_fd(), PollFlags::POLLIN)));
    let left = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
    match poll(&mut polled, left) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(polled.first().is_none_or(|input| input.revents().is_none_or(|seen| seen.is_empty())))
}

/// A place that is looked at.
struct Tap {
    place: Place,
    namespace: NetNs,
    packets: PacketSocket,
    devices: HashMap<u32, String>,
}

impl Tap {
    fn open(place: &Place, request: &Request) -> io::Result<Self> {
        let namespace = netns::open(&place.netns)?;
        let addresses: std::collections::BTreeSet<_> =
            request.flows.iter().flat_map(|flow| flow.addresses.iter().copied()).collect();
        let filter = Filter { addresses: addresses.into_iter().collect(), tunnels: request.tunnels.clone() };
        let packets = namespace.run(|| PacketSocket::open(&filter))??;
        let devices = devices(place);
        Ok(Self { place: place.clone(), namespace, packets, devices })
    }

    /// Takes everything that waits.
    fn gather(&mut self, request: &Request, gathered: &mut Seen) -> io::Result<()> {
        let mut buffer = [0; COPIED];
        while let Some(passed) = self.packets.receive(&mut buffer)? {
            let copied = buffer.get(..passed.copied).unwrap_or_default();
            let Some(packet) = decode::packet(copied, &request.tunnels) else { continue };
            if !request.flows.iter().any(|flow| flow.takes(&packet.tuple)) {
                continue;
            }
            if gathered.sightings.len() >= MOST_SIGHTINGS {
                gathered.more += 1;
                continue;
            }
            gathered.sightings.push(self.sighting(&passed, &packet));
        }
        Ok(())
    }

    fn sighting(&mut self, passed: &Passed, packet: &decode::Packet) -> Sighting {
        Sighting {
            place: self.place.name.clone(),
            device: self.device(passed.interface),
            direction: match passed.direction {
                Way::Entering => Direction::Entering,
                Way::Leaving => Direction::Leaving,
            },
            for_another: passed.for_another,
            at_us: passed.at_ns / 1000,
            tuple: packet.tuple,
            outer: packet.outer,
            says: packet.says,
            length: packet.length,
        }
    }

    /// The name of a device; one that came later is looked up.
    fn device(&mut self, index: u32) -> String {
        if let Some(name) = self.devices.get(&index) {
            return name.clone();
        }
        let mut name = format!("if{index}");
        if let Ok(found) = self.namespace.run(|| nix::net::if_::if_indextoname(index)) {
            name = found.ok().and_then(|found| found.into_string().ok()).unwrap_or(name);
        }
        self.devices.insert(index, name.clone());
        name
    }
}

fn devices(place: &Place) -> HashMap<u32, String> {
    let options =
        facts::Options { kinds: vec![Kind::Links], netns: Some(place.netns.clone()), ..facts::Options::default() };
    // Without names the numbers are told.
    let links = facts::collect(&options).map(|facts| facts.links).unwrap_or_default();
    links.into_iter().map(|link| (link.index, link.name)).collect()
}

/// What a place is like; one that cannot be asked is told as blind when its socket is opened.
fn surroundings(place: &Place) -> Option<Surroundings> {
    let kinds = [Kind::Links, Kind::Addresses, Kind::Routes, Kind::Neighbours, Kind::Fdb, Kind::Listening];
    let options =
        facts::Options { kinds: kinds.to_vec(), netns: Some(place.netns.clone()), ..facts::Options::default() };
    let facts = facts::collect(&options).ok()?;
    // Pods have no rules of their own, as a rule; where none can be read there is nothing to add.
    let drops = if place.netns == "self" { drops::read().unwrap_or_default() } else { Vec::new() };
    Some(Surroundings { place: place.name.clone(), facts, drops })
}
