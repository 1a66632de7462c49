//! Connections to what lies outside: the machine's Pythons, the network, Docker.

#[allow(dead_code, reason = "its users are on their way")]
pub(crate) mod docker;
pub(crate) mod http;
pub(crate) mod machine;
pub(crate) mod python;
