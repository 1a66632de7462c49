//! Everything that is tested through the binary `mlctl`, in one test program: one link.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod authorities;
mod cli;
mod cluster;
mod completion;
mod conformance;
mod docker;
mod docs;
mod doctor;
mod downloads;
mod environments;
mod faults;
mod first_process;
mod live;
mod lock;
mod manifests;
mod remote;
mod support;
mod wheels;
