//! That the context `cloud` is as unlike a laptop as a real one.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;

use super::{Machine, Turn, bed, own_cluster};
use crate::faults::says;
use crate::support::Start;

#[test]
fn a_user_of_the_cloud_may_do_what_is_documented_and_no_more() {
    let (Some(cloud), Some(_)) = (bed("cloud"), own_cluster()) else { return };
    let may = |action: &str| cloud.kubectl().args(["auth", "can-i"]).args(action.split(' ')).ended().code == 0;
    for action in ["create workflows", "patch workflows", "delete pods", "list events"] {
        assert!(may(action), "{action}");
    }
    for action in ["get secrets", "create pods", "get nodes", "list namespaces", "create rolebindings"] {
        assert!(!may(action), "{action}");
    }
    assert!(!may("list pods --all-namespaces"));
}

#[test]
fn no_pod_reaches_this_machine() {
    let (Some(cloud), Some(cluster)) = (bed("cloud"), own_cluster()) else { return };
    let _turn = Turn::beside_others();
    let server = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let addresses = Command::new("hostname").arg("-I").ended().stdout;
    let addresses: Vec<Ipv4Addr> = addresses.split_whitespace().filter_map(|address| address.parse().ok()).collect();
    // From here it can be reached.
    assert!(!addresses.is_empty() && addresses.iter().all(|address| TcpStream::connect((*address, port)).is_ok()));
    let ours = addresses.iter().map(|address| format!("{address}/{port}"));
    let places: Vec<String> = ours.chain([format!("{cluster}-s3/9000")]).collect();
    let spec = format!(
        "[project]\nname = \"reaches\"\n[steps.one]\nscript = '''\nfor place in {}; do\n  timeout 10 bash -c \": \
         </dev/tcp/$place\" && echo \"reached $place\"\ndone\n'''\n",
        places.join(" ")
    );
    let machine = Machine::new(&cloud, &spec);
    says(&machine.run(&["run"]), 0, &[]);
    let log = machine.run(&["logs", "one"]).stdout;
    let reached: Vec<&str> = log.lines().filter(|line| line.starts_with("reached ")).collect();
    assert_eq!(reached, [format!("reached {cluster}-s3/9000")], "{log}");
}
