//! What runs one step: the store, its sources and inputs, the executor.

pub mod bundle;
mod cancel;
pub mod executor;
mod family;
pub mod gc;
pub mod hash;
pub mod init;
mod logs;
pub mod manifest;
mod memory;
pub mod redact;
pub mod sandbox;
mod slot;
pub mod sources;
mod spawn;
pub mod stamps;
pub mod store;
pub mod warden;

pub use cancel::Cancel;
pub use executor::{Ended, Executor, Launch, Place, Realised, Report};
pub use logs::Log;
pub use warden::Warden;
