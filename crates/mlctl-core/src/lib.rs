//! What a workflow *means*. Nothing in this crate reads a file, a clock or the network: text and digests go in,
//! plans, decisions and events come out. The binary and the executor do the I/O.
//!
//! The data flows one way: spec (as written) -> [`workflow`] (validated) -> plan -> scheduler -> [`event`]s.

pub mod action;
pub mod condition;
pub mod context;
pub mod diag;
pub mod digest;
pub mod event;
pub mod forecast;
pub mod gate;
pub mod graph;
pub mod key;
pub mod params;
pub mod plan;
pub mod records;
pub mod scheduler;
pub mod schema;
pub mod spec;
pub mod submission;
pub mod template;
pub mod units;
pub mod value;
pub mod workflow;

pub use graph::instance_id;
