//! Credentials and region of S3: from the environment, else from a profile by the AWS CLI, else of the machine itself.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::DateTime;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, resolve_bucket_region};
use object_store::{ClientOptions, CredentialProvider};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::connect::{any_set, home, is_cloud_machine};
use crate::error::{ErrorKind, RemoteError};

/// Credentials that end sooner than this are fetched anew.
const MARGIN: Duration = Duration::from_secs(5 * 60);
/// What gives credentials without a profile.
const OF_ENVIRONMENT: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
];

/// Adds what the environment left open.
pub(crate) async fn complete(
    builder: AmazonS3Builder,
    bucket: &str,
    client: &ClientOptions,
) -> Result<AmazonS3Builder, RemoteError> {
    let mut builder = builder;
    let mut profile = None;
    if !any_set(&OF_ENVIRONMENT) {
        if has_profiles() {
            let provider = Profile::default();
            // At once: what the AWS CLI has to say is said before anything else fails for it.
            provider.fresh().await?;
            builder = builder.with_credentials(Arc::new(provider));
            profile = Some(());
        } else if any_set(&["AWS_EC2_METADATA_DISABLED"]) || !is_cloud_machine().await {
            let why = format!("there are no credentials for s3://{bucket} on this machine");
            return Err(RemoteError::new(ErrorKind::Credentials, why));
        }
    }
    let is_set = |builder: &AmazonS3Builder, key: AmazonS3ConfigKey| builder.get_config_value(&key).is_some();
    let region = is_set(&builder, AmazonS3ConfigKey::Region) || is_set(&builder, AmazonS3ConfigKey::DefaultRegion);
    let own_server = any_set(&["AWS_ENDPOINT"]);
    if !region {
        let of_profile = if profile.is_some() { aws(&["configure", "get", "region"]).await.ok() } else { None };
        let region = match of_profile.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()) {
            Some(region) => Some(region),
            None if own_server => None,
            // S3 tells it to anyone.
            None => resolve_bucket_region(bucket, client).await.ok(),
        };
        if let Some(region) = region {
            builder = builder.with_region(region);
        }
    }
    // Bytes that TLS protects need no hash of their own for the signature.
    let plain = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).is_some_and(|url| url.starts_with("http://"));
    Ok(builder.with_unsigned_payload(!plain))
}

fn has_profiles() -> bool {
    let file = |name: &str| home().is_some_and(|home| home.join(".aws").join(name).is_file());
    any_set(&["AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"]) || file("config") || file("credentials")
}

/// The credentials of a profile: keys, SSO, roles, whatever the AWS CLI knows.
#[derive(Debug, Default)]
struct Profile {
    /// With the time at which they end.
    latest: Mutex<Option<(Arc<AwsCredential>, Option<SystemTime>)>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Exported {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<String>,
}

impl Profile {
    async fn fresh(&self) -> Result<Arc<AwsCredential>, RemoteError> {
        let mut latest = self.latest.lock().await;
        if let Some((credential, end)) = &*latest
            && end.is_none_or(|end| end > SystemTime::now() + MARGIN)
        {
            return Ok(credential.clone());
        }
        let text = aws(&["configure", "export-credentials", "--format", "process"]).await?;
        let exported: Exported = serde_json::from_str(&text).map_err(|_| {
            RemoteError::new(ErrorKind::Credentials, "the AWS CLI gave no credentials that can be read")
        })?;
        let end = exported.expiration.and_then(|text| DateTime::parse_from_rfc3339(&text).ok()).map(SystemTime::from);
        let credential = Arc::new(AwsCredential {
            key_id: exported.access_key_id,
            secret_key: exported.secret_access_key,
            token: exported.session_token,
        });
        *latest = Some((credential.clone(), end));
        Ok(credential)
    }
}

#[async_trait::async_trait]
impl CredentialProvider for Profile {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.fresh()
            .await
            .map_err(|error| object_store::Error::Unauthenticated { path: String::new(), source: error.into() })
    }
}

/// Runs the AWS CLI, and gives what it printed; its own words where it fails.
async fn aws(arguments: &'static [&'static str]) -> Result<String, RemoteError> {
    let credentials = |why: String| RemoteError::new(ErrorKind::Credentials, why);
    let run = move || Command::new("aws").args(arguments).stdin(Stdio::null()).output();
    let output = match tokio::task::spawn_blocking(run).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(credentials("an AWS profile is read by the AWS CLI, and there is no `aws` on PATH".into()));
        }
        Ok(Err(error)) => return Err(credentials(format!("cannot run `aws`: {error}"))),
        Err(error) => return Err(credentials(error.to_string())),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    Err(credentials(format!("`aws {}`: {}", arguments[..2].join(" "), said.trim())))
}
