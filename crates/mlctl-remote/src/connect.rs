//! From a URL and the machine's environment to a client.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::{BackoffConfig, Certificate, ClientOptions, RetryConfig};

use crate::aws;
use crate::bucket::Backend;
use crate::error::{ErrorKind, RemoteError};
use crate::location::{Location, Service};

/// Where a cloud's machines find out who they are: the same address on all three.
const METADATA: ([u8; 4], u16) = ([169, 254, 169, 254], 80);

/// How a remote store is used.
#[derive(Debug, Clone)]
pub struct Options {
    /// The most bytes of objects that are held in memory: 8 MiB or more.
    pub memory: u64,
    /// Requests at a time.
    pub parallel: usize,
    /// A PEM file with a company's certificate authorities, besides those of the system.
    pub ca: Option<PathBuf>,
    /// A directory for what makes transfers resumable: in the store of this machine.
    pub state: PathBuf,
    /// Tries of a request after the first.
    pub retries: usize,
    /// How long a server may be silent while objects travel.
    pub silence: Duration,
    /// How long a request that moves little may take, tries included.
    pub patience: Duration,
}

impl Options {
    /// The usual ones.
    pub fn new(state: impl Into<PathBuf>) -> Self {
        Self {
            memory: 64 << 20,
            parallel: 32,
            ca: None,
            state: state.into(),
            retries: 5,
            silence: Duration::from_secs(120),
            patience: Duration::from_secs(60),
        }
    }

    fn client(&self) -> Result<ClientOptions, RemoteError> {
        let mut client = ClientOptions::new()
            .with_timeout_disabled()
            .with_read_timeout(self.silence)
            .with_connect_timeout(Duration::from_secs(5))
            .with_pool_max_idle_per_host(self.parallel)
            .with_allow_http(true);
        if let Some(path) = &self.ca {
            let pem = std::fs::read(path).map_err(|error| RemoteError::io("read", path, &error))?;
            let invalid =
                |_| RemoteError::new(ErrorKind::Local, format!("{} holds no PEM certificates", path.display()));
            for certificate in Certificate::from_pem_bundle(&pem).map_err(invalid)? {
                client = client.with_root_certificate(certificate);
            }
        }
        Ok(client)
    }

    fn retry(&self) -> RetryConfig {
        let backoff =
            BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(10), base: 2. };
        RetryConfig { backoff, max_retries: self.retries, retry_timeout: Duration::from_secs(180) }
    }
}

/// Makes the client. Only credentials may reach the network for it.
pub(crate) async fn connect(location: &Location, options: &Options) -> Result<Backend, RemoteError> {
    // Whoever comes second finds the same provider installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (client, retry) = (options.client()?, options.retry());
    match &location.service {
        Service::S3 { bucket } => {
            let builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
            let builder = aws::complete(builder, bucket, &client).await?;
            let store = on(client, |client| builder.clone().with_client_options(client).build())?;
            had(location, store.credentials().get_credential().await).map(|()| Backend::S3(store))
        }
        Service::Gcs { bucket } => {
            if !google_has_credentials() && !is_cloud_machine().await {
                return Err(no_credentials(location));
            }
            let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_retry(retry);
            let store = on(client, |client| builder.clone().with_client_options(client).build())?;
            had(location, store.credentials().get_credential().await).map(|()| Backend::Gcs(store))
        }
        Service::Azure { container, account } => {
            if !any_set(&[
                "AZURE_STORAGE_",
                "AZURE_CLIENT_",
                "AZURE_USE_",
                "AZURE_FEDERATED_",
                "IDENTITY_ENDPOINT",
                "MSI_",
            ]) && !is_cloud_machine().await
            {
                return Err(no_credentials(location));
            }
            let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(container).with_retry(retry);
            if let Some(account) = account {
                builder = builder.with_account(account);
            }
            let store = on(client, |client| builder.clone().with_client_options(client).build())?;
            had(location, store.credentials().get_credential().await).map(|()| Backend::Azure(store))
        }
        Service::File { directory } => directory_store(directory),
    }
}

fn directory_store(directory: &Path) -> Result<Backend, RemoteError> {
    // One that is not there may be a file system that is not mounted: it is not made.
    if !directory.is_dir() {
        let why = format!("there is no directory {}", directory.display());
        return Err(RemoteError::new(ErrorKind::NoBucket, why));
    }
    Ok(Backend::File(LocalFileSystem::new_with_prefix(directory)?))
}

/// Builds a client that trusts what the machine trusts; where it has no certificates at all, as in an empty image, the
/// web's usual authorities.
fn on<T>(client: ClientOptions, build: impl Fn(ClientOptions) -> object_store::Result<T>) -> Result<T, RemoteError> {
    let with_own_roots = || {
        let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().filter_map(|der| Certificate::from_der(der).ok());
        build(roots.fold(client.clone().with_no_system_certificates(true), ClientOptions::with_root_certificate))
    };
    build(client.clone()).or_else(|error| with_own_roots().map_err(|_| error)).map_err(|error| {
        let error = RemoteError::from(error);
        RemoteError::new(ErrorKind::Location, error.to_string())
    })
}

/// Credentials are fetched before anything else, so that what is wrong with them is not taken for something else.
fn had<T>(location: &Location, credentials: object_store::Result<T>) -> Result<(), RemoteError> {
    credentials.map(drop).map_err(|error| {
        let why = RemoteError::from(error).to_string();
        RemoteError::new(ErrorKind::Credentials, format!("cannot get credentials for {location}: {why}"))
    })
}

fn no_credentials(location: &Location) -> RemoteError {
    RemoteError::new(ErrorKind::Credentials, format!("there are no credentials for {location} on this machine"))
}

/// Whether a metadata service may give credentials. Elsewhere the address leads nowhere: that is not waited for long.
pub(crate) async fn is_cloud_machine() -> bool {
    let connects = || TcpStream::connect_timeout(&SocketAddr::from(METADATA), Duration::from_secs(1)).is_ok();
    tokio::task::spawn_blocking(connects).await.unwrap_or(false)
}

fn google_has_credentials() -> bool {
    let default = home().map(|home| home.join(".config/gcloud/application_default_credentials.json"));
    any_set(&["GOOGLE_"]) || default.is_some_and(|path| path.is_file())
}

/// Whether a variable that begins so is set.
pub(crate) fn any_set(prefixes: &[&str]) -> bool {
    std::env::vars_os().any(|(name, value)| {
        !value.is_empty() && name.to_str().is_some_and(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
    })
}

pub(crate) fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}
