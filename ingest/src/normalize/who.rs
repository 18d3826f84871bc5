//! Who acted: the record's agent and user, one agent's names joined into one, and what was said when the token was issued.
//!
//! All of it comes before the partition is computed, so that one agent's events stay in order whatever each system calls
//! it. What a record says is never overwritten; where something else is filled in, the event is flagged. So is a call that
//! the registry says the agent is meant to make.

use std::sync::Arc;

use schemas::event::col;
use schemas::registry::Agent;
use schemas::table::Hop;
use schemas::{Registry, RowBuilder};

use super::{Run, Texts};
use crate::context::Context;
use crate::mapping::expr::Record;
use crate::mapping::{ColumnPlan, Mapping};
use crate::tokens::{Facts, Recalled, Token, Tokens};

/// What joins records: the declared agents and what is remembered of tokens, where there are such.
#[derive(Clone, Copy, Debug, Default)]
pub struct Joins<'a> {
    pub registry: Option<&'a Registry>,
    pub tokens: Option<&'a Tokens>,
}

/// What was filled in, for the flags.
#[derive(Default)]
pub(super) struct Filled {
    /// From the registry.
    registry: bool,
    pub(super) owner: bool,
    in_intent: bool,
    expired: bool,
    /// From the token's issuance.
    token: bool,
    pub(super) expiry: bool,
    conflict: bool,
    issued: bool,
}

impl Filled {
    pub(super) fn flags(&self) -> [Option<&'static str>; 6] {
        [
            self.registry.then_some("registry"),
            self.in_intent.then_some("in_intent"),
            self.expired.then_some("agent_expired"),
            self.issued.then_some(crate::tokens::ISSUED),
            self.token.then_some("token_join"),
            self.conflict.then_some("token_conflict"),
        ]
    }
}

/// Masks a text of a record that holds secrets; none where there is nothing to mask.
pub(super) type Clean<'c> = dyn FnMut(&str) -> Option<String> + 'c;

/// A token that a client got for itself has the client as its subject: there is no user behind it. Where the record says
/// that the user is a person, the ids are alike by chance: systems may number people and clients each from 1.
fn is_agent(Texts { user, user_kind, agent, .. }: &Texts) -> bool {
    user_kind != "human" && user.strip_suffix("@clients").unwrap_or(user) == agent
}

/// Fills agent and user of the row under way. `hops` is the record's own delegation; the facts' comes in its place where
/// there is none; `call` is the record's action and time.
pub(super) fn who(
    rows: &mut RowBuilder,
    texts: &mut Texts,
    (context, mapping): (&Context<'_>, &Mapping),
    joins: Joins<'_>,
    hops: &mut Vec<Hop>,
    (action, time): (&str, i64),
    clean: &mut Clean<'_>,
) -> Filled {
    let mut filled = Filled::default();
    if is_agent(texts) {
        texts.user.clear();
    }
    let known = joins.registry.and_then(|registry| of_record(registry, rows, texts, context, mapping, clean));
    let facts = joins.tokens.and_then(|tokens| recall(tokens, texts, context, mapping, &mut filled));
    // The names that the facts brought are clean and the registry's already.
    let (own_agent, own_user) = (!texts.agent.is_empty() && known.is_none(), !texts.user.is_empty());
    if let Some(facts) = &facts {
        filled.token = fill_who(rows, texts, facts) | fill_token(rows, facts, hops, &mut filled);
        if filled.token
            && let Some(tokens) = joins.tokens
        {
            tokens.joined();
        }
    }
    for (column, text, own) in [(col::agent_id, &texts.agent, own_agent), (col::user_id, &texts.user, own_user)] {
        match if own { clean(text) } else { None } {
            Some(masked) => rows.str(column, &masked),
            None if !text.is_empty() => rows.str(column, text),
            None => {}
        }
    }
    let of_facts = || joins.registry?.find(context.tenant, mapping.name(), &texts.agent);
    if let Some(agent) = known.or_else(|| facts.as_ref().and_then(|_| of_facts())) {
        filled.owner = fill(rows, col::agent_owner, agent.owner.as_deref());
        let named = fill(rows, col::agent_name, agent.name.as_deref());
        filled.registry = fill(rows, col::purpose, agent.purpose.as_deref()) | named | filled.owner;
        filled.in_intent = agent.intends(action, &texts.resource);
        filled.expired = agent.is_expired(time);
    }
    filled
}

/// The declared agent that the record names. Its id takes the place of the vendor's, which is kept beside it.
fn of_record<'a>(
    registry: &'a Registry,
    rows: &mut RowBuilder,
    texts: &mut Texts,
    context: &Context<'_>,
    mapping: &Mapping,
    clean: &mut Clean<'_>,
) -> Option<&'a Agent> {
    if texts.agent.is_empty() {
        return None;
    }
    let find = |name: &str| registry.find(context.tenant, mapping.name(), name);
    let known = find(&texts.agent)?;
    if known.id != texts.agent {
        rows.str(col::agent_alias, clean(&texts.agent).as_deref().unwrap_or(&texts.agent));
        texts.agent.clear();
        texts.agent.push_str(&known.id);
    }
    // One of its own names as the user: it acts for itself.
    if find(&texts.user).is_some_and(|user| user.id == known.id) {
        texts.user.clear();
    }
    Some(known)
}

fn recall(
    tokens: &Tokens,
    texts: &Texts,
    context: &Context<'_>,
    mapping: &Mapping,
    filled: &mut Filled,
) -> Option<Arc<Facts>> {
    for id in [&texts.token, &texts.credential] {
        if id.is_empty() {
            continue;
        }
        match tokens.recall(token(context, mapping, id), &texts.agent, context.received_at) {
            Recalled::Facts(facts) => return Some(facts),
            Recalled::Conflict => {
                filled.conflict = true;
                return None;
            }
            Recalled::Nothing => {}
        }
    }
    None
}

fn token<'a>(context: &'a Context<'_>, mapping: &'a Mapping, id: &'a str) -> Token<'a> {
    Token { tenant: context.tenant, source: mapping.name(), instance: context.instance, id }
}

/// Agent and user that the record does not name.
fn fill_who(rows: &mut RowBuilder, texts: &mut Texts, facts: &Facts) -> bool {
    let mut any = false;
    if texts.agent.is_empty() {
        texts.agent.push_str(&facts.agent);
        fill(rows, col::agent_alias, facts.agent_alias.as_deref());
        any = true;
    }
    any |= fill(rows, col::agent_name, facts.agent_name.as_deref());
    if texts.user.is_empty()
        && let Some(user) = &facts.user
    {
        texts.user.push_str(user);
        any = true;
    }
    if facts.user.as_deref() == Some(&texts.user) {
        any |= fill(rows, col::user_name, facts.user_name.as_deref());
        if fill(rows, col::user_kind, facts.user_kind.as_deref()) {
            texts.user_kind.push_str(facts.user_kind.as_deref().unwrap_or(""));
            any = true;
        }
    }
    any
}

/// What was granted and for how long.
fn fill_token(rows: &mut RowBuilder, facts: &Facts, hops: &mut Vec<Hop>, filled: &mut Filled) -> bool {
    let mut any = false;
    if hops.is_empty() && !facts.delegation.is_empty() {
        hops.clone_from(&facts.delegation);
        any = true;
    }
    if !rows.is_set(col::scopes) && !facts.scopes.is_empty() {
        rows.strs(col::scopes, &facts.scopes);
        any = true;
    }
    if let Some(time) = facts.issued_at.filter(|_| !rows.is_set(col::token_issued_at)) {
        rows.time(col::token_issued_at, time);
        any = true;
    }
    if let Some(time) = facts.expires_at.filter(|_| !rows.is_set(col::token_expires_at)) {
        rows.time(col::token_expires_at, time);
        filled.expiry = true;
    }
    any | filled.expiry
}

/// Sets a column that the record left empty.
fn fill(rows: &mut RowBuilder, column: usize, text: Option<&str>) -> bool {
    let Some(text) = text.filter(|_| !rows.is_set(column)) else { return false };
    rows.str(column, text);
    true
}

/// A record that says what was issued: what its mapping says is one, else a successful authentication or delegation. That
/// somebody asks what a token is (introspection) names the one who asks: only a mapping can tell whom it is about.
fn issues(mapping: &Mapping, record: &Record<'_, '_>, effect: &str, outcome: &str, action: &str) -> bool {
    if let Some(when) = &mapping.issuance {
        return record.holds(when);
    }
    let introspects = || action.as_bytes().windows(10).any(|word| word.eq_ignore_ascii_case(b"introspect"));
    outcome == "success" && matches!(effect, "auth" | "delegate") && !introspects()
}

impl Run<'_> {
    /// Remembers what the record says of its token. Comes after agent and user are known.
    pub(super) fn learn(
        &self,
        record: &Record<'_, '_>,
        columns: &[ColumnPlan],
        (effect, action): (&str, &str),
        hops: &[Hop],
        filled: &mut Filled,
    ) {
        let Texts { agent, user, user_kind, token: id, effect: own_effect, outcome, .. } = &self.scratch.texts;
        let effect = if own_effect.is_empty() { effect } else { own_effect };
        let Some(tokens) = self.joins.tokens.filter(|_| !id.is_empty() && !agent.is_empty()) else { return };
        if !issues(self.mapping, record, effect, outcome, action) {
            return;
        }
        let terms = |index| columns.iter().find(|c| c.index == index).map_or(&[][..], |c| &c.terms);
        let own = |text: &str| {
            let mut masked = String::new();
            let count = self.mapping.masker.mask(text, &mut masked);
            if count > 0 { masked } else { text.to_owned() }
        };
        let some = |text: &str| (!text.is_empty()).then(|| own(text));
        let text = |index| record.eval(terms(index)).into_text().map(|text| own(&text));
        let time = |index| super::fill::micros(&record.eval(terms(index)));
        let vendors = text(col::agent_id).filter(|vendors| vendors != agent);
        let facts = Facts {
            agent: own(agent),
            agent_alias: vendors,
            agent_name: text(col::agent_name),
            user: some(user),
            user_name: text(col::user_name),
            user_kind: some(user_kind),
            delegation: hops.to_vec(),
            scopes: record.list(terms(col::scopes)).iter().map(|scope| own(scope)).collect(),
            issued_at: time(col::token_issued_at),
            expires_at: time(col::token_expires_at),
        };
        filled.issued = true;
        if !tokens.learn(token(self.context, self.mapping, id), facts, self.context.received_at) {
            filled.conflict = true;
        }
    }
}
