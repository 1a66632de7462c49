//! Everything that is tested through the binary `mlctl`, in one test program: one link.

mod cli;
mod completion;
mod support;
