//! Engines: where the instances of a plan run.

pub(crate) mod local;
