//! A socket behind which the real daemon is, for who wants to hear what it is asked.

use std::io::{Read, Write, copy};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Listens at `socket`. `hear` is given what clients send, before the daemon is.
pub(super) fn proxy(socket: &Path, hear: impl Fn(&[u8]) + Send + Sync + 'static) {
    let daemon = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    let daemon = PathBuf::from(daemon.strip_prefix("unix://").expect("a daemon behind a socket"));
    let listener = UnixListener::bind(socket).unwrap();
    let hear = Arc::new(hear);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = UnixStream::connect(&daemon).unwrap();
            let (mut back, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = copy(&mut back, &mut to_client);
                let _ = to_client.shutdown(Shutdown::Write);
            });
            let hear = Arc::clone(&hear);
            std::thread::spawn(move || forward(client, server, &*hear));
        }
    });
}

fn forward(mut client: UnixStream, mut server: UnixStream, hear: &(impl Fn(&[u8]) + ?Sized)) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        hear(&buffer[..count]);
        if server.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Write);
}
