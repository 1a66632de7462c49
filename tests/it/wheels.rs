//! A package index of our own, so that tests need no network: a directory of tiny wheels.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Writes a wheel: name, version, directory, requirements. Its module has `VERSION`.
const WRITE: &str = r#"
import sys, zipfile
name, version, directory, *requires = sys.argv[1:]
info = f"{name}-{version}.dist-info"
metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(f"Requires-Dist: {r}\n" for r in requires)
with zipfile.ZipFile(f"{directory}/{name}-{version}-py3-none-any.whl", "w") as wheel:
    wheel.writestr(f"{name}.py", f"VERSION = {version!r}\n")
    wheel.writestr(f"{info}/METADATA", metadata)
    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in wheel.namelist()) + f"{info}/RECORD,,\n")
"#;

/// Adds `name==version`, which needs `requires`, to the index in `directory`.
pub(crate) fn add(directory: &Path, name: &str, version: &str, requires: &[&str]) {
    fs::create_dir_all(directory).unwrap();
    let mut python = Command::new("python3");
    python.args(["-I", "-c", WRITE, name, version]).arg(directory).args(requires);
    assert!(python.status().unwrap().success());
}

/// The Python that mlctl finds when a spec declares none, as a spec declares it.
pub(crate) fn python_version() -> String {
    let mut python = Command::new("python3");
    python.args(["-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]);
    String::from_utf8(python.output().unwrap().stdout).unwrap().trim().to_owned()
}
