//! Templates to texts. Each stays within its own argument, whatever bytes the values hold.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use mlctl_core::template::{Piece, Template};

/// What `{{ inputs.x }}` and `{{ outputs.x }}` stand for in one attempt.
#[derive(Debug, Default)]
pub(crate) struct Paths<'a> {
    /// A path or a value's text. Inputs for which nothing was produced are not here.
    pub(crate) inputs: HashMap<&'a str, OsString>,
    /// Where the program has to write.
    pub(crate) outputs: HashMap<&'a str, PathBuf>,
}

/// `template` as one argument. What has no meaning here renders empty: the scheduler binds all but paths beforehand.
pub(crate) fn template(template: &Template, paths: &Paths) -> OsString {
    let mut text = OsString::new();
    for piece in &template.0 {
        match piece {
            Piece::Text(literal) => text.push(literal),
            Piece::Input(name) => {
                text.push(paths.inputs.get(name.as_str()).map_or("".as_ref(), |path| path.as_os_str()))
            }
            Piece::Output(name) => {
                text.push(paths.outputs.get(name.as_str()).map_or("".as_ref(), |path| path.as_os_str()))
            }
            Piece::Param(_) | Piece::Matrix(_) | Piece::RunId | Piece::RunStatus => {}
        }
    }
    text
}
