//! A server that cannot be reached for a while. With a store in a directory there is none.

use std::io::copy;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use mlctl_core::event::Status;
use mlctl_core::records::Mark;

use super::bench::Bench;
use super::play::until;

/// What stands between pods and the server.
struct Cable {
    url: String,
    cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cable {
    fn to(server: &str) -> Self {
        let server = server.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (cut, open) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (is_cut, all) = (cut.clone(), open.clone());
        thread::spawn(move || {
            for near in listener.incoming().flatten().filter(|_| !is_cut.load(Ordering::Relaxed)) {
                let far = TcpStream::connect(&server).unwrap();
                all.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                    thread::spawn(move || {
                        let _ = copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { url, cut, open }
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
        self.open.lock().unwrap().drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }

    fn mend(&self) {
        self.cut.store(false, Ordering::Relaxed);
    }
}

/// Its second attempt ends.
const SPEC: &str = r#"
    [steps.a]
    script = 'echo begun; until test -e "$GATE" -o "$MLCTL_ATTEMPT" = 2; do sleep 0.01; done; echo > "$MLCTL_OUTPUT_O"'
    outputs.o = {}
    env.GATE = "/dev/shm/mlctl-{{ run.id }}-NUMBER"
    "#;

#[test]
fn a_server_is_waited_for_but_not_for_ever() {
    let bench = Bench::new();
    let Some(server) = std::env::var("AWS_ENDPOINT_URL").ok().filter(|_| !bench.is_here()) else { return };
    let cable = Cable::to(&server);
    let run = bench.submit(&SPEC.replace("NUMBER", &std::process::id().to_string()));
    let gate = format!("/dev/shm/mlctl-{}-{}", run.id, std::process::id());

    let pod = run.pod_at(&cable.url, 2, "a", 0, 0);
    until("the step runs", || !run.log("a", 1).is_empty());
    cable.cut();
    std::fs::write(&gate, "").unwrap();
    // Longer than it is waited for.
    let ended = pod.run_to_its_end();
    assert_eq!(ended, 3);
    std::fs::remove_file(&gate).unwrap();
    cable.mend();
    let pod = run.pod_at(&cable.url, 60, "a", 0, 1);
    until("the second attempt runs", || bench.remote.record(&run.id, &Mark::Started(2).name("a")).unwrap().is_some());
    cable.cut();
    thread::sleep(Duration::from_secs(3));
    cable.mend();
    assert_eq!(pod.wait().code, 0);
    assert_eq!((run.status("a"), run.attempts("a")), (Status::Succeeded, 2));
}
