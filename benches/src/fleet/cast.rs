//! Who is in the fleet: persons, and agents with a job, an owner and people they act for.

use std::net::Ipv4Addr;

use fastrand::Rng;

use super::TENANTS;
use super::jobs::{Door, JOBS, Job, NEVER_EXPIRES};
use crate::records::{Agent, Token, User, Uuid, short_id};

const USERS: [usize; 2] = [120, 30];
const ISSUERS: [&str; 2] = ["https://acme.okta.example/oauth2/default", "https://globex.okta.example/oauth2/default"];
const TOKEN_SECS: i64 = 3_600;
/// Agents of one job that one person owns, at most.
const TEAM_AGENTS: usize = 8;
const REGIONS: [&str; 16] = [
    "", "-emea", "-apac", "-amer", "-dach", "-nordics", "-uk", "-latam", "-iberia", "-benelux", "-france", "-italy",
    "-japan", "-india", "-oceania", "-pilot",
];
const RUNTIMES: [(&str, &str); 4] = [
    ("agent-runtime/2.4.0 (linux; x86_64)", "agent-runtime/2.4.1 (linux; x86_64)"),
    ("python-httpx/0.28.1", "python-httpx/0.28.1"),
    ("langgraph/0.6.7 python/3.12", "langgraph/0.6.8 python/3.12"),
    ("node-fetch/3.3.2", "node-fetch/3.3.2"),
];
const FIRST: [&str; 15] = [
    "Maya", "Jonas", "Priya", "Luca", "Sofia", "Tom", "Aisha", "Erik", "Nora", "Paul", "Yuki", "Omar", "Clara", "Ivan",
    "Zoe",
];
const LAST: [&str; 10] = ["Lindner", "Okafor", "Rossi", "Sato", "Meyer", "Novak", "Silva", "Haddad", "Larsen", "Quinn"];

/// A person, by the tenant they work at.
pub(super) struct Person {
    pub(super) user: User,
    pub(super) tenant: usize,
}

/// An agent with its habits.
pub(super) struct Member {
    pub(super) agent: Agent,
    pub(super) tenant: usize,
    pub(super) job: &'static Job,
    /// Indices of the persons it acts for; empty where it acts for itself.
    pub(super) users: Vec<usize>,
    pub(super) issuer: &'static str,
    /// The agent that delegates to it.
    pub(super) delegated_by: Option<String>,
    /// A token it keeps for ever, instead of one a session.
    pub(super) kept_token: Option<Token>,
    /// Where it runs when its machine is replaced, and what it runs after its upgrade.
    pub(super) other_address: Ipv4Addr,
    pub(super) upgraded: &'static str,
    /// The ids that it works on begin here.
    pub(super) ids_from: u32,
}

impl Member {
    /// A new token, of a new session.
    pub(super) fn token(&self, rng: &mut Rng, issued_secs: i64) -> Token {
        let mut token = Token::issue(rng, self.issuer, self.job.scopes, issued_secs, TOKEN_SECS);
        token.delegated_by.extend(self.delegated_by.clone());
        token
    }
}

pub(super) fn persons(rng: &mut Rng) -> Vec<Person> {
    let mut persons = Vec::new();
    for (tenant, count) in USERS.into_iter().enumerate() {
        for i in 0..count {
            // Each first name goes once with each last name; the second tenant takes up where the first one stopped.
            let i = i + tenant * USERS[0];
            let (first, last) = (FIRST[i % FIRST.len()], LAST[(i / FIRST.len() + i % FIRST.len()) % LAST.len()]);
            let mail = format!("{}.{}@{}.example", first.to_lowercase(), last.to_lowercase(), TENANTS[tenant]);
            let address = Ipv4Addr::new(198, 51, if tenant == 0 { 100 } else { 101 }, rng.u8(1..255));
            let user = User { id: short_id(rng, "00u", 20), mail, name: format!("{first} {last}"), address };
            persons.push(Person { user, tenant });
        }
    }
    persons
}

pub(super) fn members(rng: &mut Rng, persons: &[Person], now_secs: i64) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    for (tenant, name) in TENANTS.iter().enumerate() {
        let colleagues: Vec<usize> = (0..persons.len()).filter(|i| persons[*i].tenant == tenant).collect();
        for job in JOBS {
            let mut lead = None;
            for (i, region) in REGIONS[..job.agents[tenant]].iter().enumerate() {
                let mut member = member(rng, tenant, job, region, &colleagues);
                // Agents of one job are a team's, and its lead owns them.
                let lead = match lead {
                    Some(lead) if i % TEAM_AGENTS != 0 => lead,
                    _ => *lead.insert(colleagues[rng.usize(..colleagues.len())]),
                };
                member.agent.owner = Some(persons[lead].user.mail.clone());
                if let Door::DelegatedBy(other) = job.door {
                    let other = format!("{other}{region}");
                    let delegate = members.iter().find(|m| m.tenant == tenant && m.agent.name == other);
                    let delegate = delegate.unwrap_or_else(|| panic!("{name} has no agent {other}"));
                    member.delegated_by = Some(delegate.agent.id.clone());
                    member.users.clone_from(&delegate.users);
                }
                if job.name == NEVER_EXPIRES {
                    let issued_secs = now_secs - 400 * 86_400;
                    let token = Token::issue(rng, member.issuer, job.scopes, issued_secs, 0);
                    member.kept_token = Some(Token { expires_secs: None, ..token });
                    member.agent.owner = None;
                }
                members.push(member);
            }
        }
    }
    members
}

fn member(rng: &mut Rng, tenant: usize, job: &'static Job, region: &str, colleagues: &[usize]) -> Member {
    let user_count = if job.door == Door::ForUsers { rng.usize(1..=3) } else { 0 };
    let users = (0..user_count).map(|_| colleagues[rng.usize(..colleagues.len())]).collect();
    let (runtime, upgraded) = RUNTIMES[rng.usize(..RUNTIMES.len())];
    let mut address = || Ipv4Addr::new(10, 20 + tenant as u8, rng.u8(..), rng.u8(1..255));
    let (address, other_address) = (address(), address());
    let agent = Agent {
        id: short_id(rng, "0oa", 20),
        name: format!("{}{region}", job.name),
        owner: None,
        user_agent: runtime.to_owned(),
        address,
        consumer: Uuid::random(rng),
        key: Uuid::random(rng),
    };
    let issuer = ISSUERS[tenant];
    let ids_from = rng.u32(10_000..90_000);
    Member {
        agent,
        tenant,
        job,
        users,
        issuer,
        delegated_by: None,
        kept_token: None,
        other_address,
        upgraded,
        ids_from,
    }
}
