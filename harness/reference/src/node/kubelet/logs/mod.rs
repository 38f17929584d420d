//! What containers write: captured, kept in files in the format of the container runtime interface, read back.

pub mod capture;
pub mod cri;
pub mod read;
