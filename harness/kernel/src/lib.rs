//! The one door to Linux: network namespaces, links and routes over rtnetlink, packet rules over nf_tables,
//! mounts, pseudo terminals and the passing of file descriptors.
//!
//! Nothing here knows Kubernetes, scenarios or verdicts. Everything `unsafe` in the workspace is in this crate.

pub mod channel;
pub mod child;
pub mod folder;
pub mod fragments;
pub mod inherit;
pub mod link;
mod link_flags;
pub mod nft;
pub mod ns;
pub mod offload;
pub mod own_root;
pub mod packet;
mod polled;
pub mod pty;
pub mod route;
pub mod sandbox;
pub mod space;
pub mod terminal;
