//! Cells that are probed together: their sockets are made, then all probes leave, then one silence ends them all.
//!
//! Owns the sockets and the epoll loop. Which cells make a chunk, and from which namespaces, the pass decides.

use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::failure;
use super::flight::{Flight, Keep, NoSocket, Scratch};
use super::outcomes::Outcomes;
use super::ping::Lane;
use super::silence::Silence;
use super::source_ports::SourcePorts;
use crate::echo::Nonces;
use crate::wire::{Batch, Observation, Sight, Target};

/// Events taken from the kernel at once.
const EVENTS: usize = 512;
/// Cells launched between two looks at what has come back, so that servers and clients work side by side.
const LAUNCH_BURST: usize = 64;
/// Marks the lanes among the values that epoll returns.
const LANE: u64 = 1 << 63;

/// Why a cell could not be added to a chunk.
pub(super) enum NoPlace {
    /// The chunk is full: run it, then add this cell to the next.
    Full,
    Because(Sight),
}

/// A namespace's number, whether IPv6, and whether fragments are forbidden: requests that agree share a lane.
type LaneKind = (usize, bool, bool);

/// An echo request that is to leave by a lane.
struct Echo {
    lane: usize,
    place: usize,
}

/// What leaves next.
#[derive(Clone, Copy)]
enum Departure {
    Flight(usize),
    Echo(usize),
}

pub(super) struct Chunk {
    epoll: Epoll,
    events: Box<[EpollEvent]>,
    scratch: Scratch,
    silence: Silence,
    launched: Instant,
    /// Descriptors that it may hold.
    limit: usize,
    flights: Vec<Flight>,
    lanes: Vec<Lane>,
    echoes: Vec<Echo>,
    /// Cells that have left and are not settled.
    open: usize,
}

impl Chunk {
    pub(super) fn new(batch: &Batch, limit: usize) -> nix::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            events: vec![EpollEvent::empty(); EVENTS].into_boxed_slice(),
            scratch: Scratch::default(),
            silence: Silence::new(batch.quiet, batch.cap, now),
            launched: now,
            limit,
            flights: Vec::with_capacity(batch.cells.len().min(limit)),
            lanes: Vec::new(),
            echoes: Vec::new(),
            open: 0,
        })
    }

    /// When the last probe left.
    pub(super) fn launched(&self) -> Instant {
        self.launched
    }

    /// Makes what a cell needs, in the namespace of the calling thread; `group` is one namespace's number.
    pub(super) fn add(
        &mut self,
        place: usize,
        target: &Target,
        group: usize,
        ports: &mut SourcePorts,
        nonces: &mut Nonces,
    ) -> Result<(), NoPlace> {
        // A lane holds two descriptors.
        if self.flights.len() + 2 * self.lanes.len() >= self.limit {
            return Err(NoPlace::Full);
        }
        let added = match target {
            Target::Icmp { address, whole, .. } => self.add_echo(place, (group, address.is_ipv6(), *whole), nonces),
            _ => Flight::open(place, target, nonces.draw(), ports).map(|flight| self.flights.push(flight)),
        };
        added.map_err(|reason| match reason {
            NoSocket::Because(sight) => NoPlace::Because(sight),
            NoSocket::NoFiles if self.flights.is_empty() && self.lanes.is_empty() => {
                NoPlace::Because(failure::no_socket(Errno::EMFILE, "a probe"))
            }
            NoSocket::NoFiles => NoPlace::Full,
        })
    }

    fn add_echo(&mut self, place: usize, kind: LaneKind, nonces: &mut Nonces) -> Result<(), NoSocket> {
        let lane = match self.lanes.iter().rposition(|lane| lane.serves(kind.0, kind.1, kind.2)) {
            Some(lane) => lane,
            None => self.open_lane(kind, nonces.draw().0 as u16)?,
        };
        self.lanes[lane].expect_one();
        self.echoes.push(Echo { lane, place });
        Ok(())
    }

    fn open_lane(&mut self, kind: LaneKind, identifier: u16) -> Result<usize, NoSocket> {
        let no_socket = |errno| match errno {
            Errno::EMFILE | Errno::ENFILE => NoSocket::NoFiles,
            errno => NoSocket::Because(failure::no_socket(errno, "ICMP")),
        };
        let lane = Lane::open(kind.0, kind.1, kind.2, identifier).map_err(no_socket)?;
        let place = self.lanes.len();
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, LANE | place as u64);
        self.epoll.add(lane.socket.as_fd(), event).map_err(no_socket)?;
        self.lanes.push(lane);
        Ok(place)
    }

    /// Launches all cells and listens until each is settled.
    pub(super) fn run(&mut self, batch: &Batch, outcomes: &mut Outcomes, nonces: &mut Nonces) {
        for (count, departure) in self.departures(batch).into_iter().enumerate() {
            match departure {
                Departure::Flight(number) => self.launch_flight(number, batch, outcomes),
                Departure::Echo(number) => self.launch_echo(number, batch, outcomes, nonces),
            }
            self.launched = Instant::now();
            self.silence.launched(self.launched);
            if count % LAUNCH_BURST == LAUNCH_BURST - 1 {
                self.take_events(Duration::ZERO, batch, outcomes);
            }
        }
        self.listen(batch, outcomes);
        self.expire(batch, outcomes);
    }

    /// The sockets, to be kept or closed; the chunk is empty after.
    pub(super) fn take_sockets(&mut self) -> Vec<Keep> {
        let lanes = mem::take(&mut self.lanes).into_iter().map(Lane::into_keep);
        let flights = mem::take(&mut self.flights).into_iter().map(Flight::into_keep);
        self.echoes.clear();
        flights.chain(lanes).collect()
    }

    /// Everything that is to leave, by target: a server that is asked by all at once wakes up once.
    fn departures(&self, batch: &Batch) -> Vec<Departure> {
        let flights = self.flights.iter().enumerate();
        let flights = flights.map(|(number, flight)| (flight.address(), Departure::Flight(number)));
        let echoes = self.echoes.iter().enumerate().map(|(number, echo)| {
            let address = SocketAddr::new(batch.cells[echo.place].target.ip(), 0);
            (address, Departure::Echo(number))
        });
        let mut all: Vec<_> = flights.chain(echoes).collect();
        all.sort_by_key(|(address, _)| *address);
        all.into_iter().map(|(_, departure)| departure).collect()
    }

    fn launch_flight(&mut self, number: usize, batch: &Batch, outcomes: &mut Outcomes) {
        let flight = &mut self.flights[number];
        let cell = &batch.cells[flight.cell];
        if let Some(observation) = flight.leave(cell, &mut self.scratch) {
            return outcomes.settle(flight.cell, observation);
        }
        let event = EpollEvent::new(flight.interest(), number as u64);
        match self.epoll.add(&flight.socket, event) {
            Ok(()) => self.open += 1,
            Err(errno) => {
                let sight = failure::no_socket(errno, "a probe");
                outcomes.settle(flight.cell, Observation::of(cell.id, sight));
            }
        }
    }

    fn launch_echo(&mut self, number: usize, batch: &Batch, outcomes: &mut Outcomes, nonces: &mut Nonces) {
        let Echo { lane, place } = self.echoes[number];
        match self.lanes[lane].send(place, &batch.cells[place], nonces.draw(), &mut self.scratch) {
            Some(observation) => outcomes.settle(place, observation),
            None => self.open += 1,
        }
    }

    /// Listens until all is settled or the shared silence has come.
    ///
    /// Whoever has taken a connection is slow and not silent: its answer is waited for until the cap.
    fn listen(&mut self, batch: &Batch, outcomes: &mut Outcomes) {
        while self.open > 0 {
            let now = Instant::now();
            let remaining = self.silence.remaining(now);
            let owed = remaining.is_zero() && self.flights.iter().any(Flight::is_owed_an_answer);
            let timeout = if owed { batch.quiet.min(self.silence.until_cap(now)) } else { remaining };
            let heard = self.take_events(timeout, batch, outcomes);
            // What came in before the deadline counts, however late this process gets to read it; but an
            // endless chatter does not move the cap.
            let over = heard == 0 && !owed;
            if remaining.is_zero() && (over || self.silence.is_capped(Instant::now())) {
                return;
            }
        }
    }

    /// Waits at most `timeout` for events and works them off; returns how many there were.
    fn take_events(&mut self, timeout: Duration, batch: &Batch, outcomes: &mut Outcomes) -> usize {
        let mut events = mem::take(&mut self.events);
        let timeout = EpollTimeout::try_from(round_up(timeout)).unwrap_or(EpollTimeout::MAX);
        // An interrupted wait is one without events; the caller looks at the clock and waits again.
        let count = self.epoll.wait(&mut events, timeout).unwrap_or(0);
        for event in &events[..count] {
            match event.data() {
                data if data & LANE != 0 => {
                    self.take_echoes((data & !LANE) as usize, batch, outcomes);
                }
                data => self.take_event(data as usize, event.events(), batch, outcomes),
            }
        }
        self.events = events;
        if count > 0 {
            self.silence.heard(Instant::now());
        }
        count
    }

    fn take_event(&mut self, number: usize, ready: EpollFlags, batch: &Batch, outcomes: &mut Outcomes) {
        let Some(flight) = self.flights.get_mut(number) else {
            return;
        };
        let cell = &batch.cells[flight.cell];
        if let Some(observation) = flight.advance(cell, ready, &mut self.scratch) {
            self.open -= 1;
            outcomes.settle(flight.cell, observation);
        }
    }

    fn take_echoes(&mut self, lane: usize, batch: &Batch, outcomes: &mut Outcomes) {
        let Some(lane) = self.lanes.get_mut(lane) else {
            return;
        };
        lane.advance(batch, &mut self.scratch, |place, observation| {
            self.open -= 1;
            outcomes.settle(place, observation);
        });
    }

    /// Settles what is still open.
    fn expire(&mut self, batch: &Batch, outcomes: &mut Outcomes) {
        for flight in &mut self.flights {
            if let Some(observation) = flight.expire(&batch.cells[flight.cell]) {
                outcomes.settle_late(flight.cell, observation);
            }
        }
        for lane in &mut self.lanes {
            lane.expire(|place, sight| {
                outcomes.settle_late(place, Observation::of(batch.cells[place].id, sight));
            });
        }
        self.open = 0;
    }
}

/// Epoll counts in milliseconds; rounded down, the last one would be spent spinning.
fn round_up(timeout: Duration) -> Duration {
    Duration::from_millis(timeout.as_micros().div_ceil(1000).try_into().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_never_rounded_down() {
        assert_eq!(round_up(Duration::from_micros(1)), Duration::from_millis(1));
        assert_eq!(round_up(Duration::from_micros(2000)), Duration::from_millis(2));
        assert_eq!(round_up(Duration::ZERO), Duration::ZERO);
    }
}
