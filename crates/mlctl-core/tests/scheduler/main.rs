//! The scheduler driven by hand and by chance.

mod chance;
mod flow;
mod forecasts;
mod keys;
mod oracle;
mod plans;
mod pods;
mod random;
mod shares;
mod simple;
mod simulation;
mod submissions;
mod units;
mod world;
