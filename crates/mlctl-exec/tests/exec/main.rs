//! The executor, driven as an engine drives it: real commands, a real store.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

mod basics;
mod confinement;
mod crowd;
mod endings;
mod faults;
mod orphans;
mod redaction;
mod support;
