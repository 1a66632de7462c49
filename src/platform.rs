//! Connections to what lies outside: the machine's Pythons, the network, Docker.

pub(crate) mod docker;
pub(crate) mod http;
pub(crate) mod machine;
pub(crate) mod python;
