//! A network that is slow, breaks, and counts: it stands between mlctl and the server.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::LIMIT;

/// What happens to what goes through.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Bytes a second of one connection, each way; 0: no limit.
    pub(super) rate: AtomicU64,
    /// Milliseconds before a request goes on.
    pub(super) delay: AtomicU64,
    /// Whether requests with a condition are answered as by a server that does not know it.
    pub(super) no_conditions: AtomicBool,
    /// Whether whoever writes is refused.
    pub(super) read_only: AtomicBool,
    /// Parts of large objects that have gone up.
    pub(super) parts: AtomicU64,
    /// Bytes that have gone up.
    pub(super) up: AtomicU64,
    /// Bytes that have come down.
    pub(super) down: AtomicU64,
    /// Requests that have gone up.
    pub(super) requests: AtomicU64,
    /// Whether connections break after some bytes have gone up.
    pub(super) breaks: AtomicBool,
    /// Whether connections wait for a server that is away, as they do at a balancer.
    pub(super) waits: AtomicBool,
}

impl Rules {
    fn slow(&self, count: usize) {
        if let Some(nanos) = (count as u64 * 1_000_000_000).checked_div(self.rate.load(Ordering::Relaxed)) {
            std::thread::sleep(Duration::from_nanos(nanos));
        }
    }
}

/// A network.
pub(super) struct Proxy {
    pub(super) url: String,
    pub(super) rules: Arc<Rules>,
}

impl Proxy {
    /// One in front of a port. Its threads end with the test program.
    pub(super) fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let rules = Arc::new(Rules::default());
        let shared = rules.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let rules = shared.clone();
                std::thread::spawn(move || {
                    // No server: the connection just ends.
                    let Some(server) = connect(port, &rules) else { return };
                    let (from, to, shared) = (server.try_clone().unwrap(), client.try_clone().unwrap(), rules.clone());
                    std::thread::spawn(move || down(from, to, &shared));
                    up(client, server, &rules);
                });
            }
        });
        Self { url, rules }
    }
}

fn connect(port: u16, rules: &Rules) -> Option<TcpStream> {
    let started = Instant::now();
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(server) => return Some(server),
            Err(_) if rules.waits.load(Ordering::Relaxed) && started.elapsed() < LIMIT => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(_) => return None,
        }
    }
}

fn down(mut server: TcpStream, mut client: TcpStream, rules: &Rules) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = server.read(&mut buffer) {
        if client.write_all(&buffer[..count]).is_err() {
            break;
        }
        rules.down.fetch_add(count as u64, Ordering::Relaxed);
        rules.slow(count);
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

fn up(mut client: TcpStream, mut server: TcpStream, rules: &Rules) {
    /// What goes up before a connection breaks, where they do.
    const BREAKS_AFTER: u64 = 100_000;
    let mut buffer = vec![0; 64 * 1024];
    let mut sent = 0;
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        let chunk = &buffer[..count];
        let has = |text: &[u8]| chunk.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text));
        let methods: [&[u8]; 5] = [b"GET ", b"PUT ", b"HEAD ", b"POST ", b"DELETE "];
        if methods.iter().any(|method| chunk.starts_with(method)) {
            rules.requests.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(rules.delay.load(Ordering::Relaxed)));
        }
        if has(b"partNumber=") {
            rules.parts.fetch_add(1, Ordering::Relaxed);
        }
        if rules.read_only.load(Ordering::Relaxed) && chunk.starts_with(b"PUT ") {
            let _ = client.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            break;
        }
        if rules.no_conditions.load(Ordering::Relaxed) && has(b"if-none-match: *") {
            let _ = client.write_all(b"HTTP/1.1 501 Not Implemented\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            break;
        }
        if server.write_all(chunk).is_err() {
            break;
        }
        rules.up.fetch_add(count as u64, Ordering::Relaxed);
        sent += count as u64;
        if rules.breaks.load(Ordering::Relaxed) && sent > BREAKS_AFTER {
            break;
        }
        rules.slow(count);
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
