//! The first process of a step's container: mlctl itself, which starts the step's command there.
//!
//! With the command itself as process 1, TERM would not end it, nobody would reap what it leaves, its end by a signal
//! would look like an exit status, and its variables would stand in the container's configuration for everyone to
//! read. So an [`Order`] comes by the standard input, of which the other end is mlctl's: when that closes, mlctl is
//! gone, and everything here ends. What the command writes goes to the standard output, both streams, so that their
//! order is kept; what there is to say about it goes to the standard error, a [`News`] each line.

mod pid1;

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use pid1::main;

/// The hidden first argument that makes a program of mlctl's a container's first process.
pub const ARGUMENT: &str = "__init";

/// A byte after the order: TERM to all processes. When they are gone, the container ends.
pub const TERMINATE: u8 = b'T';

/// A byte after the order: KILL to all processes.
pub const KILL: u8 = b'K';

/// What to run.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    argv: Vec<Text>,
    env: Vec<(Text, Text)>,
    directory: Text,
}

impl Order {
    /// To run `argv` in `directory` with these variables and no others.
    pub fn new(argv: Vec<OsString>, env: Vec<(OsString, OsString)>, directory: &Path) -> Self {
        Self {
            argv: argv.into_iter().map(Text::from).collect(),
            env: env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            directory: directory.as_os_str().to_owned().into(),
        }
    }

    /// As it is sent: the length of the rest in four bytes, then JSON.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 4];
        serde_json::to_writer(&mut bytes, self)?;
        let length = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        Ok(bytes)
    }

    /// Reads what [`Order::to_bytes`] made.
    fn read(mut from: impl io::Read) -> io::Result<Self> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let mut text = vec![0; u32::from_be_bytes(length) as usize];
        from.read_exact(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    fn directory(&self) -> PathBuf {
        OsString::from(self.directory.clone()).into()
    }
}

/// What a container says about its command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum News {
    /// It runs.
    Started,
    /// It could not be started, for this reason.
    NotStarted(String),
    /// It ended.
    Ended {
        /// How.
        how: How,
        /// How long it ran.
        millis: u64,
        /// Whether the system killed any process of the container because memory was short.
        out_of_memory: bool,
        /// Whether nothing else runs in the container any more.
        alone: bool,
    },
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// With this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

/// A string of the system in JSON: mostly it is text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Utf8(String),
    Bytes(Vec<u8>),
}

impl From<OsString> for Text {
    fn from(text: OsString) -> Self {
        text.into_string().map_or_else(|other| Self::Bytes(other.into_vec()), Self::Utf8)
    }
}

impl From<Text> for OsString {
    fn from(text: Text) -> Self {
        match text {
            Text::Utf8(text) => text.into(),
            Text::Bytes(bytes) => Self::from_vec(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_arrives_as_it_was_sent_whatever_bytes_it_holds() {
        let any = OsString::from_vec(b"\xff\"\n".to_vec());
        let order = Order::new(vec!["echo".into(), any.clone()], vec![("X".into(), any)], Path::new("/a b"));
        let mut bytes = order.to_bytes().unwrap();
        bytes.push(TERMINATE);
        let mut rest = bytes.as_slice();
        assert_eq!(Order::read(&mut rest).unwrap(), order);
        assert_eq!(rest, [TERMINATE]);
    }

    #[test]
    fn half_an_order_is_none() {
        let order = Order::new(vec!["true".into()], Vec::new(), Path::new("/"));
        let bytes = order.to_bytes().unwrap();
        assert!(Order::read(&bytes[..bytes.len() - 1]).is_err());
    }
}
