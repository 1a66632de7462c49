//! The scheduler driven by hand and by chance.

mod flow;
mod simple;
