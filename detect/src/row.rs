//! One row as far as it is looked at: cut out of its columns once, in the order of the columns, before anything of its agent
//! is touched. Columns are read again only for an alert.
//!
//! Actions and resources come again and again, so what their texts mean is kept in a [`Reader`]'s two [`Memo`]s: caches that
//! every thread has for itself, no state, and never wrong, because the text itself is compared.

use std::hint::black_box;
use std::ops::Range;

use arrow::array::{Array, StringArray, TimestampMicrosecondArray};
use schemas::Events;
use schemas::catalogue::Known;
use schemas::table::{has, hops_in, strs_in};

use crate::Config;
use crate::detectors::{Place, TOKEN_CONFLICT, amounts};
use crate::engine::text;
use crate::habits::{Call, RESOURCES_MAX};
use crate::hash::{Keyed, Of, mix, quick};
use crate::impact;
use crate::session::hex;
use crate::symbol::{normal, template};

/// One row, as far as it is looked at.
pub(crate) struct Row<'a> {
    pub(crate) events: &'a Events<'a>,
    pub(crate) at: usize,
    /// Fingerprints of the agent, its tenant, the declared session and job (0: none).
    pub(crate) agent: u64,
    pub(crate) tenant: u64,
    pub(crate) session: u64,
    pub(crate) job: u64,
    pub(crate) time: i64,
    pub(crate) call: Call,
    pub(crate) effect: &'a str,
    pub(crate) impact: f64,
    /// What counts of a surprise, by outcome; 1 where nothing stopped the call.
    pub(crate) share: f64,
    pub(crate) weight: f64,
    /// The catalogue says that somebody must have approved it.
    pub(crate) needs_approval: bool,
    /// The action's words say that it ends a token, key or credential.
    pub(crate) ends_token: Ends,
    /// The resource was named beforehand, by who asked for the work.
    pub(crate) intended: bool,
    /// Ingest saw the token with another agent.
    pub(crate) token_conflict: bool,
    pub(crate) event_id: Option<u128>,
    /// Fingerprints of the token and the credential that were shown.
    pub(crate) shown: [Option<u64>; 2],
    /// The same within their source: two sources may name one agent in two ways.
    pub(crate) shown_here: [Option<u64>; 2],
    pub(crate) token_issued_at: Option<i64>,
    pub(crate) token_expires_at: Option<i64>,
    /// How much of each quantity that has a rhythm.
    pub(crate) amounts: [u32; 4],
    /// Where the call came from.
    pub(crate) place: Place,
    /// Stands for all scopes of the call in their order.
    pub(crate) scopes: Option<u32>,
    pub(crate) uses_scopes: bool,
    /// The organization reached, the grant, and who called the agent and through how many hops.
    pub(crate) reached: Option<u32>,
    pub(crate) grant: Option<u32>,
    pub(crate) hops: u8,
    pub(crate) caller: u32,
}

/// What the words of an action say of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Ends {
    pub(crate) revokes: bool,
    pub(crate) deletes: bool,
}

/// What the text of an action means.
#[derive(Clone, Copy, Default)]
struct Action {
    key: u64,
    known: Option<Known>,
    sensitive: bool,
    ends: Ends,
}

/// What the text of a resource means.
#[derive(Clone, Copy, Default)]
struct Resource {
    key: u32,
    sensitive: bool,
}

/// Cuts rows, on one thread.
#[derive(Clone, Default)]
pub(crate) struct Reader {
    actions: Memo<Action>,
    resources: Memo<Resource>,
    organizations: Memo<u32>,
    callers: Memo<u32>,
    networks: Memo<u32>,
    clients: Memo<u32>,
    /// The tenant of the row before: rows of one tenant come together.
    tenant: (String, u64),
    words: String,
    resource: String,
}

impl Reader {
    /// The rows of `part` that have an agent.
    pub(crate) fn read_all<'a>(
        &mut self,
        config: &Config,
        keyed: Keyed,
        events: &'a Events<'a>,
        part: Range<usize>,
        rows: &mut Vec<Row<'a>>,
    ) {
        warm(events, &part);
        let has_agent = part.filter(|at| text(events.agent_id, *at).is_some());
        rows.extend(has_agent.map(|at| self.read(config, keyed, events, at)));
    }

    fn read<'a>(&mut self, config: &Config, keyed: Keyed, events: &'a Events<'a>, at: usize) -> Row<'a> {
        let tenant = self.tenant(keyed, events.tenant.value(at));
        let effect = events.effect.value(at);
        let action = self.action(config, keyed, events.action.value(at));
        let mut call = Call { action: action.key, resources: [0; RESOURCES_MAX] };
        let mut sensitive = action.sensitive && action.known.is_none();
        for (slot, id) in call.resources.iter_mut().zip(resource_ids(events, at, effect)) {
            if resource_name(events, at, id, effect, &mut self.words, &mut self.resource) {
                let resource = self.resources.of(&self.resource, |name| Resource {
                    key: (keyed.of(Of::Resource, 0, name) as u32).max(1),
                    sensitive: impact::is_sensitive(name),
                });
                *slot = resource.key;
                sensitive |= resource.sensitive;
            }
        }
        let impact = impact::of(action.known, effect, sensitive);
        let share = impact::of_outcome(events.outcome.value(at));
        let source = quick(events.source.value(at));
        let shown = [events.token_id, events.credential_id]
            .map(|column| text(column, at).map(|id| keyed.of(Of::Credential, 0, id)));
        let flags = !events.flags.values().is_empty();
        let hops = hops_in(events.delegation, at);
        let caller = hops.clone().rev().nth(1).filter(|(kind, ..)| *kind != "user");
        let print = |of, name: &str| keyed.of(of, 0, name) as u32;
        let declared = text(events.session_id, at).or_else(|| text(events.conversation_id, at));
        let session = declared.map(|id| session_key(keyed, id)).or(shown[0].map(session_of_token));
        Row {
            events,
            at,
            agent: keyed.of(Of::Agent, tenant, events.agent_id.value(at)),
            tenant,
            session: session.unwrap_or(0),
            // The job that the agent says it is at: its declared purpose.
            job: text(events.purpose, at).map_or(0, |purpose| keyed.of(Of::Job, tenant, purpose)),
            time: events.time.value(at).min(events.received_at.value(at)),
            call,
            effect,
            impact,
            share,
            weight: impact * share,
            needs_approval: action.known.is_some_and(|known| known.needs_approval),
            ends_token: action.ends,
            intended: flags && has(events.flags, at, "in_intent"),
            token_conflict: flags && has(events.flags, at, TOKEN_CONFLICT),
            event_id: hex(events.event_id.value(at)),
            shown,
            shown_here: shown.map(|key| key.map(|key| mix(source, key))),
            token_issued_at: number(events.token_issued_at, at),
            token_expires_at: number(events.token_expires_at, at),
            amounts: amounts(events, at, share),
            place: self.place(events, at),
            scopes: scopes(events, at),
            uses_scopes: strs_in(events.scopes_used, at).next().is_some(),
            reached: reached(events, at).map(|name| self.organizations.of(name, |name| print(Of::Organization, name))),
            grant: text(events.grant_id, at).map(|name| print(Of::Grant, name)),
            hops: u8::try_from(hops.len()).unwrap_or(u8::MAX),
            caller: caller.map_or(0, |(_, id, _)| self.callers.of(id, |id| print(Of::Hop, id))),
        }
    }

    #[inline]
    fn place(&mut self, events: &Events, at: usize) -> Place {
        let network = match text(events.src_ip, at) {
            _ if events.src_asn.is_valid(at) => (events.src_asn.value(at) as u32).max(1),
            ip => ip.map_or(0, |ip| self.networks.of(ip, Place::network)),
        };
        let client = text(events.user_agent, at).map_or(0, |agent| self.clients.of(agent, Place::client));
        let country = text(events.src_country, at).map_or(0, Place::country);
        Place { network, client, country }
    }

    #[inline]
    fn tenant(&mut self, keyed: Keyed, name: &str) -> u64 {
        if self.tenant.0 != name || self.tenant.1 == 0 {
            self.tenant = (name.to_owned(), keyed.of(Of::Tenant, 0, name));
        }
        self.tenant.1
    }

    fn action(&mut self, config: &Config, keyed: Keyed, text: &str) -> Action {
        self.actions.of(text, |text| {
            let name = template(text, &mut self.words);
            Action {
                key: keyed.of(Of::Action, 0, name),
                known: config.catalogue.find(name),
                sensitive: impact::is_sensitive(name),
                ends: Ends::of(text),
            }
        })
    }
}

impl Row<'_> {
    /// What the call's resources are called.
    pub(crate) fn resources(&self) -> Vec<String> {
        let Row { events, at, effect, .. } = *self;
        let (mut words, mut name, mut names) = (String::new(), String::new(), Vec::new());
        for id in resource_ids(events, at, effect) {
            if resource_name(events, at, id, effect, &mut words, &mut name) {
                names.push(name.clone());
            }
        }
        names
    }
}

impl Ends {
    fn of(action: &str) -> Self {
        let has =
            |word: &str| action.as_bytes().windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()));
        let deletes = has("delet") && ["token", "key", "credential", "secret"].into_iter().any(has);
        Ends { revokes: has("revok"), deletes }
    }
}

/// Stands for a session by the id that its records declare.
pub(crate) fn session_key(keyed: Keyed, id: &str) -> u64 {
    keyed.of(Of::Session, 0, id)
}

/// Where none is declared the token stands for the session.
pub(crate) fn session_of_token(token: u64) -> u64 {
    mix(token, Of::Session as u64).max(1)
}

/// The ids of what a call was about: what is changed may be several, one empty where none is named.
fn resource_ids<'a>(events: &'a Events, at: usize, effect: &str) -> impl Iterator<Item = &'a str> {
    let ids = text(events.resource_id, at).unwrap_or_default();
    let several = effect != "read" && ids.contains(',');
    ids.split(if several { ',' } else { '\0' }).take(RESOURCES_MAX)
}

/// Writes what a call was about to `name`: service, kind and id, as far as they are known. False if none is. What is
/// changed is told apart by its whole id (a payee, a recipient); what is read by its kind.
fn resource_name(events: &Events, at: usize, id: &str, effect: &str, words: &mut String, name: &mut String) -> bool {
    name.clear();
    let service = text(events.service, at).into_iter();
    for part in service.chain(text(events.resource_type, at)) {
        name.push_str(part);
        name.push(' ');
    }
    match effect {
        "read" => name.push_str(template(id, words)),
        _ => normal(id, name),
    }
    name.truncate(name.trim_end().len());
    !name.is_empty()
}

/// Reads the columns of `part` one after the other, as memory likes it, before rows are read across all of them.
fn warm(events: &Events, part: &Range<usize>) {
    let texts = |column: &StringArray| {
        let offsets = &column.value_offsets()[part.start..=part.end];
        let bytes = &column.value_data()[offsets[0] as usize..offsets[offsets.len() - 1] as usize];
        let sum = offsets.iter().step_by(16).fold(0, |sum, offset| sum ^ *offset as u64);
        bytes.iter().step_by(64).fold(sum, |sum, byte| sum ^ u64::from(*byte))
    };
    let times = |column: &TimestampMicrosecondArray| {
        column.values()[part.clone()].iter().step_by(8).fold(0, |sum, time| sum ^ *time as u64)
    };
    let Events { tenant, agent_id, action, effect, outcome, service, resource_type, resource_id, .. } = events;
    let Events { token_id, credential_id, session_id, source, event_id, src_ip, user_agent, .. } = events;
    let Events { time, received_at, token_issued_at, token_expires_at, .. } = events;
    let what = [tenant, agent_id, action, effect, outcome, service, resource_type, resource_id];
    let how = [token_id, credential_id, session_id, source, event_id, src_ip, user_agent];
    black_box(what.into_iter().chain(how).fold(0, |sum, column| sum ^ texts(column)));
    let all = [time, received_at, token_issued_at, token_expires_at];
    black_box(all.into_iter().fold(0, |sum, column| sum ^ times(column)));
}

/// The organization that a call reached.
pub(crate) fn reached<'a>(events: &'a Events, at: usize) -> Option<&'a str> {
    text(events.resource_tenant, at).or_else(|| text(events.org_id, at))
}

#[inline]
fn number(column: &TimestampMicrosecondArray, at: usize) -> Option<i64> {
    column.is_valid(at).then(|| column.value(at))
}

fn scopes(events: &Events, at: usize) -> Option<u32> {
    if events.scopes.values().is_empty() {
        return None;
    }
    let add = |list: Option<u32>, scope: &str| Some(list.unwrap_or(0).rotate_left(5) ^ quick(scope) as u32);
    strs_in(events.scopes, at).fold(None, add)
}

const MEMO_SLOTS: usize = 1_024;
/// Longer texts are looked at anew each time.
const MEMO_BYTES_MAX: usize = 256;

/// What texts mean, by the last text of each slot.
#[derive(Clone, Default)]
struct Memo<T> {
    slots: Vec<(String, T)>,
}

impl<T: Copy + Default> Memo<T> {
    #[inline]
    fn of(&mut self, text: &str, make: impl FnOnce(&str) -> T) -> T {
        // An empty slot's text is empty.
        if text.is_empty() || text.len() > MEMO_BYTES_MAX {
            return make(text);
        }
        if self.slots.is_empty() {
            self.slots.resize_with(MEMO_SLOTS, Default::default);
        }
        let (known, meaning) = &mut self.slots[quick(text) as usize % MEMO_SLOTS];
        if known != text {
            known.clear();
            known.push_str(text);
            *meaning = make(text);
        }
        *meaning
    }
}
