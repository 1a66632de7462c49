//! A daemon behind TLS. bollard has a way of its own, which needs every file and cannot do without verification.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::{Response, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use tower_service::Service as _;

use super::address::Tls;
use super::dial;
use crate::error::with_causes;

/// A client of the daemon at `host`, secured by `files`. The error is the reason.
pub(super) fn connect(host: &str, files: &Tls, timeout: u64) -> Result<Docker, String> {
    let connector = connector(files)?;
    let transport = move |request: BollardRequest| {
        let connector = connector.clone();
        Box::pin(async move { exchange(connector, request).await })
    };
    Docker::connect_with_custom_transport(transport, Some(format!("https://{host}")), timeout, API_DEFAULT_VERSION)
        .map_err(|error| error.to_string())
}

/// Sends a request on a new connection. hyper's own client would not tell what a daemon says to a certificate.
async fn exchange(
    mut connector: HttpsConnector<HttpConnector>,
    mut request: BollardRequest,
) -> Result<Response<Incoming>, Error> {
    let uri = std::mem::take(request.uri_mut());
    let stream = connector.call(uri.clone()).await.map_err(|error| {
        let why = with_causes("cannot connect".to_owned(), Some(&*error));
        Error::from(io::Error::new(io::ErrorKind::ConnectionAborted, why))
    })?;
    if let Some(host) = uri.authority().and_then(|host| host.as_str().parse().ok()) {
        request.headers_mut().insert(HOST, host);
    }
    *request.uri_mut() = uri.path_and_query().cloned().map(Uri::from).unwrap_or_default();
    Ok(dial::send(stream, request).await?)
}

/// Makes connections that `files` secure. The error is the reason.
pub(super) fn connector(files: &Tls) -> Result<HttpsConnector<HttpConnector>, String> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    Ok(HttpsConnector::from((tcp, config(files)?)))
}

fn config(files: &Tls) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if files.unverified {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
    } else {
        builder.with_root_certificates(roots(files.ca.as_deref())?)
    };
    let Some((certificate, key)) = &files.client else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| unusable(certificate, &error))
}

/// What the machine trusts, and `ca`.
fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // One that cannot be read is one that signed nothing.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in ca.map(certificates).transpose()?.into_iter().flatten() {
        roots.add(certificate).map_err(|error| unusable(ca.unwrap_or(Path::new("")), &error))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match all {
        Ok(all) if all.is_empty() => Err(format!("{} holds no certificate", path.display())),
        all => all.map_err(|error| unusable(path, &error)),
    }
}

fn unusable(path: &Path, error: &dyn std::error::Error) -> String {
    format!("cannot use {}: {error}", path.display())
}

/// Takes anyone for the daemon: what `SkipTLSVerify` and `DOCKER_TLS` without `DOCKER_TLS_VERIFY` ask for.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
