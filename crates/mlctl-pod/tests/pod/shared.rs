//! All of it once more, with a store on an S3 server.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::bench::STORE;

#[test]
fn all_of_it_with_a_store_on_a_server() {
    if std::env::var_os(STORE).is_some() {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/testbed/s3");
    let wanted = std::env::var_os("MLCTL_TEST_S3").is_some_and(|value| value == "1");
    let built = Command::new(&script).arg(if wanted { "--build" } else { "--is-built" }).status().unwrap();
    assert!(built.success() || !wanted, "the S3 server cannot be built");
    if !built.success() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("data/mlctl-test")).unwrap();
    let mut server = Command::new(script).arg(dir.path()).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut url = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.env(STORE, "s3://mlctl-test/pods").env("AWS_ENDPOINT_URL", url.trim()).env("AWS_REGION", "us-east-1");
    again.env("AWS_ACCESS_KEY_ID", "testbed").env("AWS_SECRET_ACCESS_KEY", "testbed-secret");
    let filter: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.contains("all_of_it")).collect();
    let ended = again.args(filter).output().unwrap();
    // The script kills the server when it dies.
    server.kill().unwrap();
    server.wait().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && said.contains(" passed"), "{said}");
}
