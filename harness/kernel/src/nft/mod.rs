//! Packet rules: the kernel's nf_tables, spoken over netlink.
//!
//! A [`Table`] is a value that says what a table holds: sets, chains, rules. A [`Batch`] is one atomic transaction;
//! [`Nft`] sends it and reads rules, counters and elements back. A [`Program`] owns one table of the kernel and
//! brings it from what it was to what is wanted with the smallest transaction.
//!
//! Nothing here knows what the rules are for. No outside program is run and no library is linked.
//!
//! ```no_run
//! use cknet_kernel::nft::{Base, Batch, Chain, Family, Nft, Protocol, Rule, Table};
//!
//! let table = Table::new(Family::Inet, "example").with_chain(
//!     Chain::base("input", Base::input(0))
//!         .with_rule(Rule::new().protocol(Protocol::UDP).dport(4789).counter().drop().comment("no tunnel")),
//! );
//! let mut batch = Batch::new();
//! batch.replace(&table);
//! Nft::open()?.send(batch)?;
//! # Ok::<(), cknet_kernel::nft::NftError>(())
//! ```

mod batch;
mod change;
mod dump;
mod error;
mod expression;
mod field;
mod program;
mod ranges;
mod rule;
mod set;
mod socket;
mod table;
mod wire;

pub use batch::Batch;
pub use change::Change;
pub use dump::{Counter, LiveChain, LiveElement, LiveRule};
pub use error::{NftError, Refusal};
pub use field::{AddressType, CtState, CtStatus, Direction, FibAddress, Field, KeyType, Protocol, Value};
pub use program::{Applied, Program};
pub use ranges::AddressRanges;
pub use rule::{Lookup, Reject, Rule, Statement, Verdict};
pub use set::{Elements, Key, Set, SetKind};
pub use socket::Nft;
pub use table::{Base, Chain, ChainKind, Family, Hook, Policy, Table, priority};
