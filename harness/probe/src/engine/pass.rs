//! One pass over a batch: namespace by namespace the cells are gathered into chunks that fit the limit of open
//! files; a batch that fits is one chunk, and so costs one silence.

use std::io;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};

use super::chunk::{Chunk, NoPlace};
use super::outcomes::Outcomes;
use super::vantage::{Vantage, Vantages};
use super::{Pass, gone};
use crate::echo::Nonces;
use crate::wire::{Batch, Doubt, Observation, Sight, VantageId};

/// Descriptors left free for whatever else this process opens.
const SPARE_FILES: u64 = 24;
/// Sockets in one chunk at most, whatever the limit of open files.
const MOST_SOCKETS: u64 = 16 << 10;

pub(super) fn run(batch: &Batch, vantages: &mut Vantages, nonces: &mut Nonces) -> Pass {
    let started = Instant::now();
    let chunk = socket_budget().and_then(|limit| Ok(Chunk::new(batch, limit)?));
    let mut chunk = match chunk {
        Ok(chunk) => chunk,
        Err(error) => return nothing_left(batch, &error),
    };
    let mut outcomes = Outcomes::of(batch);
    for group in 0..outcomes.groups() {
        let id = outcomes.vantage(group).clone();
        match ready(vantages.get_mut(&id), &id) {
            Ok(vantage) => gather(group, batch, vantage, &mut chunk, &mut outcomes, nonces),
            Err(sight) => {
                for place in outcomes.places(group) {
                    outcomes.settle(place, Observation::of(batch.cells[place].id, sight.clone()));
                }
            }
        }
    }
    chunk.run(batch, &mut outcomes, nonces);
    doubt_the_dead(batch, vantages, &mut outcomes);
    Pass {
        observations: outcomes.into_observations(batch),
        launched: chunk.launched().duration_since(started),
        took: started.elapsed(),
        _sockets: chunk.take_sockets(),
    }
}

/// Adds a group's cells to the chunk, from within their namespace; runs the chunk whenever it is full.
fn gather(
    group: usize,
    batch: &Batch,
    vantage: &mut Vantage,
    chunk: &mut Chunk,
    outcomes: &mut Outcomes,
    nonces: &mut Nonces,
) {
    for place in outcomes.places(group) {
        let cell = &batch.cells[place];
        loop {
            match chunk.add(place, &cell.target, group, &mut vantage.ports, nonces) {
                Ok(()) => break,
                Err(NoPlace::Because(sight)) => {
                    outcomes.settle(place, Observation::of(cell.id, sight));
                    break;
                }
                Err(NoPlace::Full) => {
                    chunk.run(batch, outcomes, nonces);
                    drop(chunk.take_sockets());
                }
            }
        }
    }
}

/// The vantage, entered.
fn ready<'a>(vantage: Option<&'a mut Vantage>, id: &VantageId) -> Result<&'a mut Vantage, Sight> {
    let no_vantage = |detail| Sight::Inconclusive { reason: Doubt::NoVantage, detail };
    let vantage = vantage.ok_or_else(|| no_vantage(format!("no vantage `{id}` is attached")))?;
    if !vantage.is_alive() {
        return Err(no_vantage(gone(id)));
    }
    vantage.enter().map_err(|error| no_vantage(format!("cannot enter the namespace of `{id}`: {error}")))?;
    Ok(vantage)
}

/// A vantage may have gone while the pass ran.
fn doubt_the_dead(batch: &Batch, vantages: &mut Vantages, outcomes: &mut Outcomes) {
    for group in 0..outcomes.groups() {
        let id = outcomes.vantage(group).clone();
        let alive = |vantages: &mut Vantages| vantages.get_mut(&id).is_none_or(|v| v.is_alive());
        if outcomes.has_unheard(group) && !alive(vantages) {
            for place in outcomes.places(group) {
                outcomes.doubt(place, batch.cells[place].id, &gone(&id));
            }
        }
    }
}

fn nothing_left(batch: &Batch, error: &io::Error) -> Pass {
    let sight = Sight::Inconclusive { reason: Doubt::NeverLeft, detail: format!("cannot start a pass: {error}") };
    let cells = batch.cells.iter();
    Pass {
        observations: cells.map(|cell| Observation::of(cell.id, sight.clone())).collect(),
        launched: Duration::ZERO,
        took: Duration::ZERO,
        _sockets: Vec::new(),
    }
}

/// How many sockets one chunk may hold.
fn socket_budget() -> io::Result<usize> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let taken = std::fs::read_dir("/proc/self/fd")?.count() as u64;
    let free = soft.saturating_sub(taken + SPARE_FILES).clamp(2, MOST_SOCKETS);
    Ok(usize::try_from(free).unwrap_or(usize::MAX))
}
