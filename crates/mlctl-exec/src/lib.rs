//! What runs one step: the store, its sources and inputs, the executor.

pub mod gc;
pub mod hash;
pub mod manifest;
pub mod sources;
pub mod store;
