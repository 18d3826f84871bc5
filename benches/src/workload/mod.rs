//! Any number of one source's records, of realistic size and skew, fast enough not to be what is measured.
//!
//! Few agents make most of the traffic (Zipf), days have a rhythm, each agent keeps to a handful of routes and strays now
//! and then, calls come in sessions that share a token and a user, some are denied or fail. The same [`Spec`] gives the
//! same bytes. Left out: any story worth an alert; that is [`crate::fleet`]'s.

mod population;

use fastrand::Rng;

use crate::records::{Agent, Call, Token, User, Uuid, aws_cloudtrail, envoy, kong, okta};
use population::{ROUTES, Route};

/// The sources that can be generated, under the names of their mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Envoy,
    Okta,
    Kong,
    AwsCloudtrail,
}

impl Source {
    pub const ALL: [Source; 4] = [Source::Envoy, Source::Okta, Source::Kong, Source::AwsCloudtrail];

    pub fn name(self) -> &'static str {
        match self {
            Source::Envoy => "envoy",
            Source::Okta => "okta",
            Source::Kong => "kong",
            Source::AwsCloudtrail => "aws_cloudtrail",
        }
    }

    pub fn named(name: &str) -> Option<Source> {
        Source::ALL.into_iter().find(|source| source.name() == name)
    }
}

/// What to generate.
#[derive(Clone, Debug)]
pub struct Spec {
    pub source: Source,
    pub events: u64,
    /// How many agents there are; at most [`AGENTS_MAX`].
    pub agents: u32,
    /// Whether all agents work alike, instead of few making most of the traffic.
    pub uniform: bool,
    pub seed: u64,
    /// Time of the first record, in microseconds since the Unix epoch.
    pub start_micros: i64,
    /// The span that the records are spread over.
    pub span_secs: u32,
}

impl Default for Spec {
    fn default() -> Self {
        let start_micros = 1_767_225_600_000_000; // 2026-01-01T00:00:00Z
        Spec {
            source: Source::Envoy,
            events: 1_000_000,
            agents: 10_000,
            uniform: false,
            seed: 1,
            start_micros,
            span_secs: 86_400,
        }
    }
}

impl Spec {
    /// All its records, one a line.
    pub fn written(self) -> Vec<u8> {
        let mut generator = Generator::new(self);
        let mut out = Vec::new();
        while generator.write_record(&mut out) {}
        out
    }
}

/// Each takes less than a kilobyte of memory.
pub const AGENTS_MAX: u32 = 1_000_000;
const SESSION_SECS: i64 = 3_600;
/// Traffic by the hour, UTC, in percent of the mean.
const HOURS: [u16; 24] =
    [45, 40, 40, 40, 45, 55, 75, 105, 130, 150, 155, 150, 135, 145, 155, 155, 145, 130, 115, 95, 75, 65, 60, 95];

/// Writes the records of a [`Spec`] in order of time.
pub struct Generator {
    spec: Spec,
    rng: Rng,
    agents: Vec<Agent>,
    users: Vec<User>,
    /// Each agent's current session, where it has one.
    sessions: Vec<Option<Session>>,
    written: u64,
    time_micros: f64,
}

struct Session {
    token: Token,
    key_id: String,
    user: Option<u32>,
}

impl Generator {
    /// A spec of no agents is taken as one agent, one of too many as [`AGENTS_MAX`].
    pub fn new(mut spec: Spec) -> Generator {
        spec.agents = spec.agents.clamp(1, AGENTS_MAX);
        let mut rng = Rng::with_seed(spec.seed);
        let users = population::users(&mut rng, spec.agents / 4 + 10);
        let agents = population::agents(&mut rng, spec.agents, &users);
        let sessions = agents.iter().map(|_| None).collect();
        Generator { time_micros: 0.0, written: 0, spec, rng, agents, users, sessions }
    }

    /// Appends the next record and a line feed; `false` and nothing once all are written.
    pub fn write_record(&mut self, out: &mut Vec<u8>) -> bool {
        if self.written == self.spec.events {
            return false;
        }
        self.written += 1;
        let time_micros = self.next_time();
        // Zipf with exponent one, by inverting its distribution: rank k comes about 1/k as often as the first.
        let rank = match self.spec.uniform {
            true => self.rng.usize(1..=self.agents.len()),
            false => f64::from(self.spec.agents).powf(self.rng.f64()) as usize,
        };
        let agent = rank.clamp(1, self.agents.len()) - 1;
        let fresh = self.renew_session(agent, time_micros);
        match self.spec.source {
            Source::Okta => self.write_okta(agent, time_micros, fresh, out),
            _ => self.write_call(agent, time_micros, out),
        }
        true
    }

    fn next_time(&mut self) -> i64 {
        let now = self.spec.start_micros + self.time_micros as i64;
        let hour = now.div_euclid(3_600_000_000).rem_euclid(24) as usize;
        let gap_mean = f64::from(self.spec.span_secs) * 1e6 / self.spec.events as f64 * 100.0 / f64::from(HOURS[hour]);
        // Arrivals are independent of each other: gaps are exponential.
        self.time_micros += -(1.0 - self.rng.f64()).ln() * gap_mean;
        now
    }

    /// Whether the agent had to begin a new session.
    fn renew_session(&mut self, agent: usize, time_micros: i64) -> bool {
        let now_secs = time_micros / 1_000_000;
        let live = self.sessions[agent].as_ref().and_then(|session| session.token.expires_secs);
        if live.is_some_and(|expires| now_secs < expires) {
            return false;
        }
        let rng = &mut self.rng;
        let scopes = population::SCOPES[agent % population::SCOPES.len()];
        let token = Token::issue(rng, population::ISSUER, scopes, now_secs, SESSION_SECS);
        // An agent acts for the same few people; one time in five for nobody but itself.
        let user = (rng.u8(..) >= 51).then(|| (agent as u32 * 7 + rng.u32(..5)) % self.users.len() as u32);
        self.sessions[agent] = Some(Session { token, key_id: aws_cloudtrail::key_id(rng), user });
        true
    }

    fn write_okta(&mut self, agent: usize, time_micros: i64, fresh: bool, out: &mut Vec<u8>) {
        let rng = &mut self.rng;
        let id = Uuid::random(rng);
        let session = self.sessions[agent].as_ref().expect("the session was just renewed");
        let user = session.user.map(|user| &self.users[user as usize]);
        match user {
            Some(user) if !fresh && rng.u8(..) < 64 => {
                let reason = (rng.u8(..) < 8).then_some("INVALID_CREDENTIALS");
                okta::login(time_micros, id, user, &session.token.session, reason, out);
            }
            _ => okta::token_grant(time_micros, id, &self.agents[agent], user, &session.token, out),
        }
    }

    fn write_call(&mut self, agent: usize, time_micros: i64, out: &mut Vec<u8>) {
        let rng = &mut self.rng;
        let session = self.sessions[agent].as_ref().expect("the session was just renewed");
        let route = habit(rng, agent, ROUTES.len());
        let Route { service, method, before, after } = ROUTES[route];
        let mut path = String::with_capacity(64);
        path.push_str(before);
        if let Some(after) = after {
            let number = 10_000 + (agent as u32 * 37 + rng.u32(..200)) % 90_000;
            path.push_str(itoa(number, &mut [0; 10]));
            path.push_str(after);
        }
        let call = Call {
            time_micros,
            id: Uuid::random(rng),
            agent: &self.agents[agent],
            user: session.user.map(|user| &self.users[user as usize]),
            token: Some(&session.token),
            service,
            method,
            path: &path,
            status: status(rng, method),
            duration_ms: 3 + i64::from(rng.u16(..64)) * i64::from(rng.u16(..8)),
            bytes_in: if method == "GET" { 0 } else { rng.i64(80..2_000) },
            bytes_out: 150 + i64::from(rng.u16(..256)) * i64::from(rng.u16(..64)),
        };
        match self.spec.source {
            Source::Envoy => envoy::access(&call, out),
            Source::Kong => kong::http_log(&call, out),
            Source::AwsCloudtrail => {
                let api = &aws_cloudtrail::APIS[route % aws_cloudtrail::APIS.len()];
                aws_cloudtrail::api_call(&call, api, &session.key_id, out);
            }
            Source::Okta => unreachable!("okta logs no calls"),
        }
    }
}

/// One of the agent's own few choices of `count`, its favourite most often; one time in 200 any choice.
fn habit(rng: &mut Rng, agent: usize, count: usize) -> usize {
    if rng.u8(..200) == 0 {
        return rng.usize(..count);
    }
    let favourite = rng.u8(..6).min(rng.u8(..6)) as usize;
    (agent * 5 + favourite * 3) % count
}

/// Most calls succeed; some are denied, miss, are limited or fail.
pub(crate) fn status(rng: &mut Rng, method: &str) -> u16 {
    match rng.u16(..1_000) {
        0..6 => 403,
        6..16 => 404,
        16..19 => 429,
        19..22 => 503,
        _ if method == "POST" => 201,
        _ => 200,
    }
}

/// `number` in decimal digits, without an allocation.
fn itoa(mut number: u32, digits: &mut [u8; 10]) -> &str {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return str::from_utf8(&digits[at..]).expect("digits are text");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::HashMap;

    fn generate(source: Source, seed: u64) -> Vec<u8> {
        let mut generator = Generator::new(Spec { source, seed, events: 3_000, agents: 100, ..Spec::default() });
        let mut out = Vec::new();
        while generator.write_record(&mut out) {}
        out
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        for source in Source::ALL {
            let first = generate(source, 7);
            assert!(first == generate(source, 7), "{} differs from itself", source.name());
            assert!(first != generate(source, 8), "{} ignores the seed", source.name());
            assert_eq!(Source::named(source.name()), Some(source));
        }
    }

    #[test]
    fn the_mapping_of_a_files_agent_events_holds() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("workload");
        let sources = ingest::Sources::load(Some(&folder)).unwrap();
        let report = ingest::fixtures::run(sources.get("agent_events").unwrap(), &folder);
        assert_eq!((report.passed, report.failures), (1, vec![]));
    }

    #[test]
    fn every_line_is_a_record_of_its_vendor_in_order_of_time() {
        let time_of = |source, record: &Value| match source {
            Source::Envoy => record["start_time"].as_str().map(str::to_owned),
            Source::Okta => record["published"].as_str().map(str::to_owned),
            Source::Kong => record["started_at"].as_i64().map(|millis| millis.to_string()),
            Source::AwsCloudtrail => record["eventTime"].as_str().map(str::to_owned),
        };
        for source in Source::ALL {
            let text = String::from_utf8(generate(source, 1)).unwrap();
            let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(records.len(), 3_000);
            let times: Vec<String> = records.iter().map(|record| time_of(source, record).unwrap()).collect();
            assert!(times.is_sorted(), "{} is out of order", source.name());
        }
    }

    #[test]
    fn traffic_is_skewed_and_sessions_share_a_token() {
        let text = String::from_utf8(generate(Source::Envoy, 1)).unwrap();
        let (mut agents, mut tokens) = (HashMap::<String, u32>::new(), HashMap::<String, String>::new());
        for line in text.lines() {
            let claims = &serde_json::from_str::<Value>(line).unwrap()["jwt_payload"];
            let agent = claims["azp"].as_str().unwrap().to_owned();
            *agents.entry(agent.clone()).or_default() += 1;
            let holder = tokens.entry(claims["jti"].as_str().unwrap().to_owned()).or_insert(agent.clone());
            assert_eq!(*holder, agent);
        }
        let busiest = agents.values().max().unwrap();
        assert!((300..900).contains(busiest), "{busiest} of 3000 calls by the busiest agent");
        assert!(tokens.len() < 1_500, "{} tokens for 3000 calls", tokens.len());
    }
}
