//! Three incidents after the week, each at its moment, and what a correct observer must find.

use std::net::Ipv4Addr;

use fastrand::Rng;

use super::cast::Member;
use super::{Batch, Caller, Fleet, TENANTS, jobs};
use crate::records::{Uuid, envoy, kong, okta};
use crate::workload::Source;

const SECOND: i64 = 1_000_000;
/// All three incidents are the larger tenant's.
const TENANT: usize = 0;
/// What the hijacked agent reads that is none of its business, and what it takes away.
const SECRETS: [&str; 3] =
    ["/v1/secrets/payments/gateway-key", "/v1/secrets/crm/admin-token", "/v1/secrets/warehouse/root-password"];
const EXPORT: (&str, &str, &str) = ("POST", "customers", "/v1/customers/export");
/// Hosts that no agent of the fleet runs on, and what calls from there.
const STRANGERS: [(Ipv4Addr, &str); 4] = [
    (Ipv4Addr::new(203, 0, 113, 24), "curl/8.7.1"),
    (Ipv4Addr::new(203, 0, 113, 81), "python-requests/2.32.5"),
    (Ipv4Addr::new(192, 0, 2, 45), "PostmanRuntime/7.44.0"),
    (Ipv4Addr::new(192, 0, 2, 167), "axios/1.12.2"),
];

/// An agent as the logs name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub tenant: &'static str,
    /// Its OAuth client id; at Kong, the consumer's `custom_id`.
    pub id: String,
    pub name: String,
    pub owner: Option<String>,
    /// Its consumer's id at Kong.
    pub consumer: String,
}

/// What a correct observer must find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub hijack: Hijack,
    pub shared: Shared,
    pub never_expires: NeverExpires,
}

/// After reads that are its habit, actions that are not, in one session: first the secrets, then the export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hijack {
    pub agent: Who,
    pub user_id: String,
    pub user_mail: String,
    /// Methods and paths in the order they are called.
    pub stray_calls: Vec<String>,
    /// How many agents of the tenant read some secret, and how many export customers, as their job.
    pub peers_reading_secrets: usize,
    pub peers_exporting: usize,
}

/// One key, used from hosts and by programs that never used it, then by another agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The key's id, Kong's `authenticated_entity.id`.
    pub credential_id: String,
    pub agent: Who,
    pub other_agent: Who,
    pub hosts: Vec<String>,
}

/// A token without an expiry, issued long ago, of an agent without an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeverExpires {
    pub agent: Who,
    pub token_id: String,
    pub issued_secs: i64,
}

impl Fleet {
    pub fn facts(&self) -> Facts {
        let (hijacked, user) = self.hijacked();
        let (agent, other_agent) = self.sharers();
        let unexpiring = self.unexpiring();
        let token = unexpiring.kept_token.as_ref().expect("its job keeps a token");
        let with_step = |path: &str| {
            let has = |member: &&Member| member.job.steps.iter().any(|step| step.path.starts_with(path));
            self.members.iter().filter(|member| member.tenant == TENANT).filter(has).count()
        };
        let secrets = SECRETS.map(|path| format!("GET {path}"));
        Facts {
            hijack: Hijack {
                agent: who(hijacked),
                user_id: user.id.clone(),
                user_mail: user.mail.clone(),
                stray_calls: secrets.into_iter().chain([format!("{} {}", EXPORT.0, EXPORT.2)]).collect(),
                peers_reading_secrets: with_step("/v1/secrets/"),
                peers_exporting: with_step(EXPORT.2),
            },
            shared: Shared {
                credential_id: agent.agent.key.to_string(),
                agent: who(agent),
                other_agent: who(other_agent),
                hosts: STRANGERS.map(|(address, _)| address.to_string()).to_vec(),
            },
            never_expires: NeverExpires {
                agent: who(unexpiring),
                token_id: token.jti.clone(),
                issued_secs: token.issued_secs,
            },
        }
    }

    /// The invoice agent's last minute before `now_micros`, in four requests: its token, its invoices as always, secrets,
    /// customers.
    pub fn hijack(&self, now_micros: i64) -> Vec<Batch> {
        let mut rng = self.story_rng(1);
        let (member, user) = self.hijacked();
        let began = now_micros - 45 * SECOND;
        let token = member.token(&mut rng, began / SECOND);
        let mut grant = batch(Source::Okta);
        okta::token_grant(began, Uuid::random(&mut rng), &member.agent, Some(user), &token, &mut grant.body);
        grant.records = 1;

        let caller = Caller { agent: &member.agent, user: Some(user), token: Some(&token) };
        let mut habit = batch(Source::Envoy);
        let mut time = began;
        for step in member.job.steps {
            for i in 0..step.times.0.max(1) {
                time += 2 * SECOND;
                let path = step.path.replace("{id}", &(member.ids_from + i).to_string());
                habit.envoy(caller, &mut rng, time, (step.method, step.service, &path));
            }
        }
        let mut secrets = batch(Source::Envoy);
        for (path, before) in SECRETS.into_iter().zip([8, 6, 5]) {
            secrets.envoy(caller, &mut rng, now_micros - before * SECOND, ("GET", "vault", path));
        }
        let mut export = batch(Source::Envoy);
        let mut call = caller.call(&mut rng, now_micros - SECOND, EXPORT, Some(200));
        (call.duration_ms, call.bytes_out) = (8_412, 48_211_034);
        envoy::access(&call, &mut export.body);
        export.records = 1;
        vec![grant, habit, secrets, export]
    }

    /// One key in several hands within the minute before `now_micros`: strangers' hosts, then another consumer.
    pub fn shared_credential(&self, now_micros: i64) -> Vec<Batch> {
        let mut rng = self.story_rng(2);
        let (owner, other) = self.sharers();
        let mut from_hosts = batch(Source::Kong);
        for i in 0..24 {
            let mut agent = owner.agent.clone();
            // The rightful holder goes on working in between.
            if let Some((address, user_agent)) = STRANGERS.get(i % (STRANGERS.len() + 1)) {
                agent.address = *address;
                agent.user_agent = (*user_agent).to_owned();
            }
            let path = format!("/v1/products/{}", owner.ids_from + i as u32);
            let caller = Caller { agent: &agent, user: None, token: None };
            from_hosts.kong(caller, &mut rng, now_micros - (50 - i as i64) * SECOND, ("GET", "catalog", &path));
        }
        let mut by_other = batch(Source::Kong);
        let mut agent = other.agent.clone();
        agent.key = owner.agent.key;
        for i in 0..6 {
            let path = format!("/v1/products/{}", other.ids_from + i as u32);
            let caller = Caller { agent: &agent, user: None, token: None };
            by_other.kong(caller, &mut rng, now_micros - (20 - i * 2) * SECOND, ("GET", "catalog", &path));
        }
        vec![from_hosts, by_other]
    }

    /// The forgotten agent does its usual work once more, with the token it has had for 400 days.
    pub fn never_expires(&self, now_micros: i64) -> Vec<Batch> {
        let mut rng = self.story_rng(3);
        let member = self.unexpiring();
        let caller = Caller { agent: &member.agent, user: None, token: member.kept_token.as_ref() };
        let mut work = batch(Source::Envoy);
        let mut time = now_micros - 30 * SECOND;
        for step in member.job.steps {
            for i in 0..step.times.0 {
                time += 2 * SECOND;
                let path = step.path.replace("{id}", &(member.ids_from + i).to_string());
                work.envoy(caller, &mut rng, time, (step.method, step.service, &path));
            }
        }
        vec![work]
    }

    fn story_rng(&self, story: u64) -> Rng {
        Rng::with_seed(self.seed.rotate_left(17) ^ story)
    }

    fn hijacked(&self) -> (&Member, &crate::records::User) {
        let member = self.with_job(jobs::HIJACKED, TENANT).next().expect("the fleet has invoice agents");
        (member, &self.persons[member.users[0]].user)
    }

    fn sharers(&self) -> (&Member, &Member) {
        let mut members = self.with_job(jobs::SHARED, TENANT);
        let mut next = || members.next().expect("the fleet has two agents with keys of this job");
        (next(), next())
    }

    fn unexpiring(&self) -> &Member {
        self.with_job(jobs::NEVER_EXPIRES, TENANT).next().expect("the fleet has a forgotten agent")
    }
}

fn batch(source: Source) -> Batch {
    Batch { tenant: TENANTS[TENANT], source, records: 0, body: Vec::new() }
}

fn who(member: &Member) -> Who {
    let agent = &member.agent;
    Who {
        tenant: TENANTS[member.tenant],
        id: agent.id.clone(),
        name: agent.name.clone(),
        owner: agent.owner.clone(),
        consumer: agent.consumer.to_string(),
    }
}

impl Batch {
    /// A call that succeeds: a story does not hang on chance.
    fn envoy(&mut self, caller: Caller, rng: &mut Rng, time_micros: i64, what: (&str, &str, &str)) {
        envoy::access(&Caller::call(caller, rng, time_micros, what, Some(200)), &mut self.body);
        self.records += 1;
    }

    fn kong(&mut self, caller: Caller, rng: &mut Rng, time_micros: i64, what: (&str, &str, &str)) {
        kong::http_log(&Caller::call(caller, rng, time_micros, what, Some(200)), &mut self.body);
        self.records += 1;
    }
}
