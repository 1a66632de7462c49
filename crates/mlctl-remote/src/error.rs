//! What can go wrong with a remote store, in words that say what to do, and never with a secret.

use std::error::Error;
use std::fmt;

use mlctl_core::digest::Digest;
use mlctl_exec::store::StoreError;
use object_store::client::{HttpError, HttpErrorKind};

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The URL, or what the environment says of it, is not valid.
    Location,
    /// There are no credentials, or they are not valid.
    Credentials,
    /// The credentials do not allow it.
    Denied,
    /// The bucket, container or directory does not exist.
    NoBucket,
    /// The server cannot be reached, or does not answer.
    Unreachable,
    /// There is no space left.
    Full,
    /// An object is not what its name says.
    Damaged,
    /// An object is not there.
    Missing,
    /// It was written by a newer mlctl.
    Newer,
    /// The server refused for another reason.
    Refused,
    /// This machine's own store failed.
    Local,
}

/// Why a remote store could not do what it was asked.
#[derive(Debug, Clone)]
pub struct RemoteError {
    kind: ErrorKind,
    /// What was being done, as `read objects/ab/...`; may be empty.
    doing: String,
    why: String,
}

impl RemoteError {
    pub(crate) fn new(kind: ErrorKind, why: impl Into<String>) -> Self {
        Self { kind, doing: String::new(), why: why.into() }
    }

    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Damaged, format!("{} is not what its name says", what.into()))
    }

    pub(crate) fn missing(digest: &Digest) -> Self {
        Self::new(ErrorKind::Missing, format!("object {} is not there", digest.short()))
    }

    pub(crate) fn io(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::new(ErrorKind::Local, format!("cannot {doing} {}: {error}", path.display()))
    }

    /// What kind of trouble it is.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the object is simply not there: a miss.
    pub const fn is_missing(&self) -> bool {
        matches!(self.kind, ErrorKind::Missing)
    }

    /// With what was being done.
    #[must_use]
    pub(crate) fn doing(mut self, doing: impl Into<String>) -> Self {
        if self.doing.is_empty() {
            self.doing = doing.into();
        }
        self
    }

    /// What may help, with the store at `url`.
    pub fn hint(&self, url: &str) -> Option<&'static str> {
        Some(match self.kind {
            ErrorKind::Credentials => match url.split_once("://").map(|(scheme, _)| scheme) {
                Some("gs") => "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`",
                Some("az" | "abfs") => {
                    "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, or `az login` and AZURE_USE_AZURE_CLI=true"
                }
                _ => {
                    "AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, which the AWS CLI must know (`aws sso login`)"
                }
            },
            ErrorKind::Denied => "whoever owns the bucket can allow to list, read and write below the store's URL",
            ErrorKind::NoBucket => "make the bucket, or correct `store.url` of the context",
            ErrorKind::Unreachable => {
                "check the network, a proxy (HTTPS_PROXY, NO_PROXY) and, for a server of your own, AWS_ENDPOINT_URL"
            }
            ErrorKind::Full => "make space, or name another store",
            ErrorKind::Damaged => {
                "the damaged object has been removed where that was allowed: push it again from a machine that has it"
            }
            ErrorKind::Newer => "use a newer mlctl, or another prefix for the store",
            ErrorKind::Location | ErrorKind::Missing | ErrorKind::Refused | ErrorKind::Local => return None,
        })
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.doing.is_empty() { f.write_str(&self.why) } else { write!(f, "cannot {}: {}", self.doing, self.why) }
    }
}

impl Error for RemoteError {}

impl From<StoreError> for RemoteError {
    fn from(error: StoreError) -> Self {
        Self::new(ErrorKind::Local, error.to_string())
    }
}

impl From<object_store::Error> for RemoteError {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as E;
        let said = Said::by(&error);
        let kind = match &error {
            _ if said.has(is_no_bucket) => ErrorKind::NoBucket,
            // Some servers say so of a user that they do not know.
            E::NotFound { .. } if !said.has(is_bad_credentials) => ErrorKind::Missing,
            E::Unauthenticated { .. } => ErrorKind::Credentials,
            E::PermissionDenied { .. } if said.has(is_bad_credentials) => ErrorKind::Credentials,
            E::PermissionDenied { .. } => ErrorKind::Denied,
            E::InvalidPath { .. } | E::UnknownConfigurationKey { .. } => ErrorKind::Location,
            _ if said.has(is_bad_credentials) => ErrorKind::Credentials,
            _ if said.status == Some(507) || said.has(is_full) || is_disk_full(&error) => ErrorKind::Full,
            _ if said.status.is_some_and(|status| status < 500) => ErrorKind::Refused,
            _ if said.status.is_some() || network(&error).is_some() => ErrorKind::Unreachable,
            _ => ErrorKind::Refused,
        };
        Self::new(kind, said.text(&error))
    }
}

fn is_no_bucket(code: &str) -> bool {
    matches!(code, "NoSuchBucket" | "ContainerNotFound" | "InvalidBucketName")
}

fn is_bad_credentials(code: &str) -> bool {
    let codes = ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"];
    codes.contains(&code)
        || matches!(code, "AuthenticationFailed" | "InvalidSecurity" | "RequestTimeTooSkewed" | "XAdminUserNotFound")
}

fn is_full(code: &str) -> bool {
    matches!(code, "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" | "StorageFull")
}

fn is_disk_full(error: &object_store::Error) -> bool {
    chain(error).any(|error| {
        let io = error.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
    })
}

/// What the network did, in words.
fn network(error: &object_store::Error) -> Option<String> {
    let http = chain(error).find_map(|error| error.downcast_ref::<HttpError>())?;
    let what = match http.kind() {
        HttpErrorKind::Connect => "cannot connect",
        HttpErrorKind::Timeout => "the server is silent",
        _ => "the connection broke",
    };
    // The innermost says most: `Connection refused`, `certificate has expired`.
    let innermost = chain(http).last().map(ToString::to_string).unwrap_or_default();
    Some(if innermost.is_empty() { what.to_owned() } else { format!("{what}: {innermost}") })
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// What the server said, picked out of the client's text: that holds requests and their headers too.
struct Said {
    status: Option<u16>,
    code: Option<String>,
    message: String,
}

impl Said {
    fn by(error: &object_store::Error) -> Self {
        let whole = error.to_string();
        let status = whole.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)?.parse().ok());
        let code = element(&whole, "Code").map(str::to_owned);
        let message = element(&whole, "Message").unwrap_or_default().to_owned();
        Self { status, code, message }
    }

    fn has(&self, is: fn(&str) -> bool) -> bool {
        self.code.as_deref().is_some_and(is)
    }

    fn text(&self, error: &object_store::Error) -> String {
        let message = &self.message;
        match (self.status, &self.code) {
            (_, Some(code)) if message.is_empty() => format!("the server answered {code}"),
            (_, Some(code)) => format!("the server answered {code}: {message}"),
            (Some(status), None) => format!("the server answered with status {status}"),
            (None, None) => network(error).unwrap_or_else(|| plain(error)),
        }
    }
}

/// The text of an XML element.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once("</")?.0)
}

/// The innermost cause of what no server said: a file, a setting.
fn plain(error: &object_store::Error) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}
