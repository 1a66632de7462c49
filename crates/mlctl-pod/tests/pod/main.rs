//! Runs worked through by `mlctl-exec` as in pods, each a pair of processes, without a cluster: [`play`] is what starts
//! them in its place. All of it with a store in a directory, and once more with one on an S3 server.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bench;
mod large;
mod lost;
mod outage;
mod play;
mod shapes;
mod shared;
