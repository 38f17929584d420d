

pub mod api;
