//! One pass over a batch: launch everything, listen until the shared silence, settle what is left.
//!
//! Cells are launched by namespace, in chunks that fit the limit of open files; a batch that fits is one chunk.

use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit};

use super::Pass;
use super::failure;
use super::flight::{Flight, Keep, Scratch, Start};
use super::ping::Lane;
use super::silence::Silence;
use super::vantage::{Vantage, Vantages};
use crate::echo::Nonces;
use crate::wire::{Batch, Cell, Doubt, Observation, Sight, Target, VantageId};

/// Events taken from the kernel at once.
const EVENTS: usize = 512;
/// Cells launched between two looks at what has come back, so that servers and clients work side by side.
const LAUNCH_BURST: usize = 64;
/// Descriptors left free for whatever else this process opens.
const SPARE_FILES: u64 = 24;
/// Sockets in one chunk at most, whatever the limit of open files.
const MOST_SOCKETS: u64 = 16 << 10;
/// ICMP errors in all that a kernel sends in a burst before it holds them back to 1000/s (`icmp_msgs_burst`).
const ICMP_BURST: usize = 50;
/// Marks the lanes among the values that epoll returns.
const LANE: u64 = 1 << 63;

/// Cells that leave from one vantage.
struct Group {
    vantage: VantageId,
    /// Which part of `Run::order`.
    cells: Range<usize>,
    icmp_errors: usize,
}

pub(super) fn run(batch: &Batch, vantages: &mut Vantages, nonces: &mut Nonces) -> Pass {
    let mut run = match Run::new(batch, nonces) {
        Ok(run) => run,
        Err(error) => return nothing_left(batch, &error),
    };
    for group in 0..run.groups.len() {
        let id = run.groups[group].vantage.clone();
        match ready(vantages.get_mut(&id), &id) {
            Ok(vantage) => run.launch_group(group, vantage),
            Err(sight) => run.settle_group(group, &sight),
        }
    }
    run.listen();
    run.doubt_dead_vantages(vantages);
    run.finish()
}

/// The vantage, entered.
fn ready<'a>(vantage: Option<&'a mut Vantage>, id: &VantageId) -> Result<&'a mut Vantage, Sight> {
    let no_vantage = |detail| Sight::Inconclusive {
        reason: Doubt::NoVantage,
        detail,
    };
    let vantage = vantage.ok_or_else(|| no_vantage(format!("no vantage `{id}` is attached")))?;
    if !vantage.is_alive() {
        return Err(no_vantage(gone(id)));
    }
    vantage
        .enter()
        .map_err(|error| no_vantage(format!("cannot enter the namespace of `{id}`: {error}")))?;
    Ok(vantage)
}

fn gone(id: &VantageId) -> String {
    format!("the namespace of `{id}` is gone")
}

fn nothing_left(batch: &Batch, error: &io::Error) -> Pass {
    let sight = Sight::Inconclusive {
        reason: Doubt::NeverLeft,
        detail: format!("cannot start a pass: {error}"),
    };
    let observations = batch
        .cells
        .iter()
        .map(|cell| Observation::of(cell.id, sight.clone()))
        .collect();
    Pass {
        observations,
        launched: Duration::ZERO,
        took: Duration::ZERO,
        _sockets: Vec::new(),
    }
}

struct Run<'a> {
    batch: &'a Batch,
    nonces: &'a mut Nonces,
    started: Instant,
    launched: Instant,
    silence: Silence,
    epoll: Epoll,
    events: Box<[EpollEvent]>,
    scratch: Scratch,
    /// Places of cells in the batch, those of one group next to each other.
    order: Vec<usize>,
    groups: Vec<Group>,
    /// For each cell in the batch, its group.
    group_of: Vec<usize>,
    /// The sockets of this chunk.
    flights: Vec<Flight>,
    lanes: Vec<Lane>,
    chunk: usize,
    /// Cells of this chunk that are not settled.
    open: usize,
    outcomes: Vec<Option<Observation>>,
}

impl<'a> Run<'a> {
    fn new(batch: &'a Batch, nonces: &'a mut Nonces) -> io::Result<Self> {
        let started = Instant::now();
        let (order, groups, group_of) = grouped(&batch.cells);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self {
            batch,
            nonces,
            started,
            launched: started,
            silence: Silence::new(batch.quiet, batch.cap, started),
            epoll,
            events: vec![EpollEvent::empty(); EVENTS].into_boxed_slice(),
            scratch: Scratch::default(),
            order,
            groups,
            group_of,
            flights: Vec::with_capacity(batch.cells.len()),
            lanes: Vec::new(),
            chunk: socket_budget()?,
            open: 0,
            outcomes: vec![None; batch.cells.len()],
        })
    }

    fn launch_group(&mut self, group: usize, vantage: &mut Vantage) {
        for at in self.groups[group].cells.clone() {
            // A lane takes two descriptors.
            if self.flights.len() + 2 * self.lanes.len() >= self.chunk {
                self.end_chunk();
            }
            let place = self.order[at];
            let sent = match self.batch.cells[place].target {
                Target::Icmp { .. } => self.launch_ping(group, place),
                _ => self.launch_flight(place, vantage),
            };
            if let Err(errno) = sent {
                let sight = failure::no_socket(errno, "a probe");
                self.settle(place, Observation::of(self.batch.cells[place].id, sight));
            }
            if at % LAUNCH_BURST == LAUNCH_BURST - 1 {
                self.take_events(Duration::ZERO);
            }
        }
    }

    fn launch_flight(&mut self, place: usize, vantage: &mut Vantage) -> Result<(), Errno> {
        let cell = &self.batch.cells[place];
        loop {
            match Flight::start(
                place,
                cell,
                self.nonces.draw(),
                &mut vantage.ports,
                &mut self.scratch,
            ) {
                Start::Settled(observation) => {
                    self.mark_launched();
                    self.settle(place, observation);
                    return Ok(());
                }
                Start::NoFiles if self.flights.is_empty() => return Err(Errno::EMFILE),
                Start::NoFiles => self.end_chunk(),
                Start::Flying(flight) => {
                    self.mark_launched();
                    return self.watch(flight);
                }
            }
        }
    }

    fn watch(&mut self, flight: Flight) -> Result<(), Errno> {
        let event = EpollEvent::new(flight.interest(), self.flights.len() as u64);
        self.epoll.add(&flight.socket, event)?;
        self.flights.push(flight);
        self.open += 1;
        Ok(())
    }

    fn launch_ping(&mut self, group: usize, place: usize) -> Result<(), Errno> {
        let cell = &self.batch.cells[place];
        let Target::Icmp { address, payload } = cell.target else {
            return Ok(());
        };
        let v6 = address.is_ipv6();
        let lane = match self.lanes.iter().rposition(|lane| lane.serves(group, v6)) {
            Some(lane) => lane,
            None => self.open_lane(group, v6)?,
        };
        let nonce = self.nonces.draw();
        let failed =
            self.lanes[lane].send(place, cell.id, address, payload, nonce, &mut self.scratch);
        self.mark_launched();
        match failed {
            Some(observation) => self.settle(place, observation),
            None => self.open += 1,
        }
        Ok(())
    }

    fn open_lane(&mut self, group: usize, v6: bool) -> Result<usize, Errno> {
        let lane = Lane::open(group, v6, self.nonces.draw().0 as u16)?;
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        let place = self.lanes.len();
        self.epoll.add(
            lane.socket.as_fd(),
            EpollEvent::new(interest, LANE | place as u64),
        )?;
        self.lanes.push(lane);
        Ok(place)
    }

    fn mark_launched(&mut self) {
        self.launched = Instant::now();
        self.silence.launched(self.launched);
    }

    /// Listens until all of this chunk is settled or the shared silence has come.
    fn listen(&mut self) {
        while self.open > 0 {
            let remaining = self.silence.remaining(Instant::now());
            let heard = self.take_events(remaining);
            // What came in before the deadline counts, however late this process gets to read it; but an
            // endless chatter does not move the cap.
            if remaining.is_zero() && (heard == 0 || self.silence.is_capped(Instant::now())) {
                break;
            }
        }
        self.expire();
    }

    /// Waits at most `timeout` for events and works them off; returns how many there were.
    fn take_events(&mut self, timeout: Duration) -> usize {
        let mut events = mem::take(&mut self.events);
        let timeout = EpollTimeout::try_from(round_up(timeout)).unwrap_or(EpollTimeout::MAX);
        // An interrupted wait is one without events; the caller looks at the clock and waits again.
        let count = self.epoll.wait(&mut events, timeout).unwrap_or(0);
        for event in &events[..count] {
            self.take_event(event.data(), event.events());
        }
        self.events = events;
        if count > 0 {
            self.silence.heard(Instant::now());
        }
        count
    }

    fn take_event(&mut self, data: u64, ready: EpollFlags) {
        if data & LANE != 0 {
            return self.take_echoes((data & !LANE) as usize);
        }
        let Some(flight) = self.flights.get_mut(data as usize) else {
            return;
        };
        let place = flight.cell;
        if let Some(observation) =
            flight.advance(&self.batch.cells[place], ready, &mut self.scratch)
        {
            self.open -= 1;
            self.settle(place, observation);
        }
    }

    fn take_echoes(&mut self, lane: usize) {
        let mut seen = Vec::new();
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.advance(self.batch, &mut self.scratch, |place, observation| {
                seen.push((place, observation))
            });
        }
        for (place, observation) in seen {
            self.open -= 1;
            self.settle(place, observation);
        }
    }

    /// Ends the chunk: everything settled, its sockets closed, so that the next one has room.
    fn end_chunk(&mut self) {
        self.listen();
        drop(self.take_sockets());
    }

    /// Settles what is still open.
    fn expire(&mut self) {
        let mut late = Vec::new();
        for flight in &mut self.flights {
            late.extend(
                flight
                    .expire(&self.batch.cells[flight.cell])
                    .map(|seen| (flight.cell, seen)),
            );
        }
        for lane in &mut self.lanes {
            lane.expire(|place, sight| {
                late.push((place, Observation::of(self.batch.cells[place].id, sight)))
            });
        }
        let errors: usize = self.groups.iter().map(|group| group.icmp_errors).sum();
        for (place, mut observation) in late {
            let nearby = self.groups[self.group_of[place]].icmp_errors;
            observation.maybe_rate_limited =
                observation.sight == Sight::Silent && (nearby > 0 || errors >= ICMP_BURST);
            self.settle(place, observation);
        }
        self.open = 0;
    }

    fn settle(&mut self, place: usize, observation: Observation) {
        let by_icmp = match observation.sight {
            Sight::IcmpError { .. } => true,
            Sight::Refused => matches!(
                self.batch.cells[place].target,
                Target::Udp { .. } | Target::Dns { .. }
            ),
            _ => false,
        };
        self.groups[self.group_of[place]].icmp_errors += usize::from(by_icmp);
        self.outcomes[place] = Some(observation);
    }

    fn settle_group(&mut self, group: usize, sight: &Sight) {
        for at in self.groups[group].cells.clone() {
            let place = self.order[at];
            self.settle(
                place,
                Observation::of(self.batch.cells[place].id, sight.clone()),
            );
        }
    }

    /// A vantage may have gone while the pass ran; its silence then says nothing.
    fn doubt_dead_vantages(&mut self, vantages: &mut Vantages) {
        for group in 0..self.groups.len() {
            let places = self.groups[group].cells.clone().map(|at| self.order[at]);
            let unheard = |place: &usize| {
                let sight = self.outcomes[*place].as_ref().map(|outcome| &outcome.sight);
                matches!(sight, Some(Sight::Silent | Sight::Unreachable { .. }))
            };
            let unheard: Vec<_> = places.filter(unheard).collect();
            let id = &self.groups[group].vantage;
            if unheard.is_empty()
                || vantages
                    .get_mut(id)
                    .is_some_and(|vantage| vantage.is_alive())
            {
                continue;
            }
            let sight = Sight::Inconclusive {
                reason: Doubt::NoVantage,
                detail: gone(id),
            };
            for place in unheard {
                self.outcomes[place] =
                    Some(Observation::of(self.batch.cells[place].id, sight.clone()));
            }
        }
    }

    fn take_sockets(&mut self) -> Vec<Keep> {
        let lanes = mem::take(&mut self.lanes).into_iter().map(Lane::into_keep);
        mem::take(&mut self.flights)
            .into_iter()
            .map(Flight::into_keep)
            .chain(lanes)
            .collect()
    }

    fn finish(mut self) -> Pass {
        let sockets = self.take_sockets();
        let unsettled = || Sight::Inconclusive {
            reason: Doubt::NeverLeft,
            detail: "the pass left it out".into(),
        };
        let observations = self
            .batch
            .cells
            .iter()
            .zip(self.outcomes)
            .map(|(cell, outcome)| outcome.unwrap_or_else(|| Observation::of(cell.id, unsettled())))
            .collect();
        Pass {
            observations,
            launched: self.launched.duration_since(self.started),
            took: self.started.elapsed(),
            _sockets: sockets,
        }
    }
}

/// Sorts the cells by vantage, in the order in which the vantages first appear.
fn grouped(cells: &[Cell]) -> (Vec<usize>, Vec<Group>, Vec<usize>) {
    let mut number = std::collections::HashMap::new();
    let group_of: Vec<usize> = cells
        .iter()
        .map(|cell| {
            let next = number.len();
            *number.entry(&cell.from).or_insert(next)
        })
        .collect();
    let mut order: Vec<usize> = (0..cells.len()).collect();
    order.sort_by_key(|place| group_of[*place]);
    let mut groups: Vec<Group> = Vec::with_capacity(number.len());
    for (at, place) in order.iter().enumerate() {
        if groups.len() == group_of[*place] {
            groups.push(Group {
                vantage: cells[*place].from.clone(),
                cells: at..at,
                icmp_errors: 0,
            });
        }
        if let Some(group) = groups.last_mut() {
            group.cells.end = at + 1;
        }
    }
    (order, groups, group_of)
}

/// How many sockets one chunk may hold.
fn socket_budget() -> io::Result<usize> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let taken = std::fs::read_dir("/proc/self/fd")?.count() as u64;
    let free = soft
        .saturating_sub(taken + SPARE_FILES)
        .clamp(2, MOST_SOCKETS);
    Ok(usize::try_from(free).unwrap_or(usize::MAX))
}

/// Epoll counts in milliseconds; rounded down, the last one would be spent spinning.
fn round_up(timeout: Duration) -> Duration {
    Duration::from_millis(
        timeout
            .as_micros()
            .div_ceil(1000)
            .try_into()
            .unwrap_or(u64::MAX),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_grouped_by_vantage_and_keep_their_order() {
        let cell = |id: u32, from: &str| Cell {
            id,
            from: from.into(),
            target: Target::Icmp {
                address: [127, 0, 0, 1].into(),
                payload: 0,
            },
        };
        let cells = [
            cell(1, "b"),
            cell(2, "a"),
            cell(3, "b"),
            cell(4, "c"),
            cell(5, "a"),
        ];
        let (order, groups, group_of) = grouped(&cells);
        assert_eq!(order, [0, 2, 1, 4, 3]);
        assert_eq!(group_of, [0, 1, 0, 2, 1]);
        let spans: Vec<_> = groups
            .iter()
            .map(|group| (group.vantage.as_str(), group.cells.clone()))
            .collect();
        assert_eq!(spans, [("b", 0..2), ("a", 2..4), ("c", 4..5)]);
    }

    #[test]
    fn waits_are_never_rounded_down() {
        assert_eq!(round_up(Duration::from_micros(1)), Duration::from_millis(1));
        assert_eq!(
            round_up(Duration::from_micros(2000)),
            Duration::from_millis(2)
        );
        assert_eq!(round_up(Duration::ZERO), Duration::ZERO);
    }
}
