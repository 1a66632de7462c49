//! `requires-mlctl`, judged before anything else in the file: a newer file may have a newer grammar.

use semver::{Version, VersionReq};
use toml::de::DeTable;

use crate::diag::{Diag, Span};

/// What speaks against reading the file, if anything.
pub(super) fn judge(file: &DeTable<'_>, own: &str) -> Option<Diag> {
    let requirement = file.get("project")?.get_ref().as_table()?.get("requires-mlctl")?;
    let span = Span::from(requirement.span());
    let help = "write it as \">=0.1\" or \">=0.3, <1\"";
    let Some(text) = requirement.get_ref().as_str() else {
        return Some(Diag::error("wrong-type", span, "`requires-mlctl` must be a string").help(help));
    };
    let Ok(range) = VersionReq::parse(text) else {
        return Some(Diag::error("bad-version", span, "`requires-mlctl` is not a range of versions").help(help));
    };
    let own = Version::parse(own).ok()?;
    if range.matches(&own) {
        return None;
    }
    let message = format!("this file needs mlctl {text}, and this is mlctl {own}");
    Some(Diag::error("requires-mlctl", span, message).help("install a version of mlctl that it allows"))
}
