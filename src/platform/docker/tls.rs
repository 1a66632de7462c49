//! A daemon behind TLS. bollard has a way of its own, which needs every file and cannot do without verification.

use std::path::Path;
use std::sync::Arc;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::address::Tls;

/// A client of the daemon at `host`, secured by `files`. The error is the reason.
pub(super) fn connect(host: &str, files: &Tls, timeout: u64) -> Result<Docker, String> {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_max_idle_per_host(0);
    let client = Arc::new(builder.build(connector(files)?));
    let transport = move |request: BollardRequest| {
        let client = Arc::clone(&client);
        Box::pin(async move { client.request(request).await.map_err(Error::from) })
    };
    Docker::connect_with_custom_transport(transport, Some(format!("https://{host}")), timeout, API_DEFAULT_VERSION)
        .map_err(|error| error.to_string())
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
