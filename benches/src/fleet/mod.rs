//! A believable company for `muster demo`: two tenants, 200 agents with jobs, owners and people they act for, a week of
//! their records up to a given moment, and then three incidents at that moment.
//!
//! Everything comes as the bodies of HTTP requests in the vendors' formats, so that the demo goes in by the same door as
//! anybody's logs. [`Fleet::facts`] says what a correct observer must find; the week itself holds nothing but habits,
//! with the variation that habits have. Records of a batch are in order of time; so are batches, to within a window.

mod cast;
mod jobs;
mod stories;
#[cfg(test)]
mod tests;
mod week;

use fastrand::Rng;

use crate::records::{Agent, Call, Token, User, Uuid};
use crate::workload::{Source, status};
use cast::{Member, Person};
pub use stories::{Facts, Hijack, NeverExpires, Shared, Who};

/// Muster's tenants. Which one a record belongs to is for the sender's token to say, never the record.
pub const TENANTS: [&str; 2] = ["acme", "globex"];

/// The body of one request to `/v1/ingest/{source}` with the token of `tenant`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub tenant: &'static str,
    pub source: Source,
    pub records: usize,
    /// One JSON object a line.
    pub body: Vec<u8>,
}

/// The company; the same seed, moment and volume give the same bytes.
pub struct Fleet {
    seed: u64,
    now_micros: i64,
    volume: f64,
    persons: Vec<Person>,
    members: Vec<Member>,
}

impl Fleet {
    /// A fleet whose week ends at `now_micros` (since the Unix epoch), of about 50,000 records.
    pub fn new(seed: u64, now_micros: i64) -> Fleet {
        let mut rng = Rng::with_seed(seed);
        let persons = cast::persons(&mut rng);
        let members = cast::members(&mut rng, &persons, now_micros / 1_000_000);
        Fleet { seed, now_micros, volume: 1.0, persons, members }
    }

    /// The same fleet, so many times as busy; at most a hundred times.
    pub fn volume(mut self, times: f64) -> Fleet {
        self.volume = times.clamp(0.0, 100.0);
        self
    }

    /// The week before now.
    pub fn week(&self) -> impl Iterator<Item = Batch> + '_ {
        week::Week::new(self)
    }

    pub fn agents(&self) -> usize {
        self.members.len()
    }

    /// The agents that have the job at a tenant, in a fixed order.
    fn with_job(&self, job: &str, tenant: usize) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.job.name == job && member.tenant == tenant)
    }
}

/// Who makes a call: an agent, for whom, with what.
#[derive(Clone, Copy)]
struct Caller<'a> {
    agent: &'a Agent,
    user: Option<&'a User>,
    token: Option<&'a Token>,
}

impl<'a> Caller<'a> {
    /// A call of ordinary size. Without a given result, most succeed.
    fn call(
        self,
        rng: &mut Rng,
        time_micros: i64,
        (method, service, path): (&'a str, &'a str, &'a str),
        result: Option<u16>,
    ) -> Call<'a> {
        let Caller { agent, user, token } = self;
        Call {
            time_micros,
            id: Uuid::random(rng),
            agent,
            user,
            token,
            service,
            method,
            path,
            status: result.unwrap_or_else(|| status(rng, method)),
            duration_ms: rng.i64(4..40) * rng.i64(1..8),
            bytes_in: if method == "GET" { 0 } else { rng.i64(80..2_000) },
            bytes_out: rng.i64(200..12_000),
        }
    }
}
