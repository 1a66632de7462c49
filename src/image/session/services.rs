//! The services of a session.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;

use bollard_buildkit_proto::health::health_check_response::ServingStatus;
use bollard_buildkit_proto::health::health_server::Health;
use bollard_buildkit_proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::Secrets;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard_buildkit_proto::moby::filesync::v1::auth_server::Auth;
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::Ssh;
use bollard_buildkit_proto::moby::sshforward::v1::{BytesMessage, CheckAgentRequest, CheckAgentResponse};
use futures_util::{Stream, StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::image::registry;

type Chunks<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Says that we are there: newer BuildKits ask now and then.
pub(super) struct Alive;

#[async_trait]
impl Health for Alive {
    type WatchStream = Chunks<HealthCheckResponse>;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("one service is asked for at a time"))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("the end of the connection says it"))
    }
}

/// Who the user is to a registry: looked for when a build asks.
pub(super) struct Credentials;

#[async_trait]
impl Auth for Credentials {
    async fn credentials(&self, request: Request<CredentialsRequest>) -> Result<Response<CredentialsResponse>, Status> {
        // BuildKit knows Docker Hub by other names.
        let host = match request.into_inner().host.as_str() {
            "registry-1.docker.io" | "https://index.docker.io/v1/" | "index.docker.io" => "docker.io".to_owned(),
            host => host.to_owned(),
        };
        // A helper may take its time.
        let found = tokio::task::spawn_blocking(move || registry::credentials(&host)).await;
        let found = match found.map_err(|error| Status::internal(error.to_string()))? {
            Ok(found) => found.unwrap_or_default(),
            Err(error) => return Err(Status::unavailable(error.to_string())),
        };
        // A token stands for a user without a name.
        let (username, secret) = match found.identitytoken {
            Some(token) => (String::new(), token),
            None => (found.username.unwrap_or_default(), found.password.unwrap_or_default()),
        };
        Ok(Response::new(CredentialsResponse { username, secret }))
    }

    async fn fetch_token(&self, _: Request<FetchTokenRequest>) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("the daemon fetches tokens itself"))
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unavailable("the daemon fetches tokens itself"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unavailable("the daemon fetches tokens itself"))
    }
}

/// The secrets of a build, by id.
pub(super) struct Kept(pub(super) BTreeMap<String, Vec<u8>>);

#[async_trait]
impl Secrets for Kept {
    async fn get_secret(&self, request: Request<GetSecretRequest>) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        match self.0.get(&id) {
            Some(data) => Ok(Response::new(GetSecretResponse { data: data.clone() })),
            None => Err(Status::not_found(format!("the environment declares no secret `{id}`"))),
        }
    }
}

/// The user's ssh agent, where the build may use it.
pub(super) struct Agent(pub(super) Option<PathBuf>);

impl Agent {
    async fn connect(&self) -> Result<UnixStream, Status> {
        let socket =
            self.0.as_ref().ok_or_else(|| Status::not_found("the environment does not declare `ssh = true`"))?;
        UnixStream::connect(socket).await.map_err(|error| Status::unavailable(format!("the ssh agent: {error}")))
    }
}

#[async_trait]
impl Ssh for Agent {
    type ForwardAgentStream = Chunks<BytesMessage>;

    async fn check_agent(&self, request: Request<CheckAgentRequest>) -> Result<Response<CheckAgentResponse>, Status> {
        let id = request.into_inner().id;
        if !matches!(id.as_str(), "" | "default") {
            return Err(Status::not_found(format!("there is one ssh agent, `default`, and no `{id}`")));
        }
        self.connect().await?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let (answers, mut questions) = self.connect().await?.into_split();
        let mut asked = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(message)) = asked.next().await {
                if questions.write_all(&message.data).await.is_err() {
                    return;
                }
            }
            let _ = questions.shutdown().await;
        });
        let answered = stream::unfold(answers, |mut answers| async move {
            let mut data = vec![0; 16 * 1024];
            match answers.read(&mut data).await {
                Ok(0) => None,
                Ok(read) => {
                    data.truncate(read);
                    Some((Ok(BytesMessage { data }), answers))
                }
                Err(error) => Some((Err(Status::from(error)), answers)),
            }
        });
        Ok(Response::new(Box::pin(answered)))
    }
}
