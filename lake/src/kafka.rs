//! How Apache Kafka is reached: the settings of a client, for the log and for the door, and what it says of itself.

use std::path::PathBuf;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hidden::Hidden;

const TIMEOUT_MS_MAX: u64 = 300_000;

/// How the connection to the brokers is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    #[default]
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

impl Security {
    fn name(self) -> &'static str {
        match self {
            Security::Plaintext => "plaintext",
            Security::Ssl => "ssl",
            Security::SaslPlaintext => "sasl_plaintext",
            Security::SaslSsl => "sasl_ssl",
        }
    }

    fn tls(self) -> bool {
        matches!(self, Security::Ssl | Security::SaslSsl)
    }

    fn sasl(self) -> bool {
        matches!(self, Security::SaslPlaintext | Security::SaslSsl)
    }
}

/// How user and password are shown to the brokers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaslMechanism {
    Plain,
    ScramSha256,
    #[default]
    ScramSha512,
}

/// Settings of a client of Apache Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaConfig {
    /// Brokers to begin with, `host:port`; they name the others.
    pub bootstrap: Vec<String>,
    /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.
    pub security: Security,
    /// `plain`, `scram_sha256` or `scram_sha512`; only with one of the `sasl` securities.
    pub sasl_mechanism: SaslMechanism,
    /// The user at the brokers.
    pub sasl_user: String,
    /// File that holds the user's password.
    pub sasl_password_file: Option<PathBuf>,
    /// Environment variable that holds it.
    pub sasl_password_env: Option<String>,
    /// Certificates, in PEM, of whoever may vouch for the brokers; else the system's own.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate in PEM, where the brokers ask for one.
    pub certificate_file: Option<PathBuf>,
    /// Its key in PEM.
    pub key_file: Option<PathBuf>,
    /// How long a request may take, in milliseconds, from 1,000 to 300,000.
    pub timeout_ms: u64,
    /// The password itself, resolved by the binary; never read from or written to configuration.
    #[serde(skip)]
    pub sasl_password: Option<Hidden>,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        KafkaConfig {
            bootstrap: Vec::new(),
            security: Security::default(),
            sasl_mechanism: SaslMechanism::default(),
            sasl_user: String::new(),
            sasl_password_file: None,
            sasl_password_env: None,
            ca_file: None,
            certificate_file: None,
            key_file: None,
            timeout_ms: 20_000,
            sasl_password: None,
        }
    }
}

impl KafkaConfig {
    /// All that is wrong with the settings.
    pub fn problems(&self) -> Vec<String> {
        let place = |server: &String| {
            let port = server.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
            port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
        };
        let password = self.sasl_password_file.is_some() || self.sasl_password_env.is_some();
        let keyed = self.certificate_file.is_some() || self.key_file.is_some();
        let checks = [
            (!self.bootstrap.is_empty(), "bootstrap: at least one broker is needed"),
            (self.bootstrap.len() <= 64, "bootstrap: at most 64 brokers"),
            (self.bootstrap.iter().all(place), "bootstrap: a broker is `host:port`"),
            (
                !self.security.sasl() || !self.sasl_user.is_empty(),
                "sasl_user: is needed with `sasl_plaintext` and `sasl_ssl`",
            ),
            (
                !self.security.sasl() || password || self.sasl_password.is_some(),
                "sasl_password_file: this or `sasl_password_env` is needed with `sasl_plaintext` and `sasl_ssl`",
            ),
            (
                self.security.sasl() || (self.sasl_user.is_empty() && !password),
                "security: a user is only shown with `sasl_plaintext` or `sasl_ssl`",
            ),
            (
                self.security.tls() || (self.ca_file.is_none() && !keyed),
                "security: certificates are only used with `ssl` or `sasl_ssl`",
            ),
            (
                self.certificate_file.is_some() == self.key_file.is_some(),
                "certificate_file: comes with `key_file`, and it with this",
            ),
            ((1_000..=TIMEOUT_MS_MAX).contains(&self.timeout_ms), "timeout_ms: must be from 1,000 to 300,000"),
        ];
        checks.into_iter().filter(|(fine, _)| !fine).map(|(_, problem)| problem.to_owned()).collect()
    }

    /// The client library's own settings; what is particular to a producer or consumer is the caller's to add.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Warning);
        let mut set = |key: &str, value: &str| {
            config.set(key, value);
        };
        set("bootstrap.servers", &self.bootstrap.join(","));
        set("client.id", "muster");
        set("security.protocol", self.security.name());
        set("socket.timeout.ms", &self.timeout_ms.to_string());
        set("socket.keepalive.enable", "true");
        set("reconnect.backoff.max.ms", "2000");
        // Idle connections that a broker closes are no news.
        set("log.connection.close", "false");
        if self.security.sasl() {
            let mechanism = match self.sasl_mechanism {
                SaslMechanism::Plain => "PLAIN",
                SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
                SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
            };
            set("sasl.mechanism", mechanism);
            set("sasl.username", &self.sasl_user);
            set("sasl.password", self.sasl_password.as_ref().map_or("", Hidden::text));
        }
        let files = [
            ("ssl.ca.location", &self.ca_file),
            ("ssl.certificate.location", &self.certificate_file),
            ("ssl.key.location", &self.key_file),
        ];
        for (key, file) in files {
            if let Some(file) = file {
                set(key, &file.display().to_string());
            }
        }
        config
    }
}

/// What a client says of itself goes where everything goes that is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Telling;

impl ClientContext for Telling {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::error!(facility, "kafka: {message}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(facility, "kafka: {message}"),
            _ => tracing::debug!(facility, "kafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, "kafka: {reason}");
    }
}

impl ConsumerContext for Telling {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_do_not_fit_together_are_named() {
        let fine = KafkaConfig { bootstrap: vec!["127.0.0.1:9092".into(), "[::1]:9".into()], ..KafkaConfig::default() };
        assert_eq!(fine.problems(), Vec::<String>::new());
        for (config, named) in [
            (KafkaConfig::default(), "bootstrap"),
            (KafkaConfig { bootstrap: vec!["broker".into()], ..fine.clone() }, "bootstrap"),
            (KafkaConfig { security: Security::SaslSsl, ..fine.clone() }, "sasl_user"),
            (KafkaConfig { sasl_user: "u".into(), ..fine.clone() }, "security"),
            (KafkaConfig { ca_file: Some("ca.pem".into()), ..fine.clone() }, "security"),
            (KafkaConfig { security: Security::Ssl, key_file: Some("k".into()), ..fine.clone() }, "certificate_file"),
            (KafkaConfig { timeout_ms: 0, ..fine }, "timeout_ms"),
        ] {
            assert!(config.problems().iter().any(|problem| problem.starts_with(named)), "{:?}", config.problems());
        }
    }

    #[test]
    fn the_password_goes_to_the_client_and_nowhere_else() {
        let config = KafkaConfig {
            bootstrap: vec!["a:1".into()],
            security: Security::SaslSsl,
            sasl_user: "muster".into(),
            sasl_password: Some(Hidden::new("deep secret\n")),
            ca_file: Some("/ca.pem".into()),
            ..KafkaConfig::default()
        };
        assert_eq!(config.problems(), Vec::<String>::new());
        assert!(!format!("{config:?}").contains("deep secret"));
        assert!(!serde_json::to_string(&config).expect("writes").contains("deep secret"));
        let client = config.client();
        let expected = [
            ("sasl.password", "deep secret"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("security.protocol", "sasl_ssl"),
            ("ssl.ca.location", "/ca.pem"),
        ];
        for (key, value) in expected {
            assert_eq!(client.get(key), Some(value), "{key}");
        }
    }
}
