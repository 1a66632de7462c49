//! An image that mlctl wrote itself, brought to a registry by the protocol that registries speak: no daemon is needed.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bollard::auth::DockerCredentials;
use bollard::errors::Error as DockerError;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Body, Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;

use super::failure::explain;
use super::reference::{HUB, Reference};
use super::{BACKOFF, Progress, TRIES, User};
use crate::error::{CommandError, Kind, with_causes};
use crate::image::executor::Executor;
use crate::image::oci::{self, Blob};
use crate::platform::http;
use crate::ui::size;

/// Where Docker Hub's images are.
const HUB_HOST: &str = "registry-1.docker.io";
/// For an answer, besides the time that a body takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// A connection that is slower has no use.
const SLOWEST: u64 = 100 << 10;

/// Why something came to nothing.
#[derive(Debug)]
enum Failure {
    /// Another try may succeed.
    Passing(String),
    /// It will not.
    Lasting(String),
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        // What the registry is called is known; its URL may hold a signature.
        let error = error.without_url();
        let text = match &error {
            error if error.is_timeout() => "the registry is silent".to_owned(),
            error if error.is_connect() => "cannot connect".to_owned(),
            _ => "the connection broke".to_owned(),
        };
        let text = with_causes(text, error.source());
        if error.is_connect() { Self::Lasting(text) } else { Self::Passing(text) }
    }
}

/// A repository of a registry, and who asks.
struct Repository<'a> {
    client: Client,
    /// `https://host`
    base: Url,
    path: String,
    reference: Reference<'a>,
    credentials: Option<DockerCredentials>,
    authorization: Option<HeaderValue>,
}

/// Makes sure that a registry has the executor's image, under a name that says its digest. How many bytes were sent: none
/// if it was there.
pub(crate) async fn push_executor(
    executor: &Executor,
    name: &str,
    ca: Option<&Path>,
    progress: &Progress<'_>,
) -> Result<u64, CommandError> {
    User::default().push_executor(executor, name, ca, progress).await
}

impl User {
    pub(super) async fn push_executor(
        &self,
        executor: &Executor,
        name: &str,
        ca: Option<&Path>,
        progress: &Progress<'_>,
    ) -> Result<u64, CommandError> {
        let what = format!("cannot push `{name}`");
        let reference = Reference::parse(name)?;
        let credentials = self.clone().credentials_soon(reference.host()).await?;
        let known = credentials.is_some();
        let mut tries = 1;
        loop {
            let pushed = async {
                let mut repository = Repository::open(reference, credentials.clone(), ca).await?;
                repository.push(executor, progress).await
            };
            match pushed.await {
                Ok(sent) => return Ok(sent),
                Err(Failure::Passing(_)) if tries < TRIES => {
                    tokio::time::sleep(BACKOFF * 2_u32.pow(tries - 1)).await;
                    tries += 1;
                }
                Err(Failure::Passing(said) | Failure::Lasting(said)) => {
                    let error = explained(&what, &reference, known, said);
                    return Err(if tries > 1 { error.cause(format!("tried {tries} times")) } else { error });
                }
            }
        }
    }
}

impl<'a> Repository<'a> {
    /// As Docker does, TLS of the loopback interface is trusted whoever signed it, and done without where there is none.
    async fn open(
        reference: Reference<'a>,
        credentials: Option<DockerCredentials>,
        ca: Option<&Path>,
    ) -> Result<Self, Failure> {
        let (host, path) = reference.repository();
        let host = if host == HUB { HUB_HOST } else { host };
        let here = is_loopback(host);
        let client = http::bare_client(ca, here).map_err(Failure::Lasting)?;
        let url = |scheme: &str| {
            let url = Url::parse(&format!("{scheme}://{host}"));
            url.map_err(|error| Failure::Lasting(format!("`{host}` is no host of a registry: {error}")))
        };
        let mut base = url("https")?;
        if here
            && let Err(error) = client.get(format!("{base}v2/")).timeout(PATIENCE).send().await
            && error.is_connect()
        {
            base = url("http")?;
        }
        Ok(Self { client, base, path, reference, credentials, authorization: None })
    }

    async fn push(&mut self, executor: &Executor, progress: &Progress<'_>) -> Result<u64, Failure> {
        let digest = self.reference.digest.unwrap_or(&executor.digest).to_owned();
        if self.has(&format!("manifests/{digest}"), oci::MANIFEST).await? {
            return Ok(0);
        }
        let config = executor.config.clone();
        let whole = move || Body::from(config.clone());
        let mut sent = self.put_blob(&Blob::config(&executor.config), &whole).await?;
        progress(&size(executor.layer.size));
        sent += self.put_blob(&executor.layer, &|| Body::wrap_stream(executor.layer())).await?;
        let manifest = Bytes::from(executor.manifest.clone());
        let url = self.url(&format!("manifests/{digest}"))?;
        let put = |client: &Client| client.put(url.clone()).header(CONTENT_TYPE, oci::MANIFEST).body(manifest.clone());
        ended(self.send(put).await?).await?;
        Ok(sent + manifest.len() as u64)
    }

    /// Sends a blob, unless it is there; how many bytes were sent.
    async fn put_blob(&mut self, blob: &Blob, body: &dyn Fn() -> Body) -> Result<u64, Failure> {
        if self.has(&format!("blobs/{}", blob.digest), "*/*").await? {
            return Ok(0);
        }
        let begin = self.url("blobs/uploads/")?;
        let begun = self.send(|client| client.post(begin.clone()).header(CONTENT_LENGTH, 0)).await?;
        let begun = ended(begun).await?;
        let location = begun.headers().get(LOCATION).and_then(|location| location.to_str().ok()).unwrap_or_default();
        let mut to =
            begun.url().join(location).map_err(|_| Failure::Lasting(format!("it names no place: {location}")))?;
        to.query_pairs_mut().append_pair("digest", &blob.digest);
        let patience = PATIENCE + Duration::from_secs(blob.size / SLOWEST);
        let put = |client: &Client| {
            let put = client.put(to.clone()).timeout(patience);
            put.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, blob.size).body(body())
        };
        ended(self.send(put).await?).await?;
        Ok(blob.size)
    }

    async fn has(&mut self, path: &str, accept: &'static str) -> Result<bool, Failure> {
        let url = self.url(path)?;
        let found = self.send(|client| client.request(Method::HEAD, url.clone()).header("accept", accept)).await?;
        if found.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        ended(found).await.map(|_| true)
    }

    fn url(&self, path: &str) -> Result<Url, Failure> {
        let url = self.base.join(&format!("v2/{}/{path}", self.path));
        url.map_err(|error| Failure::Lasting(format!("`{}` is no path of a registry: {error}", self.path)))
    }

    /// Sends a request, a second time where the registry asks who we are.
    async fn send(&mut self, request: impl Fn(&Client) -> RequestBuilder) -> Result<Response, Failure> {
        let response = self.execute(request(&self.client)).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        self.authorize(&response).await?;
        self.execute(request(&self.client)).await
    }

    async fn execute(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let mut request = request.build()?;
        request.timeout_mut().get_or_insert(PATIENCE);
        // An upload may go elsewhere, with a signature in its URL.
        if let Some(authorization) =
            self.authorization.as_ref().filter(|_| request.url().origin() == self.base.origin())
        {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        Ok(self.client.execute(request).await?)
    }

    /// Finds out how the registry wants to be told who we are, and with what.
    async fn authorize(&mut self, refused: &Response) -> Result<(), Failure> {
        let challenges = refused.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenges: Vec<Challenge> =
            challenges.filter_map(|value| Challenge::parse(value.to_str().ok()?)).collect();
        let named = |scheme: &str| challenges.iter().find(|one| one.scheme.eq_ignore_ascii_case(scheme));
        let unauthorized = || Failure::Lasting("unauthorized: authentication required".to_owned());
        let mut value = match (named("bearer"), named("basic"), self.password()) {
            (Some(bearer), ..) => HeaderValue::from_str(&format!("Bearer {}", self.token(bearer).await?)),
            (None, Some(_), Some((user, password))) => {
                HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
            }
            _ => return Err(unauthorized()),
        }
        .map_err(|_| unauthorized())?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(())
    }

    fn password(&self) -> Option<(&str, &str)> {
        let credentials = self.credentials.as_ref()?;
        Some((credentials.username.as_deref()?, credentials.password.as_deref()?))
    }

    /// A token for this repository, from whoever the registry says gives them.
    async fn token(&self, challenge: &Challenge) -> Result<String, Failure> {
        let field = |name: &str| challenge.fields.get(name).map(String::as_str);
        let bad = |why: &str| Failure::Lasting(format!("cannot get a token for the registry: {why}"));
        let mut realm = Url::parse(field("realm").unwrap_or_default()).map_err(|_| bad("it does not say where"))?;
        // A password goes only where nobody can listen.
        if realm.scheme() != "https" && self.base.scheme() == "https" {
            return Err(bad("they are given without TLS"));
        }
        let scope = format!("repository:{}:pull,push", self.path);
        let asked = [("service", field("service").unwrap_or_default()), ("scope", &scope)];
        let identity = self.credentials.as_ref().and_then(|credentials| credentials.identitytoken.as_deref());
        let request = if let Some(identity) = identity {
            let own = [("grant_type", "refresh_token"), ("client_id", "mlctl"), ("refresh_token", identity)];
            let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(asked).extend_pairs(own).finish();
            self.client.post(realm).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form)
        } else {
            realm.query_pairs_mut().extend_pairs(asked);
            let request = self.client.get(realm);
            match self.password() {
                Some((user, password)) => request.basic_auth(user, Some(password)),
                None => request,
            }
        };
        let answer = ended(request.timeout(PATIENCE).send().await?).await?;
        let answer: Value = serde_json::from_slice(&answer.bytes().await?).map_err(|_| bad("the answer is no JSON"))?;
        let token = ["token", "access_token"].into_iter().find_map(|name| answer.get(name)?.as_str());
        token.map(str::to_owned).ok_or_else(|| bad("there is none in the answer"))
    }
}

/// How a registry wants to be told who asks: `Bearer realm="https://...",service="..."`.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    scheme: String,
    fields: BTreeMap<String, String>,
}

impl Challenge {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let mut fields = BTreeMap::new();
        while let Some((name, value)) = rest.split_once('=') {
            let (value, after) = match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => value.split_once(',').unwrap_or((value, "")),
            };
            fields.insert(name.trim_matches([',', ' ']).to_ascii_lowercase(), value.to_owned());
            rest = after;
        }
        (!scheme.is_empty()).then(|| Self { scheme: scheme.to_owned(), fields })
    }
}

/// The answer, unless it is an error.
async fn ended(response: Response) -> Result<Response, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.bytes().await.unwrap_or_default();
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    let said = json.pointer("/errors/0").map(|error| {
        let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        format!("{}: {}", text("code").to_ascii_lowercase().replace('_', " "), text("message"))
    });
    let said = match (said, status) {
        (Some(said), _) => said,
        (None, StatusCode::UNAUTHORIZED) => "unauthorized: authentication required".to_owned(),
        (None, StatusCode::FORBIDDEN) => "denied".to_owned(),
        (None, status) => format!("the registry answered {status}"),
    };
    let passing =
        status.is_server_error() || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    Err(if passing { Failure::Passing(said) } else { Failure::Lasting(said) })
}

/// Whether a registry is on this machine.
fn is_loopback(host: &str) -> bool {
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What to do about it. What concerns who asks is the same as where the daemon speaks to a registry.
fn explained(what: &str, reference: &Reference<'_>, known: bool, said: String) -> CommandError {
    let (host, lower) = (reference.host(), said.to_ascii_lowercase());
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    let because = || CommandError::missing(what).cause(&said);
    if has(&["certificate"]) {
        return because().hint(format!(
            "`{host}` is of an authority that is not known here: `ca` in the context names a file with its certificate"
        ));
    }
    if has(&["dns error", "failed to lookup"]) {
        return because().hint(format!("there is no host `{host}`: is the name right?"));
    }
    if has(&["cannot connect", "is silent", "the connection broke"]) {
        return because().hint(format!("`{host}` does not answer: is it up, and may this machine reach it?"));
    }
    let error = explain(what, reference, known, DockerError::DockerStreamError { error: said });
    CommandError { kind: Kind::Missing, ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_taken_apart() {
        let bearer = Challenge::parse(
            r#"Bearer realm="https://auth.example/token?a=b,c",service="registry.example",scope="repository:x:pull,push",error=invalid"#,
        );
        let bearer = bearer.unwrap();
        assert_eq!(bearer.scheme, "Bearer");
        let field = |name: &str| bearer.fields[name].as_str();
        assert_eq!(field("realm"), "https://auth.example/token?a=b,c");
        assert_eq!((field("service"), field("error")), ("registry.example", "invalid"));
        assert_eq!(field("scope"), "repository:x:pull,push");
        let basic = Challenge::parse("Basic realm=\"x\"").unwrap();
        assert_eq!((basic.scheme.as_str(), basic.fields["realm"].as_str()), ("Basic", "x"));
        assert_eq!(Challenge::parse("Negotiate").unwrap().fields.len(), 0);
        assert_eq!(Challenge::parse(""), None);
        assert_eq!(Challenge::parse("Bearer realm=\"x"), None);
    }

    #[test]
    fn registries_of_this_machine_are_known() {
        for (host, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("[::1]:5000", true),
            ("ghcr.io", false),
            ("10.0.0.1:5000", false),
            ("localhost.example:5000", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
