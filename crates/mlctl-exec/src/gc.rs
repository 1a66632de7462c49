//! Collecting garbage.
