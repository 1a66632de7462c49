//! What is told while images are made ready. The view shows it; nothing depends on it.

use std::time::Duration;

use super::Origin;

/// What happens to the image of one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// Another mlctl makes the same; it is waited for.
    Waiting,
    /// The image is fetched from a registry: a layer, and how far it is.
    Pulling(&'a str),
    /// The image is sent to a registry: a layer, and how far it is.
    Pushing(&'a str),
    /// The registry has the image; so many bytes were sent.
    Pushed(u64),
    /// So many bytes of the build context have been sent.
    Sending(u64),
    /// So many bytes of the image have been sent to a cluster's node.
    Loading(u64),
    /// The cluster's nodes have the image.
    Loaded {
        /// Bytes that were sent.
        sent: u64,
        /// Bytes of layers that were there.
        left_out: u64,
    },
    /// A stage's step begins.
    Step {
        /// What it is known by.
        id: &'a str,
        /// As a person reads it: `[2/4] RUN apt-get update`.
        name: &'a str,
    },
    /// A step is over.
    Ended {
        /// What it is known by.
        id: &'a str,
        /// As a person reads it.
        name: &'a str,
        /// How.
        end: End,
    },
    /// How far a part of a step is: `extracting sha256:... 3 / 10 MB`.
    Status {
        /// The step's id.
        id: &'a str,
        /// The text.
        text: &'a str,
    },
    /// What a step printed.
    Output {
        /// The step's id.
        id: &'a str,
        /// Some of it, cut anywhere.
        text: &'a [u8],
    },
    /// The image is there.
    Ready(Origin),
    /// Something that people should know, once.
    Warning(&'a str),
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It was done before.
    Cached,
    /// It took so long.
    Done(Duration),
    /// It failed.
    Failed,
}

/// Told what happens, with the environment's name; from any thread.
pub(crate) type Watch<'a> = dyn Fn(&str, Event<'_>) + Sync + 'a;
