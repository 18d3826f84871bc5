//! Switches declared as data: HTTP calls with how success, already-done and retry look, how to undo, how to read back.
//!
//! A declaration is one TOML file: those of `switches/declared/`, or the operator's own in `respond.switches_folder`. It says what
//! it needs (`parameters`, `secrets`), and lists the calls of `stop`, `release` and `read_back` in order. `{word}` stands for a
//! parameter, a secret, a fact of the order, or what an earlier call's answer said (`take`, by JSON pointer). A word is escaped
//! for the place it stands in, and the first part of a URL can only come from a parameter, so that no answer chooses the host.
//!
//! Without `release` it cannot be undone, without `read_back` it proves nothing. Every call is safe to repeat, since all of them
//! are repeated when one fails. What needs a protocol of its own is not for this file.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::fill::{Words, fill};
use super::{About, Kind, Message, Outcome, Switch};
use crate::config::{Config, System};
use crate::order::{Act, Order, Target};
use crate::outbound;

pub(super) static KIND: Kind = Kind {
    name: "http",
    stays_alive: "What its declaration says.",
    permission: "What its declaration says.",
    tried_against: "What its declaration says.",
    build,
};

/// The declarations that come with Muster.
pub(crate) const DECLARED: &[&str] = &[include_str!("declared/keycloak.toml"), include_str!("declared/rfc7009.toml")];

const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Items of a list that an answer gave and that are called for one by one.
const ITEMS_MAX: usize = 1000;
/// The operator's own declarations, and the size of one.
const FILES_MAX: usize = 100;
const FILE_BYTES_MAX: u64 = 100_000;
const SECRET_BYTES_MAX: u64 = 64_000;

/// One kind of system, as its file declares it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Declared {
    pub(crate) name: String,
    /// Kinds of targets that it can stop.
    pub(crate) targets: Vec<String>,
    #[serde(default)]
    pub(crate) parameters: Vec<String>,
    #[serde(default)]
    pub(crate) secrets: Vec<String>,
    /// The parameter that names a folder with a secret for each target: `{target_secret}`.
    target_secret: Option<String>,
    pub(crate) stays_alive: String,
    pub(crate) permission: String,
    pub(crate) tried_against: String,
    stop: Vec<Step>,
    #[serde(default)]
    release: Vec<Step>,
    #[serde(default)]
    read_back: Vec<Step>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    method: String,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    json: Option<Value>,
    form: Option<BTreeMap<String, String>>,
    /// A list taken before: the call is made for each of its items, as `{item}`.
    each: Option<String>,
    /// Statuses that mean success; 2xx where none is named.
    #[serde(default)]
    success: Vec<u16>,
    /// Statuses that mean that it was so already.
    #[serde(default)]
    already: Vec<u16>,
    /// Statuses worth repeating, besides 408, 425, 429 and 5xx.
    #[serde(default)]
    retry: Vec<u16>,
    /// Words from the answer, by JSON pointer.
    #[serde(default)]
    take: BTreeMap<String, String>,
    /// Lists from the answer, which is an array, by the pointer within each item.
    #[serde(default)]
    take_all: BTreeMap<String, String>,
    expect: Option<Expect>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    pointer: String,
    equals: Value,
}

struct Http {
    config: Config,
    system: System,
    declared: Declared,
    timeout: Duration,
    client: reqwest::Client,
}

/// All declarations: Muster's own, then those of the operator's folder, which may not take a name again.
pub(crate) fn declarations(config: &Config) -> Result<Vec<Declared>, String> {
    let mut texts: Vec<(String, String)> =
        DECLARED.iter().map(|text| ("built in".to_owned(), (*text).to_owned())).collect();
    if let Some(folder) = &config.switches_folder {
        let at = |error: std::io::Error| format!("switches_folder {folder}: {error}");
        let mut paths: Vec<_> =
            std::fs::read_dir(folder).map_err(at)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        paths.sort();
        for path in paths.into_iter().take(FILES_MAX) {
            if std::fs::metadata(&path).map_err(at)?.len() > FILE_BYTES_MAX {
                return Err(format!("{}: is larger than {FILE_BYTES_MAX} bytes", path.display()));
            }
            texts.push((path.display().to_string(), std::fs::read_to_string(&path).map_err(at)?));
        }
    }
    let mut all: Vec<Declared> = Vec::new();
    for (place, text) in texts {
        let declared: Declared = toml::from_str(&text).map_err(|error| format!("{place}: {error}"))?;
        if all.iter().any(|other| other.name == declared.name) {
            return Err(format!("{place}: `{}` is declared already", declared.name));
        }
        declared.check().map_err(|problem| format!("{place}: {problem}"))?;
        all.push(declared);
    }
    Ok(all)
}

impl Declared {
    fn steps(&self) -> impl Iterator<Item = &Step> {
        self.stop.iter().chain(&self.release).chain(&self.read_back)
    }

    fn check(&self) -> Result<(), String> {
        if self.stop.is_empty() || self.name.is_empty() {
            return Err("needs a `name` and a `stop`".into());
        }
        for step in self.steps() {
            reqwest::Method::from_bytes(step.method.as_bytes())
                .map_err(|_| format!("`{}` is no method", step.method))?;
            let first = step.url.split_once('}').map_or("", |(first, _)| first).strip_prefix('{');
            if !first.is_some_and(|first| self.parameters.iter().any(|name| name == first)) {
                return Err(format!("url `{}` must begin with a parameter in braces", step.url));
            }
        }
        if self.read_back.iter().all(|step| step.expect.is_none()) && !self.read_back.is_empty() {
            return Err("`read_back` expects nothing".into());
        }
        Ok(())
    }
}

fn build(config: &Config) -> Result<Vec<Box<dyn Switch>>, String> {
    if config.systems.is_empty() {
        return Ok(Vec::new());
    }
    let declarations = declarations(config)?;
    let client = outbound::client(config).map_err(|error| format!("cannot make an HTTP client: {error}"))?;
    let one = |system: &System| {
        let at = |problem: String| format!("system `{}`: {problem}", system.name);
        let declared = declarations.iter().find(|declared| declared.name == system.kind);
        let declared = declared.ok_or_else(|| {
            let known: Vec<&str> = declarations.iter().map(|declared| declared.name.as_str()).collect();
            at(format!("no declaration is named `{}`; there are {}", system.kind, known.join(", ")))
        })?;
        let missing = declared.parameters.iter().find(|name| !system.parameters.contains_key(*name));
        let unknown = system.parameters.keys().find(|name| !declared.parameters.contains(name));
        let secret = declared.secrets.iter().find(|name| !system.secrets.contains_key(*name));
        for (problem, name) in
            [("parameter is missing", missing), ("parameter is unknown", unknown), ("secret is missing", secret)]
        {
            if let Some(name) = name {
                return Err(at(format!("the {problem}: `{name}`")));
            }
        }
        let http = Http {
            config: config.clone(),
            timeout: Duration::from_millis(system.timeout_ms),
            system: system.clone(),
            declared: declared.clone(),
            client: client.clone(),
        };
        for step in declared.steps() {
            http.url(step, &http.given()).map_err(|error| at(format!("{error:?}")))?;
        }
        Ok(Box::new(http) as Box<dyn Switch>)
    };
    config.systems.iter().map(one).collect()
}

/// Lists that answers gave, by name.
type Lists = BTreeMap<String, Vec<String>>;

impl Http {
    fn given(&self) -> Words {
        self.system.parameters.clone()
    }

    /// Everything that a call may say before any answer is known.
    async fn words(&self, message: &Message) -> Result<Words, Outcome> {
        let order = &message.order;
        let mut words = self.given();
        words.extend(self.system.secrets.iter().map(|(name, secret)| (name.clone(), secret.text().to_owned())));
        let (_, first, second) = order.target.parts();
        let name = message.name_in(self.system.names.as_deref()).unwrap_or_else(|| first.to_owned());
        let facts = [
            ("name", name),
            ("target", first.to_owned()),
            ("second", second.to_owned()),
            ("order_id", order.order_id.clone()),
            ("message_id", message.id.clone()),
            // Of when it was asked for: a repeat says the same.
            ("asked_secs", message.call.asked_at.div_euclid(1_000_000).to_string()),
        ];
        words.extend(facts.map(|(name, value)| (name.to_owned(), value)));
        if let Some(parameter) = &self.declared.target_secret {
            let folder = self.system.parameters.get(parameter).map_or("", String::as_str);
            words.insert("target_secret".into(), target_secret(folder, first).await?);
        }
        Ok(words)
    }

    fn url(&self, step: &Step, words: &Words) -> Result<Url, Outcome> {
        let first = step.url.split_once('}').and_then(|(first, _)| words.get(first.trim_start_matches('{')));
        let base = first.map_or("", String::as_str);
        let rest = step.url.split_once('}').map_or("", |(_, rest)| rest);
        let text = format!("{}{}", base.trim_end_matches('/'), fill(rest, words, percent_encoded));
        let url = Url::parse(&text).map_err(|error| Outcome::Failed(format!("`{}`: {error}", step.url)))?;
        match outbound::url_problem(&self.config, &url) {
            Some(problem) => Err(Outcome::Failed(problem)),
            None => Ok(url),
        }
    }

    /// Makes the steps in order; `Ok` with what to say when all are done.
    async fn run(&self, steps: &[Step], message: &Message) -> Result<String, Outcome> {
        let mut words = self.words(message).await?;
        let (mut lists, mut said) = (Lists::new(), String::new());
        for step in steps {
            let items = match &step.each {
                None => vec![None],
                Some(list) => lists.get(list).into_iter().flatten().cloned().map(Some).collect(),
            };
            for item in items {
                words.extend(item.map(|item| ("item".to_owned(), item)));
                said = self.make(step, &mut words, &mut lists, message.now_secs).await?;
            }
        }
        Ok(said)
    }

    async fn make(&self, step: &Step, words: &mut Words, lists: &mut Lists, now_secs: i64) -> Result<String, Outcome> {
        let place = format!("{} {}", step.method, step.url);
        let method = reqwest::Method::from_bytes(step.method.as_bytes()).expect("the declaration was checked");
        let mut request = self.client.request(method, self.url(step, words)?).timeout(self.timeout);
        for (name, value) in &step.headers {
            let bad = |_| Outcome::Failed(format!("{place}: header {name} cannot hold this value"));
            let value = HeaderValue::from_str(&fill(value, words, str::to_owned)).map_err(bad)?;
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| Outcome::Failed(format!("{place}: `{name}` is no header")))?;
            request = request.header(name, value);
        }
        if let Some(json) = &step.json {
            request = request.json(&super::fill::json(json, words));
        }
        if let Some(form) = &step.form {
            let pairs = form.iter().map(|(key, value)| (key, fill(value, words, str::to_owned)));
            let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        }
        let response = request.send().await.map_err(|error| super::failure(&error))?;
        let status = response.status();
        if step.already.contains(&status.as_u16()) {
            return Ok(format!("{place}: was so already ({status})"));
        }
        judge(step, &place, status, response.headers(), now_secs)?;
        if step.take.is_empty() && step.take_all.is_empty() && step.expect.is_none() {
            return Ok(format!("{place} answered {status}"));
        }
        let answer = answer(response, &place).await?;
        read(step, &place, &answer, words, lists)
    }
}

fn judge(
    step: &Step,
    place: &str,
    status: StatusCode,
    headers: &reqwest::header::HeaderMap,
    now_secs: i64,
) -> Result<(), Outcome> {
    let code = status.as_u16();
    let success = if step.success.is_empty() { status.is_success() } else { step.success.contains(&code) };
    if success {
        return Ok(());
    }
    let said = format!("{place} answered {status}");
    let again = status.is_server_error() || matches!(code, 408 | 425 | 429) || step.retry.contains(&code);
    Err(if again { Outcome::Retry(said, super::retry_after_secs(headers, now_secs)) } else { Outcome::Failed(said) })
}

async fn answer(mut response: reqwest::Response, place: &str) -> Result<Value, Outcome> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= ANSWER_BYTES_MAX => body.extend_from_slice(&chunk),
            Ok(Some(_)) => {
                return Err(Outcome::Failed(format!("{place}: the answer is over {ANSWER_BYTES_MAX} bytes")));
            }
            Ok(None) => break,
            Err(error) => return Err(super::failure(&error)),
        }
    }
    // Something between may have answered in its place.
    serde_json::from_slice(&body).map_err(|_| Outcome::Retry(format!("{place}: the answer is not JSON"), None))
}

/// Takes from an answer what later steps need, and compares what is expected.
fn read(step: &Step, place: &str, answer: &Value, words: &mut Words, lists: &mut Lists) -> Result<String, Outcome> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for (name, pointer) in &step.take {
        let found = answer.pointer(pointer).filter(|value| !value.is_null());
        let found = found.ok_or_else(|| Outcome::Failed(format!("{place}: the answer has no {pointer}")))?;
        words.insert(name.clone(), text(found));
    }
    for (name, pointer) in &step.take_all {
        let items = answer.as_array().ok_or_else(|| Outcome::Failed(format!("{place}: the answer is no list")))?;
        if items.len() > ITEMS_MAX {
            return Err(Outcome::Failed(format!("{place}: the answer lists more than {ITEMS_MAX}")));
        }
        lists.insert(name.clone(), items.iter().filter_map(|item| item.pointer(pointer)).map(text).collect());
    }
    let Some(expect) = &step.expect else { return Ok(format!("{place} answered")) };
    let found = answer.pointer(&expect.pointer);
    if found == Some(&expect.equals) {
        return Ok(format!("{} is {}", expect.pointer, expect.equals));
    }
    let found = found.map_or_else(|| "missing".to_owned(), text);
    Err(Outcome::NotSo(format!("{} is {found}, not {}", expect.pointer, expect.equals)))
}

/// The secret that a folder holds for one target.
async fn target_secret(folder: &str, target: &str) -> Result<String, Outcome> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if target.is_empty() || target.starts_with('.') || !target.chars().all(plain) {
        return Err(Outcome::Failed(format!("`{target}` cannot be the name of a file with its secret")));
    }
    let path = std::path::Path::new(folder).join(target);
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Outcome::Failed(format!("{} is not there", path.display())),
        _ => Outcome::Retry(format!("cannot read {}: {error}", path.display()), None),
    };
    let size = tokio::fs::metadata(&path).await.map_err(unreadable)?.len();
    if size > SECRET_BYTES_MAX {
        return Err(Outcome::Failed(format!("{} is larger than {SECRET_BYTES_MAX} bytes", path.display())));
    }
    let text = tokio::fs::read_to_string(&path).await.map_err(unreadable)?;
    match text.trim() {
        // It may be being written just now.
        "" => Err(Outcome::Retry(format!("{} is empty", path.display()), None)),
        secret => Ok(secret.to_owned()),
    }
}

fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    // A name of dots would climb: `..` is a path of its own.
    let dots = text.bytes().all(|byte| byte == b'.');
    text.bytes()
        .map(|byte| if plain(byte) && !dots { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[async_trait]
impl Switch for Http {
    fn name(&self) -> &str {
        &self.system.name
    }

    fn about(&self) -> About<'_> {
        let Declared { stays_alive, permission, tried_against, .. } = &self.declared;
        About { stays_alive, permission, tried_against }
    }

    fn stops(&self, target: &Target) -> bool {
        self.declared.targets.iter().any(|kind| kind == target.kind())
    }

    fn calls(&self, order: &Order) -> Vec<String> {
        let (_, first, second) = order.target.parts();
        let mut words = self.given();
        words.extend([("target", first), ("second", second)].map(|(name, value)| (name.to_owned(), value.to_owned())));
        let line = |step: &Step| {
            let each = step.each.as_ref().map_or(String::new(), |list| format!(" for each of its {list}"));
            let body = step.json.as_ref().map_or(String::new(), |json| format!(" {json}"));
            format!("{} {}{body}{each}", step.method, fill(&step.url, &words, str::to_owned))
        };
        self.declared.stop.iter().map(line).collect()
    }

    fn reversible(&self) -> bool {
        !self.declared.release.is_empty()
    }

    fn reads_back(&self) -> bool {
        !self.declared.read_back.is_empty()
    }

    async fn call(&self, message: &Message) -> Outcome {
        let (kind, name) = (message.order.target.kind(), &self.declared.name);
        let steps = match message.call.act {
            Act::Release => &self.declared.release,
            Act::Stop if self.stops(&message.order.target) => &self.declared.stop,
            Act::Stop => return Outcome::Failed(format!("{name} cannot stop a target of kind {kind}")),
            Act::Look | Act::Tell => return Outcome::Failed(format!("{name} cannot tell anybody")),
        };
        match self.run(steps, message).await {
            Ok(said) => Outcome::Done(said),
            Err(outcome) => outcome,
        }
    }

    async fn look(&self, message: &Message) -> Outcome {
        match self.run(&self.declared.read_back, message).await {
            Ok(said) => Outcome::Done(said),
            Err(outcome) => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_muster_declares_is_right() {
        let all = declarations(&Config::default()).expect("the built-in declarations are right");
        assert_eq!(all.iter().map(|declared| declared.name.as_str()).collect::<Vec<_>>(), ["keycloak", "rfc7009"]);
    }

    #[test]
    fn a_name_never_climbs_out_of_its_place() {
        assert_eq!(percent_encoded("a/../b?c=d#e"), "a%2F..%2Fb%3Fc%3Dd%23e");
        assert_eq!(percent_encoded(".."), "%2E%2E");
    }

    #[test]
    fn the_host_comes_from_a_parameter() {
        let base = "name='x'\ntargets=[]\nstays_alive=''\npermission=''\ntried_against=''\nparameters=['base']\n";
        let check = |url: &str| {
            let text = format!("{base}[[stop]]\nmethod='GET'\nurl='{url}'\n");
            toml::from_str::<Declared>(&text).expect("is a declaration").check()
        };
        assert!(check("{base}/x/{target}").is_ok());
        assert!(check("https://{target}.example/").is_err() && check("{target}/x").is_err());
    }
}
