//! Connections to what lies outside: the machine's Pythons, the network, Docker, kind.

pub(crate) mod docker;
pub(crate) mod http;
pub(crate) mod kind;
pub(crate) mod kube;
pub(crate) mod machine;
pub(crate) mod python;
