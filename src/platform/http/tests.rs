//! Against a real server on the loopback that misbehaves as told.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use super::*;

/// Bytes that tell where they stand.
fn content() -> Vec<u8> {
    (0..200_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A server whose n-th connection gets the answer that `answer` makes of n and the request's lines.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Server {
    fn start(answer: impl Fn(usize, &[String]) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/data.bin", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        // It ends with the test's process.
        thread::spawn(move || {
            for (count, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let bytes = answer(count, &request);
                seen.lock().unwrap().push(request);
                // A client that has what it wants may hang up first.
                let _ = stream.write_all(&bytes);
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<Vec<String>> {
        self.requests.lock().unwrap().clone()
    }
}

fn response(status: &str, headers: &str, body: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn get(server: &Server) -> (Result<Downloaded, String>, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let into = directory.path().join("data");
    let result = download(&server.url, &into, &|_, _| {});
    (result, std::fs::read(&into).unwrap())
}

fn range_start(request: &[String]) -> Option<usize> {
    request.iter().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok())
}

#[test]
fn the_content_arrives_and_its_digest_is_told() {
    let server = Server::start(|_, _| response("200 OK", "", &content(), content().len()));
    let (result, bytes) = get(&server);
    assert_eq!(bytes, content());
    assert_eq!(result, Ok(Downloaded { sha256: sha256(&content()), size: content().len() as u64 }));
}

#[test]
fn a_broken_download_is_continued_where_the_server_can() {
    let server = Server::start(|count, request| {
        let all = content();
        if count == 0 {
            return response("200 OK", "etag: \"v1\"\r\n", &all[..300_000], all.len());
        }
        let start = range_start(request).unwrap();
        let range = format!("etag: \"v1\"\r\ncontent-range: bytes {start}-{}/{}\r\n", all.len() - 1, all.len());
        response("206 Partial Content", &range, &all[start..], all.len() - start)
    });
    let (result, bytes) = get(&server);
    assert_eq!(bytes, content());
    assert_eq!(result.unwrap().sha256, sha256(&content()));
    let requests = server.requests();
    assert_eq!(range_start(&requests[1]), Some(300_000));
    assert!(requests[1].contains(&"if-range: \"v1\"".to_owned()), "{:?}", requests[1]);
}

#[test]
fn a_broken_download_starts_again_where_the_content_may_have_changed() {
    let server = Server::start(|count, request| {
        assert_eq!(range_start(request), None, "nothing names the content");
        let length = if count == 0 { 300_000 } else { content().len() };
        response("200 OK", "", &content()[..length], content().len())
    });
    let (result, bytes) = get(&server);
    assert_eq!(bytes, content());
    assert_eq!(result.unwrap().sha256, sha256(&content()));
}

#[test]
fn a_part_that_was_not_asked_for_is_not_taken() {
    let server = Server::start(|count, _| match count {
        0 => response("200 OK", "etag: \"v1\"\r\n", &content()[..300_000], content().len()),
        1 => response("206 Partial Content", "content-range: bytes 5-9/800000\r\n", b"wrong", 5),
        _ => response("200 OK", "", &content(), content().len()),
    });
    let (result, bytes) = get(&server);
    assert_eq!(bytes, content());
    assert_eq!(result.unwrap().sha256, sha256(&content()));
}

#[test]
fn a_server_that_is_overloaded_is_asked_again() {
    let server = Server::start(|count, _| match count {
        0 => response("503 Service Unavailable", "retry-after: 0\r\n", b"", 0),
        _ => response("200 OK", "", b"data", 4),
    });
    assert_eq!(get(&server).1, b"data");
}

#[test]
fn what_is_not_there_is_not_asked_for_again() {
    let server = Server::start(|_, _| response("404 Not Found", "", b"no such file", 12));
    assert_eq!(get(&server).0, Err("the server answered 404 Not Found".to_owned()));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn redirects_are_followed() {
    let server = Server::start(|count, request| match count {
        0 => response("302 Found", "location: /elsewhere\r\nconnection: close\r\n", b"", 0),
        _ => {
            assert!(request[0].starts_with("GET /elsewhere "), "{request:?}");
            response("200 OK", "", b"data", 4)
        }
    });
    assert_eq!(get(&server).1, b"data");
}

#[test]
fn a_circle_of_redirects_ends() {
    let server = Server::start(|_, _| response("302 Found", "location: /data.bin\r\nconnection: close\r\n", b"", 0));
    let reason = get(&server).0.unwrap_err();
    assert!(reason.starts_with("the server redirects too often"), "{reason}");
}

#[test]
fn what_cannot_be_downloaded_is_said_at_once() {
    let directory = tempfile::tempdir().unwrap();
    for url in ["not a url", "ftp://127.0.0.1/x"] {
        let reason = download(url, &directory.path().join("x"), &|_, _| {}).unwrap_err();
        assert!(reason.starts_with("not a URL that can be downloaded"), "{reason}");
    }
}

#[test]
fn a_server_that_is_not_there_is_given_up_with_the_reason() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let reason = download(&format!("http://{closed}/"), &directory.path().join("x"), &|_, _| {}).unwrap_err();
    assert!(reason.starts_with("cannot connect: ") && reason.contains("refused"), "{reason}");
    assert!(reason.ends_with("(tried 4 times)"), "{reason}");
}
