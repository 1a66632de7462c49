//! What a baked image says of itself: there the programs of one environment are this machine's own.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use mlctl_exec::Realised;
use serde::{Deserialize, Serialize};

/// The file, beside the directory of mlctl's own program.
pub(crate) const FILE_NAME: &str = "baked.json";

/// The environment whose image mlctl was baked into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Baked {
    /// Its name.
    pub(crate) environment: String,
    /// The id of its image.
    pub(crate) id: String,
    /// The variables of its image.
    pub(crate) variables: BTreeMap<String, String>,
}

impl Baked {
    /// Its programs are there already.
    pub(super) fn realised(&self) -> Realised {
        Realised { base: self.variables.clone(), ..Realised::default() }
    }
}

/// What this mlctl was baked into, if it is this environment's image.
pub(super) fn baked(environment: &str) -> Option<&'static Baked> {
    static FOUND: OnceLock<Option<Baked>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let program = std::env::current_exe().ok()?;
        let text = std::fs::read(program.parent()?.parent()?.join(FILE_NAME)).ok()?;
        serde_json::from_slice(&text).ok()
    });
    found.as_ref().filter(|baked| baked.environment == environment)
}
