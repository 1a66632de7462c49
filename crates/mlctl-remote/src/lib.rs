//! The store that machines share: results and objects in a bucket of S3 or anything compatible, Google Cloud Storage,
//! Azure Blob Storage, or in a directory.
//!
//! ```text
//! <url>/format                 `mlctl remote store 1`
//! <url>/objects/ab/abcd...     the content of a file, named by its BLAKE3
//! <url>/trees/ab/abcd...       what a directory or a source tree holds, and where its small files are (see `tree`)
//! <url>/packs/ab/abcd...       many small files one after the other, named by the BLAKE3 of all
//! <url>/actions/ab/abcd...     the result of one key, put only if there is none
//! <url>/runs/<run>/...         records of a run
//! ```
//!
//! **Order.** What is named is there before what names it: packs and objects, then trees, then results. So a push that
//! is cut off leaves objects that the next one finds, and never a result without its objects. That an object is missing
//! all the same (somebody cleaned the bucket) is a miss, never an error.
//!
//! **Trust.** Nothing that comes from there is taken for what its name says before its BLAKE3 has been computed.
//!
//! **Memory.** All that is held of objects on their way is at most [`Options::memory`] bytes, whatever their number and
//! size (but a file of more than 80 GB is sent in parts of a ten-thousandth of it, one at a time where need be); names
//! and manifests come on top: some 200 bytes for each file of a directory.

mod aws;
mod bucket;
mod connect;
mod directory;
mod download;
mod entry;
mod error;
mod location;
mod memory;
mod names;
mod pack;
mod partial;
mod pull;
mod push;
mod records;
mod remote;
mod results;
mod tree;
mod upload;

pub use connect::Options;
pub use error::{ErrorKind, RemoteError};
pub use location::{Location, Service};
pub use pull::{Pull, Pulled};
pub use push::{Push, Pushed};
pub use remote::{Amount, Remote, Watch};
