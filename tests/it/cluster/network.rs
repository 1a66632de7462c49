//! The network between this machine and a cluster with its store, which a test can cut: what is sent meanwhile arrives
//! when it is mended.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::Bed;

/// All that a context's user reaches the cluster and the store by.
pub(super) struct Network {
    bed: Bed,
    is_cut: Arc<AtomicBool>,
    /// Holds the kubeconfig.
    _dir: TempDir,
}

impl Network {
    /// One on the way to a context's cluster and store.
    pub(super) fn new(bed: &Bed) -> Self {
        let (mut bed, dir) = (bed.clone(), tempfile::tempdir().unwrap());
        let is_cut = Arc::new(AtomicBool::new(false));
        let kubeconfig = fs::read_to_string(&bed.environment["KUBECONFIG"]).unwrap();
        let server = bed.kube(&["config", "view", "--minify", "--output", "jsonpath={.clusters[0].cluster.server}"]);
        let file = dir.path().join("kubeconfig");
        let by_here = kubeconfig.replace(&server, &format!("https://{}", way(&server, &is_cut)));
        assert_ne!(by_here, kubeconfig);
        fs::write(&file, by_here).unwrap();
        bed.environment.insert("KUBECONFIG".to_owned(), file.display().to_string());
        let store = bed.environment.get_mut("AWS_ENDPOINT_URL").unwrap();
        *store = format!("http://{}", way(store, &is_cut));
        Self { bed, is_cut, _dir: dir }
    }

    /// The context, reached by this network.
    pub(super) fn bed(&self) -> Bed {
        self.bed.clone()
    }

    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }

    pub(super) fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

/// An address that leads to the server of a URL. Its threads end with the test program.
fn way(url: &str, is_cut: &Arc<AtomicBool>) -> String {
    let (_, server) = url.split_once("://").unwrap();
    let (server, is_cut) = (server.trim_end_matches('/').to_owned(), is_cut.clone());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(&server) else { continue };
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let is_cut = is_cut.clone();
                std::thread::spawn(move || carry(from, to, &is_cut));
            }
        }
    });
    here
}

fn carry(mut from: TcpStream, mut to: TcpStream, is_cut: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while is_cut.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
