//! How a command reaches the data: through the running server's socket, else by opening the folder itself.

use std::path::Path;

use anyhow::{Context, Result, bail};
use lake::clock::Clock;
use serde_json::Value;

use crate::config::Config;
use crate::node::Store;
use crate::server::TENANT_HEADER;

/// Name of the operator's socket in the data folder.
pub(crate) const SOCKET: &str = "muster.sock";
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// The two ways to the data.
pub(crate) enum Access {
    Server(Client),
    Folder(Box<Store>),
}

impl Access {
    /// Opens whichever way is there. A folder that does not exist holds no data, and is not made by a question.
    pub(crate) async fn open(config: Config, tenant: &str) -> Result<Access> {
        let folder = &config.data.folder;
        if let Some(client) = Client::connect(&folder.join(SOCKET), tenant).await? {
            return Ok(Access::Server(client));
        }
        if !folder.exists() {
            bail!("there is no data folder {} yet: `muster serve` or `muster ingest` makes it", folder.display());
        }
        Store::open(config, Clock::system()).await.map(|store| Access::Folder(Box::new(store)))
    }
}

/// What the server answered.
pub(crate) struct Reply {
    pub(crate) body: Vec<u8>,
    /// Whether the server says that it cut the answer at a limit.
    pub(crate) truncated: bool,
}

/// HTTP over the operator's socket.
pub(crate) struct Client {
    http: reqwest::Client,
    tenant: String,
    /// Of the person who acts, where that is not the operator.
    token: Option<String>,
}

impl Client {
    /// A client, or none where nobody listens on the socket.
    pub(crate) async fn connect(socket: &Path, tenant: &str) -> Result<Option<Client>> {
        if tokio::net::UnixStream::connect(socket).await.is_err() {
            return Ok(None);
        }
        let http = reqwest::Client::builder().unix_socket(socket).no_proxy().build()?;
        Ok(Some(Client { http, tenant: tenant.to_owned(), token: None }))
    }

    /// From now on acts as the holder of `token`.
    pub(crate) fn act_as(&mut self, token: &str) {
        self.token = Some(token.to_owned());
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.send(self.http.get(url(path))).await?;
        serde_json::from_slice(&answer.body).context("the server's answer is not JSON")
    }

    /// Posts a body and returns the answer as it came.
    pub(crate) async fn post(&self, path: &str, body: Vec<u8>) -> Result<Reply> {
        let request = self.http.post(url(path)).header("content-type", "application/json");
        self.send(request.body(body)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Reply> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let response =
            request.header(TENANT_HEADER, &self.tenant).send().await.context("the server does not answer")?;
        let status = response.status();
        let truncated = response.headers().get("x-truncated").is_some_and(|value| value == "true");
        let mut answer = Vec::new();
        let mut response = response;
        while let Some(chunk) = response.chunk().await.context("the server's answer broke off")? {
            if answer.len() + chunk.len() > ANSWER_BYTES_MAX {
                bail!("the server's answer is larger than {ANSWER_BYTES_MAX} bytes");
            }
            answer.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(Reply { body: answer, truncated });
        }
        let problem: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let detail = problem.get("detail").and_then(Value::as_str);
        bail!("{}", detail.map_or_else(|| format!("the server answered {status}"), str::to_owned))
    }
}

/// The host of a socket's URL says nothing.
fn url(path: &str) -> String {
    format!("http://muster{path}")
}
