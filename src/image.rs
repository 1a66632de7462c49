//! Environments as images.

#![allow(dead_code, reason = "nothing builds yet")]

pub(crate) mod context;
mod ignore;
pub(crate) mod registry;
