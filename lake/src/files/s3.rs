//! A bucket of an S3-compatible service as the place of the lake.
//!
//! Needs nothing of the service but objects and conditional puts (`If-None-Match: *`), which make a Delta commit: no lock
//! table. Each request has a time limit, a bounded number of repeats and a place among a bounded number of requests at a
//! time, so a service that hangs holds neither memory nor the process.
//!
//! Credentials come from the usual places, which are not ours: the environment's `AWS_…` variables, a web identity, the
//! container, the instance. Plain HTTP is for a service on this machine, since raw records travel by it.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::limit::LimitStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

const CONNECT: Duration = Duration::from_secs(5);
const POOL_IDLE: Duration = Duration::from_secs(60);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How an S3-compatible service is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct S3Config {
    /// Address of the service, such as `https://s3.example.com:9000`; without one `AWS_ENDPOINT_URL` is, else Amazon's.
    pub endpoint: Option<String>,
    /// Region, such as `eu-central-1`; without one `AWS_REGION` is, else `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket's name stands in the path of a request, else in the name of its host.
    pub path_style: bool,
    /// Whether records may travel unencrypted to a service that is not on this machine.
    pub allow_http: bool,
    /// Id of a static key, where the key comes neither from the environment nor from container, instance or web identity.
    pub access_key_id: Option<String>,
    /// File that holds the static key's secret.
    pub secret_access_key_file: Option<String>,
    /// Or the environment variable that holds it.
    pub secret_access_key_env: Option<String>,
    /// A request that takes longer has failed. One moves at most a file of a table, or a snapshot of the detectors.
    pub request_secs: u64,
    /// A request that failed is repeated at most so often, and for at most as long as a request may take.
    pub retries_max: usize,
    /// Requests at a time; more wait.
    pub requests_max: usize,
}

impl Default for S3Config {
    fn default() -> Self {
        S3Config {
            endpoint: None,
            region: None,
            path_style: true,
            allow_http: false,
            access_key_id: None,
            secret_access_key_file: None,
            secret_access_key_env: None,
            request_secs: 60,
            retries_max: 4,
            requests_max: 32,
        }
    }
}

impl S3Config {
    /// All that is wrong with the settings.
    pub(crate) fn problems(&self) -> Vec<String> {
        let secret = self.secret_access_key_file.is_some() || self.secret_access_key_env.is_some();
        let endpoint = self.endpoint.as_deref().map(|endpoint| address(endpoint, self.allow_http));
        let checks = [
            (self.request_secs >= 1, "s3.request_secs: must be at least 1"),
            (self.request_secs <= 280, "s3.request_secs: must be at most 280, a request is signed for five minutes"),
            (self.retries_max <= 20, "s3.retries_max: must be at most 20"),
            (self.requests_max >= 4, "s3.requests_max: must be at least 4"),
            (self.access_key_id.is_some() == secret, "s3.access_key_id: it and its secret belong together"),
        ];
        let found = checks.into_iter().filter(|(fine, _)| !fine).map(|(_, problem)| problem.to_owned());
        found.chain(endpoint.and_then(Result::err).map(|problem| format!("s3.endpoint: {problem}"))).collect()
    }
}

/// Where in which bucket.
#[derive(Clone)]
pub struct Bucket {
    pub(crate) store: Arc<dyn ObjectStore>,
    url: String,
}

impl Bucket {
    /// Reaches nothing yet. `variables` is the environment, `secret` the static key's where there is one.
    pub fn new(
        url: &str,
        config: &S3Config,
        secret: Option<&str>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Bucket, String> {
        let (bucket, prefix) = place(url)?;
        let mut builder = variables.into_iter().fold(AmazonS3Builder::new(), with_variable);
        if let (Some(id), Some(secret)) = (&config.access_key_id, secret) {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret.trim());
        }
        if let Some(region) = &config.region {
            builder = builder.with_region(region);
        }
        let known = |key| builder.get_config_value(&key);
        let variable = || known(AmazonS3ConfigKey::S3Endpoint).or_else(|| known(AmazonS3ConfigKey::Endpoint));
        let mut http = false;
        if let Some(endpoint) = config.endpoint.clone().or_else(variable) {
            let mut endpoint = address(&endpoint, config.allow_http)?;
            http = endpoint.scheme() == "http";
            if !config.path_style {
                let host = format!("{bucket}.{}", endpoint.host_str().unwrap_or_default());
                endpoint.set_host(Some(&host)).map_err(|error| format!("the bucket's host {host}: {error}"))?;
            }
            builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint.as_str().trim_end_matches('/'));
        }
        let request = Duration::from_secs(config.request_secs);
        let client = ClientOptions::new()
            .with_timeout(request)
            .with_connect_timeout(CONNECT)
            .with_pool_idle_timeout(POOL_IDLE)
            .with_pool_max_idle_per_host(config.requests_max)
            .with_allow_http(http);
        let backoff = BackoffConfig { max_backoff: BACKOFF_MAX, ..BackoffConfig::default() };
        let retry = RetryConfig { backoff, max_retries: config.retries_max, retry_timeout: request };
        let built = builder
            .with_bucket_name(bucket)
            .with_virtual_hosted_style_request(!config.path_style)
            .with_client_options(client)
            .with_retry(retry)
            .build();
        let store = LimitStore::new(built.map_err(|error| error.to_string())?, config.requests_max);
        Ok(Bucket { store: Arc::new(PrefixStore::new(store, prefix)), url: url.to_owned() })
    }

    /// Its objects, by their paths below the place of the lake.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.store.clone()
    }
}

impl std::fmt::Display for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.url)
    }
}

/// Without the store, which knows the secret.
impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bucket({})", self.url)
    }
}

/// Bucket and prefix of `s3://bucket/prefix`.
pub(crate) fn place(url: &str) -> Result<(String, Path), String> {
    let wrong = || format!("{url:?} is not s3://BUCKET or s3://BUCKET/PREFIX");
    let parsed = Url::parse(url).map_err(|_| wrong())?;
    let bucket = parsed.host_str().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
    let plain = parsed.username().is_empty() && parsed.password().is_none() && parsed.port().is_none();
    if parsed.scheme() != "s3" || !plain || parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(wrong());
    }
    Ok((bucket.to_owned(), Path::from_url_path(parsed.path()).map_err(|_| wrong())?))
}

/// The address of a service, unless records would travel unencrypted without being asked for it.
fn address(endpoint: &str, allow_http: bool) -> Result<Url, String> {
    let url = Url::parse(endpoint).map_err(|error| format!("{endpoint:?} is no address: {error}"))?;
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a name or password: credentials have keys of their own".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if here || allow_http => Ok(url),
        "http" => Err(format!("{endpoint} is unencrypted and not on this machine: use https, or set s3.allow_http")),
        _ => Err(format!("{endpoint:?} is neither https nor http")),
    }
}

/// What the environment says of credentials, region and endpoint; of time limits and the like the configuration does.
fn with_variable(builder: AmazonS3Builder, (name, value): (String, String)) -> AmazonS3Builder {
    if !name.starts_with("AWS_") {
        return builder;
    }
    match name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
        Ok(AmazonS3ConfigKey::Client(_) | AmazonS3ConfigKey::Bucket | AmazonS3ConfigKey::ConditionalPut) | Err(_) => {
            builder
        }
        Ok(key) => builder.with_config(key, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(url: &str, config: &S3Config, variables: &[(&str, &str)]) -> Result<Bucket, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Bucket::new(url, config, Some("secret\n"), variables)
    }

    #[test]
    fn a_url_names_a_bucket_and_a_prefix() {
        assert_eq!(place("s3://audit/muster/prod/").unwrap(), ("audit".into(), Path::from("muster/prod")));
        assert_eq!(place("s3://audit").unwrap(), ("audit".into(), Path::default()));
        for wrong in ["audit", "s3:///x", "file:///x", "s3://a:b@c/d", "s3://a/b?c", "https://a/b"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn plain_http_stays_on_this_machine_unless_asked_for() {
        let endpoint = |endpoint: &str| S3Config { endpoint: Some(endpoint.into()), ..S3Config::default() };
        for fine in ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000", "https://s3.example.com"] {
            assert!(new("s3://a", &endpoint(fine), &[]).is_ok(), "{fine}");
        }
        for wrong in ["http://s3.example.com", "http://10.0.0.1:9000", "ftp://localhost", "https://a:b@localhost"] {
            assert!(new("s3://a", &endpoint(wrong), &[]).is_err(), "{wrong}");
        }
        let asked = S3Config { allow_http: true, ..endpoint("http://10.0.0.1:9000") };
        assert!(new("s3://a", &asked, &[]).is_ok());
        let refused = new("s3://a", &S3Config::default(), &[("AWS_ENDPOINT_URL", "http://10.0.0.1:9000")]);
        assert!(refused.unwrap_err().contains("unencrypted"), "the environment's endpoint is looked at too");
    }

    #[test]
    fn no_secret_is_shown() {
        let config = S3Config { access_key_id: Some("id".into()), ..S3Config::default() };
        let bucket = new("s3://a", &config, &[("AWS_SESSION_TOKEN", "hidden-token")]).unwrap();
        let shown = format!("{bucket} {bucket:?} {}", bucket.store);
        assert!(!shown.contains("secret") && !shown.contains("hidden-token"), "{shown}");
    }
}
