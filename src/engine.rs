//! Engines: where the instances of a plan run.

pub(crate) mod docker;
mod gpus;
pub(crate) mod local;
