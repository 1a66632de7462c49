//! Downloads: streamed to a file, tried again when the network fails, continued where the server can.
//!
//! The runtime exists only while one download lasts: nothing else of a local run needs it.

use std::error::Error;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE, RETRY_AFTER};
use reqwest::{Certificate, Client, ClientBuilder, Response, StatusCode};
use sha2::{Digest as _, Sha256};

use crate::error::with_causes;

/// Tries in a row that bring nothing before a download is given up.
const TRIES: u32 = 4;
/// The wait before the second try; it doubles with each.
const BACKOFF: Duration = Duration::from_millis(500);
/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Of silence, not of the whole download.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// What a download brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Downloaded {
    /// SHA-256 of the content, in hexadecimal.
    pub(crate) sha256: String,
    /// Bytes.
    pub(crate) size: u64,
}

/// Told how many bytes have come, of how many.
pub(crate) type Progress<'a> = dyn Fn(u64, Option<u64>) + 'a;

/// Downloads `url` to `into`, a new file. The error is the reason, with the whole chain of causes.
pub(crate) fn download(url: &str, into: &Path, progress: &Progress<'_>) -> Result<Downloaded, String> {
    // Whoever comes second finds the same provider installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| format!("cannot start the network runtime: {error}"))?;
    let client = client().map_err(|error| chain(&error))?;
    let file = File::create(into).map_err(|error| format!("cannot write {}: {error}", into.display()))?;
    let mut transfer = Transfer { file, hasher: Sha256::new(), size: 0, validator: None };
    runtime.block_on(transfer.complete(&client, url, progress))?;
    let sha256 = transfer.hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Downloaded { sha256, size: transfer.size })
}

/// Trusts what the machine trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` have a say); where it has no certificates at all,
/// as in an empty image, the web's usual authorities.
fn client() -> reqwest::Result<Client> {
    with_roots(&[], || builder().read_timeout(READ_TIMEOUT))
}

/// A client for requests that bring their own limits of time. It trusts the authorities in the file `ca` too, or anybody.
/// The error is the reason.
pub(crate) fn bare_client(ca: Option<&Path>, anybody: bool) -> Result<Client, String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let text = ca.map(std::fs::read).transpose().map_err(|error| format!("cannot read the context's `ca`: {error}"))?;
    let bundle = text.map(|text| Certificate::from_pem_bundle(&text)).transpose().map_err(|error| chain(&error))?;
    let bundle = bundle.unwrap_or_default();
    with_roots(&bundle, || builder().tls_danger_accept_invalid_certs(anybody).tls_certs_merge(bundle.clone()))
        .map_err(|error| chain(&error))
}

fn builder() -> ClientBuilder {
    Client::builder().user_agent(concat!("mlctl/", env!("CARGO_PKG_VERSION"))).connect_timeout(CONNECT_TIMEOUT)
}

fn with_roots(own: &[Certificate], builder: impl Fn() -> ClientBuilder) -> reqwest::Result<Client> {
    builder().build().or_else(|_| {
        let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
        let roots: reqwest::Result<Vec<_>> = roots.map(|root| Certificate::from_der(root)).collect();
        builder().tls_certs_only(roots?.into_iter().chain(own.iter().cloned())).build()
    })
}

/// How one try failed.
enum Failure {
    /// Another try may succeed, after this wait if the server asked for one.
    Passing(String, Option<Duration>),
    /// It will not.
    Lasting(String),
}

/// What has arrived so far.
struct Transfer {
    file: File,
    hasher: Sha256,
    size: u64,
    /// What names this very content to the server: without it, a rest could be of another content.
    validator: Option<HeaderValue>,
}

impl Transfer {
    async fn complete(&mut self, client: &Client, url: &str, progress: &Progress<'_>) -> Result<(), String> {
        let mut tries = 0;
        loop {
            let before = self.size;
            let (reason, asked) = match self.attempt(client, url, progress).await {
                Ok(()) => return Ok(()),
                Err(Failure::Lasting(reason)) => return Err(reason),
                Err(Failure::Passing(reason, asked)) => (reason, asked),
            };
            tries = if self.size > before { 1 } else { tries + 1 };
            if tries == TRIES {
                return Err(format!("{reason} (tried {TRIES} times)"));
            }
            tokio::time::sleep(asked.unwrap_or(BACKOFF * 2_u32.pow(tries - 1)).min(LONGEST_WAIT)).await;
        }
    }

    async fn attempt(&mut self, client: &Client, url: &str, progress: &Progress<'_>) -> Result<(), Failure> {
        let mut request = client.get(url);
        if let (Some(validator), 1..) = (&self.validator, self.size) {
            request = request.header(RANGE, format!("bytes={}-", self.size)).header(IF_RANGE, validator);
        }
        let mut response = request.send().await.map_err(|error| failure(&error))?;
        let partial = [StatusCode::PARTIAL_CONTENT, StatusCode::RANGE_NOT_SATISFIABLE].contains(&response.status());
        if partial && !self.continues(&response) {
            self.validator = None;
            return Err(Failure::Passing("the server sent another part than was asked for".to_owned(), None));
        }
        check(&response)?;
        if !partial {
            self.restart(response.headers()).map_err(|error| lasting(&error))?;
        }
        let total = response.content_length().map(|rest| self.size + rest);
        progress(self.size, total);
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
            self.file.write_all(&chunk).map_err(|error| lasting(&error))?;
            self.hasher.update(&chunk);
            self.size += chunk.len() as u64;
            progress(self.size, total);
        }
        Ok(())
    }

    /// Whether the response is the rest of what has arrived.
    fn continues(&self, response: &Response) -> bool {
        let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
        let start = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
        response.status() == StatusCode::PARTIAL_CONTENT && start == Some(self.size)
    }

    fn restart(&mut self, headers: &HeaderMap) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.set_len(0)?;
        self.hasher = Sha256::new();
        self.size = 0;
        let strong = headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"));
        self.validator = strong.or_else(|| headers.get(LAST_MODIFIED)).cloned();
        Ok(())
    }
}

/// Refuses a response that is not the content.
fn check(response: &Response) -> Result<(), Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let reason = format!("the server answered {status}");
    let passing = status.is_server_error()
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    if !passing {
        return Err(Failure::Lasting(reason));
    }
    let seconds = response.headers().get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
    Err(Failure::Passing(reason, seconds.map(Duration::from_secs)))
}

fn failure(error: &reqwest::Error) -> Failure {
    let certificate = chain(error).contains("certificate");
    if error.is_builder() || error.is_redirect() || certificate {
        let hint = if certificate { "; SSL_CERT_FILE may name a file with your company's authorities" } else { "" };
        return Failure::Lasting(chain(error) + hint);
    }
    Failure::Passing(chain(error), None)
}

fn lasting(error: &io::Error) -> Failure {
    Failure::Lasting(format!("cannot write what was downloaded: {error}"))
}

/// The error and its causes in one line, without the URL, which may hold a password.
fn chain(error: &reqwest::Error) -> String {
    let text = match error {
        error if error.is_timeout() => "the server is silent".to_owned(),
        error if error.is_connect() => "cannot connect".to_owned(),
        error if error.is_redirect() => "the server redirects too often".to_owned(),
        error if error.is_builder() => "not a URL that can be downloaded".to_owned(),
        _ => "the connection broke".to_owned(),
    };
    with_causes(text, error.source())
}

#[cfg(test)]
mod tests;
