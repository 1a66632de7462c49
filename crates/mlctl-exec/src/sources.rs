//! The project's sources.
