//! Calls to a provider: only to the host that was configured, no redirects, every answer limited in size and time, repeated
//! where the provider asks for patience. The token goes into a header that is never logged.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use lake::clock::Clock;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;
use url::Url;

use super::config::{Config, OAuth, Poll};
use super::error::PollError;
use super::provider::{Auth, Form};
use super::sigv4::{self, Key};

const SECRET_BYTES_MAX: u64 = 64 << 10;
/// Okta and others tell with this header when their window begins anew, in seconds since the Unix epoch.
const RATE_LIMIT_RESET: &str = "x-rate-limit-reset";

/// One run's calls.
pub(super) struct Calls<'a> {
    client: Client,
    base: Url,
    poll: &'a Poll,
    auth: Auth,
    form: Form,
    proof: Proof,
    limits: &'a Config,
    clock: &'a Clock,
    pub(super) requests: u64,
}

/// What shows who asks.
enum Proof {
    Nothing,
    Header(HeaderName, HeaderValue),
    Key(Key),
}

/// An answer, read whole.
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) value: Value,
}

impl<'a> Calls<'a> {
    pub(super) async fn open(poll: &'a Poll, limits: &'a Config, clock: &'a Clock) -> Result<Calls<'a>, PollError> {
        let wrong = |problem: String| PollError::Configuration { poll: poll.name.clone(), problem };
        let provider = poll.declaration().map_err(wrong)?;
        let base = Url::parse(&poll.base_url).map_err(|error| wrong(error.to_string()))?;
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_secs(limits.request_secs))
            .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        let (auth, form, proof, requests) = (provider.auth, provider.format, Proof::Nothing, 0);
        let mut calls = Calls { client, base, poll, auth, form, proof, limits, clock, requests };
        calls.proof = calls.prove().await?;
        Ok(calls)
    }

    async fn prove(&mut self) -> Result<Proof, PollError> {
        let poll = self.poll;
        let (token, value) = match (&poll.oauth, &poll.token_file) {
            (Some(oauth), _) => (self.token(oauth).await?, &self.auth.oauth_value),
            (None, Some(path)) if self.auth.sign.is_some() => {
                return Key::parse(&secret(path)?).map(Proof::Key).map_err(|problem| unreadable(path, problem));
            }
            (None, Some(path)) => (secret(path)?, &self.auth.value),
            (None, None) => return Ok(Proof::Nothing),
        };
        let wrong = |problem: &str| PollError::Configuration { poll: poll.name.clone(), problem: problem.into() };
        let name = self.auth.header.parse().map_err(|_| wrong("auth.header: is no header name"))?;
        let mut value = HeaderValue::try_from(value.replace("{token}", &token))
            .map_err(|_| wrong("the token holds characters that no header can"))?;
        value.set_sensitive(true);
        Ok(Proof::Header(name, value))
    }

    /// An access token by client credentials (RFC 6749 section 4.4).
    async fn token(&mut self, oauth: &OAuth) -> Result<String, PollError> {
        let url = Url::parse(&oauth.token_url).map_err(|error| PollError::Configuration {
            poll: self.poll.name.clone(),
            problem: format!("oauth.token_url: {error}"),
        })?;
        let secret = secret(&oauth.client_secret_file)?;
        let mut fields =
            vec![("grant_type", "client_credentials"), ("client_id", &oauth.client_id), ("client_secret", &secret)];
        fields.extend(oauth.scope.as_deref().map(|scope| ("scope", scope)));
        fields.extend(oauth.audience.as_deref().map(|audience| ("audience", audience)));
        let pairs = fields.iter().map(|(name, value)| format!("{name}={}", sigv4::encoded(value)));
        let body = pairs.collect::<Vec<_>>().join("&");
        self.count()?;
        let request =
            self.client.post(url.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        let (status, _, body) = self.send(request, url.path()).await?;
        if !status.is_success() {
            return Err(PollError::Status { path: url.path().into(), status: status.as_u16() });
        }
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let token = answer.get("access_token").and_then(Value::as_str).map(str::to_owned);
        token.ok_or_else(|| PollError::Answer { path: url.path().into(), problem: "it holds no access_token".into() })
    }

    /// The URL of a path below the base.
    pub(super) fn url(&self, path: &str) -> Result<Url, PollError> {
        let url = format!("{}{path}", self.base.as_str().trim_end_matches('/'));
        let url =
            Url::parse(&url).map_err(|error| PollError::Answer { path: path.into(), problem: error.to_string() })?;
        self.ours(&self.base, url)
    }

    /// The next page's URL as an answer to `url` names it: whole, or a path.
    pub(super) fn next(&self, url: &Url, text: &str) -> Result<Url, PollError> {
        let prefix = self.base.path().trim_end_matches('/');
        if text.starts_with('/') && !text.starts_with("//") && !text.starts_with(prefix) {
            return self.url(text);
        }
        let next = url.join(text).map_err(|error| PollError::Answer {
            path: url.path().into(),
            problem: format!("the next page's URL: {error}"),
        })?;
        self.ours(url, next)
    }

    fn ours(&self, from: &Url, url: Url) -> Result<Url, PollError> {
        if url.origin() == self.base.origin() {
            return Ok(url);
        }
        let to = format!("{}://{}", url.scheme(), url.host_str().unwrap_or("?"));
        Err(PollError::OtherHost { path: from.path().into(), to })
    }

    /// Gets one page, repeating as the provider asks for. None where there is nothing (404).
    pub(super) async fn get(&mut self, url: &Url) -> Result<Option<Answer>, PollError> {
        let path = url.path().to_owned();
        let (mut repeats, mut renewed) = (0, false);
        loop {
            self.count()?;
            let pause = match self.send(self.proven(url), &path).await {
                Ok((status, headers, body)) if status.is_success() => {
                    return Ok(Some(self.read(&path, headers, &body)?));
                }
                Ok((StatusCode::NOT_FOUND, ..)) => return Ok(None),
                Ok((StatusCode::UNAUTHORIZED, ..)) if self.poll.oauth.is_some() && !renewed => {
                    // Some tokens live for a minute.
                    renewed = true;
                    self.proof = self.prove().await?;
                    continue;
                }
                Ok((status, headers, _)) if repeats < self.limits.retries_max && is_passing(status) => {
                    self.asked_pause(&path, &headers)?
                }
                Ok((status, headers, _)) => return Err(refused(path, status, &headers)),
                Err(PollError::NoAnswer { .. }) if repeats < self.limits.retries_max => None,
                Err(error) => return Err(error),
            };
            let own = Duration::from_millis(self.limits.retry_pause_ms.saturating_mul(1 << repeats));
            repeats += 1;
            let pause = pause.unwrap_or(own);
            tracing::info!(poll = self.poll.name, path, ?pause, "the provider is asked again");
            tokio::time::sleep(pause).await;
        }
    }

    fn proven(&self, url: &Url) -> RequestBuilder {
        let request = self.client.get(url.clone());
        match &self.proof {
            Proof::Nothing => request,
            Proof::Header(name, value) => request.header(name, value),
            Proof::Key(key) => {
                let now = chrono::DateTime::from_timestamp_micros(self.clock.now_micros()).unwrap_or_default();
                let date = now.format("%Y%m%dT%H%M%SZ").to_string();
                let signed = sigv4::authorization(key, url, &date, &self.auth.region, &self.auth.service);
                let request = request.header("x-amz-date", date).header("authorization", signed);
                match &key.session {
                    Some(session) => request.header("x-amz-security-token", session),
                    None => request,
                }
            }
        }
    }

    async fn send(&self, request: RequestBuilder, path: &str) -> Result<(StatusCode, HeaderMap, Vec<u8>), PollError> {
        let accept = match self.form {
            Form::Json => "application/json",
            Form::Xml => "application/xml, text/xml",
        };
        let no_answer = |error: reqwest::Error| PollError::NoAnswer { path: path.into(), problem: reason(&error) };
        let mut response = request.header(ACCEPT, accept).send().await.map_err(no_answer)?;
        let bytes_max = self.limits.page_bytes_max;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
            if body.len() + chunk.len() > bytes_max {
                return Err(PollError::TooLarge { path: path.into(), bytes_max });
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status(), response.headers().clone(), body))
    }

    fn read(&self, path: &str, headers: HeaderMap, body: &[u8]) -> Result<Answer, PollError> {
        let value = match self.form {
            Form::Json => serde_json::from_slice(body).map_err(|error| format!("it is not JSON: {error}")),
            Form::Xml => std::str::from_utf8(body)
                .map_err(|error| error.to_string())
                .and_then(super::xml::parse)
                .map_err(|problem| format!("it is not XML: {problem}")),
        };
        let value = value.map_err(|problem| PollError::Answer { path: path.into(), problem })?;
        Ok(Answer { headers, value })
    }

    fn count(&mut self) -> Result<(), PollError> {
        self.requests += 1;
        let max = self.limits.requests_max;
        if self.requests > max { Err(PollError::Limit { name: "requests_max", max }) } else { Ok(()) }
    }

    /// How long the provider asks to wait; none where it does not say.
    fn asked_pause(&self, path: &str, headers: &HeaderMap) -> Result<Option<Duration>, PollError> {
        let now_secs = self.clock.now_micros() / 1_000_000;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let date = |text: &str| chrono::DateTime::parse_from_rfc2822(text).ok().map(|at| at.timestamp() - now_secs);
        let after = text(RETRY_AFTER.as_str()).and_then(|text| text.parse().ok().or_else(|| date(text)));
        let reset = || Some(text(RATE_LIMIT_RESET)?.parse::<i64>().ok()? - now_secs);
        let Some(secs) = after.or_else(reset).map(|secs| secs.max(0) as u64) else { return Ok(None) };
        let secs_max = self.limits.retry_after_secs_max;
        if secs > secs_max {
            return Err(PollError::TooLong { path: path.into(), secs, secs_max });
        }
        Ok(Some(Duration::from_secs(secs)))
    }
}

fn is_passing(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

fn refused(path: String, status: StatusCode, headers: &HeaderMap) -> PollError {
    let status_code = status.as_u16();
    if !status.is_redirection() {
        return PollError::Status { path, status: status_code };
    }
    let to = headers.get(LOCATION).and_then(|value| value.to_str().ok()).and_then(|text| Url::parse(text).ok());
    let to = to.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_else(|| "another path".into());
    PollError::Redirect { path, status: status_code, to }
}

/// The causes of an error, without the URL that it was about.
fn reason(error: &reqwest::Error) -> String {
    let mut said = if error.is_timeout() { "no answer in time".to_owned() } else { "the connection failed".to_owned() };
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        said.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    said
}

fn secret(path: &Path) -> Result<String, PollError> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| unreadable(path, error.to_string()))?;
    let read = file.take(SECRET_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| unreadable(path, error.to_string()))?;
    let text = text.trim().to_owned();
    if text.is_empty() { Err(unreadable(path, "it is empty".into())) } else { Ok(text) }
}

fn unreadable(path: &Path, problem: String) -> PollError {
    PollError::Secret { path: path.display().to_string(), problem }
}
