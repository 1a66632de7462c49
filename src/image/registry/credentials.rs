//! Who the user is to a registry: from Docker's config and its credential helpers.

use std::io::{BufReader, ErrorKind};
use std::path::Path;

use bollard::auth::DockerCredentials;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde_json::Value;

use super::reference::HUB;
use crate::error::CommandError;

/// What Docker's config calls Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The credentials for a registry in Docker's config; `None`: it has none.
pub(super) fn of(config: &Path, host: &str) -> Result<Option<DockerCredentials>, CommandError> {
    let cannot = || CommandError::missing(format!("cannot find out the credentials for `{host}`"));
    let unreadable = |why: &str| cannot().cause(format!("{}: {why}", config.display()));
    let text = match std::fs::read(config) {
        Ok(text) => text,
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => return Ok(None),
        Err(error) => return Err(unreadable(&error.to_string())),
    };
    // Its texts are secrets: what a parser has to say of them stays untold.
    let settings: Value = serde_json::from_slice(&text).map_err(|_| unreadable("it is not JSON"))?;
    let key = key(&settings, host);
    let found = docker_credential::get_credential_from_reader(BufReader::new(text.as_slice()), &key);
    let server = Some(if host == HUB { HUB_KEY.to_owned() } else { host.to_owned() });
    let empty = DockerCredentials { serveraddress: server, ..DockerCredentials::default() };
    match found {
        Ok(DockerCredential::IdentityToken(token)) => {
            Ok(Some(DockerCredentials { identitytoken: Some(token), ..empty }))
        }
        Ok(DockerCredential::UsernamePassword(username, password)) => {
            Ok(Some(DockerCredentials { username: Some(username), password: Some(password), ..empty }))
        }
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        // How helpers say that they have none, by their protocol.
        Err(CredentialRetrievalError::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => {
            Ok(None)
        }
        Err(CredentialRetrievalError::HelperFailure { helper, stdout, stderr }) => {
            let said = [stdout.trim(), stderr.trim()].into_iter().find(|said| !said.is_empty()).unwrap_or("nothing");
            Err(cannot().cause(format!("{helper} failed, and said: {said}")))
        }
        Err(CredentialRetrievalError::HelperCommunicationError) => {
            let helper = helper(&settings, &key).unwrap_or_default();
            Err(cannot()
                .cause(format!(
                    "`docker-credential-{helper}`, which {} names, cannot be run, or ends before it is asked",
                    config.display()
                ))
                .hint("install it, or take it out of there and log in again"))
        }
        Err(error) => Err(unreadable(&error.to_string()).hint(format!("`docker login {host}` writes it anew"))),
    }
}

/// Under which name the config has `host`: with a scheme and a path, if somebody once logged in so.
fn key(settings: &Value, host: &str) -> String {
    let wanted = if host == HUB { HUB_KEY } else { host };
    let bare = |key: &str| {
        let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
        key.split('/').next().unwrap_or_default().to_owned()
    };
    let parts = ["credHelpers", "auths"].into_iter().filter_map(|part| settings.get(part)?.as_object());
    let keys: Vec<&String> = parts.flat_map(|part| part.keys()).collect();
    let exact = keys.iter().find(|key| **key == wanted);
    let found = exact.or_else(|| keys.iter().find(|key| bare(key) == bare(wanted)));
    found.map_or_else(|| wanted.to_owned(), |key| (*key).clone())
}

fn helper<'a>(settings: &'a Value, key: &str) -> Option<&'a str> {
    let own = settings.get("credHelpers").and_then(|helpers| helpers.get(key));
    own.or_else(|| settings.get("credsStore"))?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `me:a?b>c~` in base64.
    const AUTH: &str = "bWU6YT9iPmN+";

    fn found(config: &str, host: &str) -> Option<(String, String)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, config).unwrap();
        let found = of(&path, host).unwrap()?;
        assert!(found.serveraddress.is_some());
        found.username.zip(found.password)
    }

    #[test]
    fn a_registry_is_found_under_each_of_its_names() {
        let mine = Some(("me".to_owned(), "a?b>c~".to_owned()));
        for key in ["host:5000", "https://host:5000", "http://host:5000/", "https://host:5000/v2/"] {
            let config = format!(r#"{{"auths": {{"other": {{}}, "{key}": {{"auth": "{AUTH}"}}}}}}"#);
            assert_eq!(found(&config, "host:5000"), mine, "{key}");
            assert_eq!(found(&config, "host"), None, "{key}");
        }
        for key in ["https://index.docker.io/v1/", "index.docker.io"] {
            let config = format!(r#"{{"auths": {{"{key}": {{"auth": "{AUTH}"}}}}}}"#);
            assert_eq!(found(&config, HUB), mine, "{key}");
        }
    }

    #[test]
    fn whoever_never_logged_in_has_none() {
        assert_eq!(found("{}", "host"), None);
        assert_eq!(found(r#"{"auths": {"host": {}}}"#, "host"), None);
        assert!(of(Path::new("/nowhere/config.json"), "host").unwrap().is_none());
    }

    #[test]
    fn a_broken_config_is_no_reason_to_tell_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        for config in [r#"{"auths": {"host": {"auth": "hunter2"#, r#"{"auths": {"host": {"auth": "hunter2!"}}}"#] {
            std::fs::write(&path, config).unwrap();
            let error = of(&path, "host").unwrap_err();
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn a_helper_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, r#"{"credHelpers": {"host": "no-such-helper"}}"#).unwrap();
        let error = of(&path, "host").unwrap_err();
        assert!(error.to_string().contains("docker-credential-no-such-helper"), "{error}");
    }
}
