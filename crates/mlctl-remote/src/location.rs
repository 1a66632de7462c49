//! The URL of a remote store.

use std::fmt;
use std::path::PathBuf;

use object_store::path::Path;

use crate::error::{ErrorKind, RemoteError};

/// Where a remote store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Who keeps it.
    pub service: Service,
    /// Below this.
    pub(crate) prefix: Path,
    url: String,
}

/// Who keeps a remote store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// S3 or anything compatible.
    S3 {
        /// The bucket.
        bucket: String,
    },
    /// Google Cloud Storage.
    Gcs {
        /// The bucket.
        bucket: String,
    },
    /// Azure Blob Storage.
    Azure {
        /// The container.
        container: String,
        /// The storage account, where the URL names it.
        account: Option<String>,
    },
    /// A directory, mounted on every machine that shares it.
    File {
        /// The directory.
        directory: PathBuf,
    },
}

impl Location {
    /// What the URL means.
    pub fn parse(url: &str) -> Result<Self, RemoteError> {
        let invalid =
            |why: &str| RemoteError::new(ErrorKind::Location, format!("`{url}` is not the URL of a store: {why}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("it has no scheme, as s3://"))?;
        if rest.contains(['?', '#']) {
            return Err(invalid("it has a query"));
        }
        if scheme == "file" {
            if !rest.starts_with('/') {
                return Err(invalid("the directory must be absolute, as file:///srv/mlctl"));
            }
            let service = Service::File { directory: rest.into() };
            return Ok(Self { service, prefix: Path::default(), url: url.trim_end_matches('/').to_owned() });
        }
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty() {
            return Err(invalid("it names no bucket"));
        }
        let (name, account) = match (scheme, host.split_once('@')) {
            ("abfs", Some((name, host))) => (name, host.split('.').next().map(str::to_owned)),
            // What stands before an @ is a password as a rule.
            (_, Some(_)) => {
                return Err(RemoteError::new(ErrorKind::Location, "the URL of a store holds no credentials"));
            }
            (_, None) => (host, None),
        };
        let bucket = name.to_owned();
        let service = match scheme {
            "s3" => Service::S3 { bucket },
            "gs" => Service::Gcs { bucket },
            "az" | "abfs" => Service::Azure { container: bucket, account },
            _ => return Err(invalid("its scheme is none of s3, gs, az, abfs and file")),
        };
        let prefix = Path::parse(path.trim_end_matches('/')).map_err(|_| invalid("its path is not plain"))?;
        Ok(Self { service, prefix, url: url.trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_service_and_a_prefix() {
        let location = Location::parse("s3://acme-ml/teams/mlctl/").unwrap();
        assert_eq!(location.service, Service::S3 { bucket: "acme-ml".into() });
        assert_eq!(
            (location.prefix.as_ref(), location.to_string().as_str()),
            ("teams/mlctl", "s3://acme-ml/teams/mlctl")
        );
        let azure = Location::parse("abfs://data@acme.dfs.core.windows.net/x").unwrap().service;
        assert_eq!(azure, Service::Azure { container: "data".into(), account: Some("acme".into()) });
        assert_eq!(Location::parse("file:///srv/x").unwrap().service, Service::File { directory: "/srv/x".into() });
    }

    #[test]
    fn what_is_no_store_is_refused_without_repeating_a_password() {
        for url in ["s3:///x", "acme-ml", "http://x/y", "file://x/y", "s3://b/../x", "s3://b/x?versionId=1"] {
            assert_eq!(Location::parse(url).unwrap_err().kind(), ErrorKind::Location, "{url}");
        }
        let error = Location::parse("s3://key:hunter2@bucket/x").unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}
