//! Engines: where the instances of a plan run.

mod gpus;
pub(crate) mod local;
