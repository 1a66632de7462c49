//! The scheduler driven by hand and by chance.

mod chance;
mod flow;
mod oracle;
mod random;
mod simple;
mod simulation;
mod world;
