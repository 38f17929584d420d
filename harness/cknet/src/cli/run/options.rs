//! What `cknet run` can be told: which scenarios, on what, and in which manner.

use std::time::Duration;

use super::reports::Reports;
use crate::cli::place::Place;
use crate::cli::product::Product;
use crate::cli::{Selection, keep};
use crate::plan::Partition;

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub selection: Selection,
    /// Only one share of the scenarios, by the hash of their ids: `hash:2/3` is the second of three.
    #[arg(long, value_name = "hash:I/N")]
    pub partition: Option<Partition>,
    #[command(flatten)]
    pub product: Product,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub manner: Manner,
}

/// How scenarios are run, whichever they are.
#[derive(Debug, clap::Args)]
pub struct Manner {
    /// Decides about the order of scenarios; chosen by the clock and printed unless given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Leave clusters running after their scenarios until Ctrl-C, to look at them with `cknet shell` or kubectl.
    #[arg(long)]
    pub keep: bool,
    /// Take them down by itself after so long a time: 30m, 4h.
    #[arg(long, value_name = "TIME", requires = "keep", value_parser = keep::time)]
    pub keep_for: Option<Duration>,
    /// How many clusters may exist at once; unless given the number of processors, and one of virtual machines or of a
    /// real distribution.
    #[arg(long, value_name = "N")]
    pub clusters: Option<usize>,
    /// Run so many times, each time in another order, and say at the end what was not the same each time.
    #[arg(long, value_name = "N", conflicts_with = "keep", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: Option<u32>,
    /// Stop as soon as an expectation is refuted, also with `--repeat`.
    #[arg(long, conflicts_with = "keep")]
    pub fail_fast: bool,
    #[command(flatten)]
    pub reports: Reports,
}
