//! One row as far as it is looked at: cut out of its columns once, in the order of the columns, before anything of its agent
//! is touched. Columns are read again only for an alert.
//!
//! Actions and resources come again and again, so what their texts mean is kept in a [`Reader`]'s two [`Memo`]s: caches that
//! every thread has for itself, no state, and never wrong, because the text itself is compared.

use std::ops::Range;

use schemas::Events;
use schemas::catalogue::Known;

use crate::Config;
use crate::columns::{Columns, Texts};
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
    /// The tenant of the row before: rows of one tenant come together.
    tenant: (String, u64),
    name: Name,
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
        let columns = Columns::new(events, &part);
        for at in part {
            if let Some(agent) = columns.agent_id.get(at) {
                rows.push(self.read(config, keyed, events, &columns, at, agent));
            }
        }
    }

    #[inline]
    fn read<'a>(
        &mut self,
        config: &Config,
        keyed: Keyed,
        events: &'a Events<'a>,
        columns: &Columns<'a>,
        at: usize,
        agent: &str,
    ) -> Row<'a> {
        let tenant = self.tenant(keyed, columns.tenant.or_empty(at));
        let effect = columns.effect.or_empty(at);
        let action = self.action(config, keyed, columns.action.or_empty(at));
        let mut call = Call { action: action.key, resources: [0; RESOURCES_MAX] };
        let mut sensitive = action.sensitive && action.known.is_none();
        let (service, kind) = (columns.service.or_empty(at), columns.resource_type.or_empty(at));
        for (slot, id) in call.resources.iter_mut().zip(resource_ids(columns.resource_id.or_empty(at), effect)) {
            let name = self.name.write(service, kind, id, effect);
            if !name.is_empty() {
                let resource = self.resources.of(name, |name| Resource {
                    key: (keyed.of(Of::Resource, 0, name) as u32).max(1),
                    sensitive: impact::is_sensitive(name),
                });
                *slot = resource.key;
                sensitive |= resource.sensitive;
            }
        }
        let impact = impact::of(action.known, effect, sensitive);
        let share = impact::of_outcome(columns.outcome.or_empty(at));
        let source = quick(columns.source.or_empty(at));
        let shown = shown(keyed, columns.token_id.get(at), columns.credential_id.get(at));
        let (hops, caller) = columns.delegation.of(at);
        let print = |of, name: &str| keyed.of(of, 0, name) as u32;
        let declared = columns.session_id.get(at).or_else(|| columns.conversation_id.get(at));
        let session = declared.map(|id| session_key(keyed, id)).or(shown[0].map(session_of_token));
        Row {
            events,
            at,
            agent: keyed.of(Of::Agent, tenant, agent),
            tenant,
            session: session.unwrap_or(0),
            // The job that the agent says it is at: its declared purpose.
            job: columns.purpose.get(at).map_or(0, |purpose| keyed.of(Of::Job, tenant, purpose)),
            time: columns.time.or_0(at).min(columns.received_at.or_0(at)),
            call,
            effect,
            impact,
            share,
            weight: impact * share,
            needs_approval: action.known.is_some_and(|known| known.needs_approval),
            ends_token: action.ends,
            intended: columns.flags.of(at).any(|flag| flag == "in_intent"),
            token_conflict: columns.flags.of(at).any(|flag| flag == TOKEN_CONFLICT),
            event_id: hex(columns.event_id.or_empty(at)),
            shown,
            shown_here: shown.map(|key| key.map(|key| mix(source, key))),
            token_issued_at: columns.token_issued_at.get(at),
            token_expires_at: columns.token_expires_at.get(at),
            amounts: amounts(columns, at, share),
            place: place(columns, at),
            scopes: columns.scopes.of(at).fold(None, add_scope),
            uses_scopes: columns.scopes_used.of(at).next().is_some(),
            reached: reached(events, at).map(|name| self.organizations.of(name, |name| print(Of::Organization, name))),
            grant: columns.grant_id.get(at).map(|name| print(Of::Grant, name)),
            hops: u8::try_from(hops).unwrap_or(u8::MAX),
            caller: caller.map_or(0, |id| self.callers.of(id, |id| print(Of::Hop, id))),
        }
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
            let mut name = String::new();
            template(text, &mut name);
            Action {
                key: keyed.of(Of::Action, 0, &name),
                known: config.catalogue.find(&name),
                sensitive: impact::is_sensitive(&name),
                ends: Ends::of(text),
            }
        })
    }
}

impl Row<'_> {
    /// What the call's resources are called.
    pub(crate) fn resources(&self) -> Vec<String> {
        let Row { events, at, effect, .. } = *self;
        let of = |column| text(column, at).unwrap_or_default();
        let (service, kind, mut name) = (of(events.service), of(events.resource_type), Name::default());
        let names =
            resource_ids(of(events.resource_id), effect).map(|id| name.write(service, kind, id, effect).to_owned());
        names.filter(|name| !name.is_empty()).collect()
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
fn resource_ids<'a>(ids: &'a str, effect: &str) -> impl Iterator<Item = &'a str> {
    let (mut rest, several) = (Some(ids), effect != "read");
    let next = move || {
        let ids = rest.take()?;
        let cut = if several { ids.split_once(',') } else { None };
        let (id, others) = cut.unzip();
        rest = others;
        id.or(Some(ids))
    };
    std::iter::from_fn(next).take(RESOURCES_MAX)
}

/// Room for what a resource is called.
#[derive(Clone, Default)]
struct Name(String);

impl Name {
    /// Service, kind and id, as far as they are known; empty if none is. What is changed is told apart by its whole id (a
    /// payee, a recipient); what is read by its kind.
    fn write(&mut self, service: &str, kind: &str, id: &str, effect: &str) -> &str {
        let Name(name) = self;
        name.clear();
        for part in [service, kind].into_iter().filter(|part| !part.is_empty()) {
            name.push_str(part);
            name.push(' ');
        }
        match effect {
            "read" => template(id, name),
            _ => normal(id, name),
        }
        name.trim_end()
    }
}

/// Stands for the token and the credential that were shown; often one is the other.
#[inline]
fn shown(keyed: Keyed, token: Option<&str>, credential: Option<&str>) -> [Option<u64>; 2] {
    let print = |id| keyed.of(Of::Credential, 0, id);
    let by_token = token.map(print);
    [by_token, if credential == token { by_token } else { credential.map(print) }]
}

#[inline]
fn place(columns: &Columns, at: usize) -> Place {
    let print = |column: &Texts, of: fn(&str) -> u32| column.get(at).map_or(0, of);
    let network = match columns.src_asn.get(at) {
        Some(system) => (system as u32).max(1),
        None => print(&columns.src_ip, Place::network),
    };
    let country = columns.src_country.get(at).map_or(0, Place::country);
    Place { network, client: print(&columns.user_agent, Place::client), country }
}

/// The organization that a call reached.
pub(crate) fn reached<'a>(events: &'a Events, at: usize) -> Option<&'a str> {
    text(events.resource_tenant, at).or_else(|| text(events.org_id, at))
}

#[inline]
fn add_scope(list: Option<u32>, scope: &str) -> Option<u32> {
    Some(list.unwrap_or(0).rotate_left(5) ^ quick(scope) as u32)
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
