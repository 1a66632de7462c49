//! What runs one step: the store, its sources and inputs, the executor.

pub mod bundle;
mod cancel;
pub mod executor;
mod family;
pub mod gc;
pub mod hash;
pub mod manifest;
mod redact;
mod slot;
pub mod sources;
mod spawn;
pub mod store;

pub use cancel::Cancel;
pub use executor::{Executor, Place, Realised, Report};
