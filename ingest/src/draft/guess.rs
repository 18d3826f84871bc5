//! Which path is which column: by its name, where its values have the form that the column needs.
//!
//! A name alone is no reason to map a field whose values do not fit, nor are values a reason where the name says nothing.
//! What nothing speaks for stays out.

use std::net::{IpAddr, SocketAddr};

use super::sample::{Field, Sample};
use crate::time::{self, Unit};

/// A column, the names that speak for it (the best first; without case and separators; the last key of a path or its last two;
/// `^` only at the top), the form of its values, and what is done with them.
pub(super) struct Rule {
    pub(super) column: &'static str,
    names: &'static [&'static str],
    form: Form,
    pub(super) functions: &'static str,
}

#[derive(Clone, Copy)]
enum Form {
    Text,
    Time,
    Address,
    Number,
    Method,
    Path,
    Status,
}

const fn rule(column: &'static str, form: Form, functions: &'static str, names: &'static [&'static str]) -> Rule {
    Rule { column, names, form, functions }
}

pub(super) const TIME: &str = "time";
pub(super) const ACTION: &str = "action";
pub(super) const OUTCOME: &str = "outcome";

/// In the order in which the draft lists columns.
pub(super) static RULES: &[Rule] = &[
    rule(
        TIME,
        Form::Time,
        "",
        &[
            "time",
            "timestamp",
            "eventtime",
            "eventtimestamp",
            "published",
            "occurredat",
            "startedat",
            "starttime",
            "requesttime",
            "loggedat",
            "datetime",
            "date",
            "ts",
            "createdat",
            "created",
            "receivedat",
        ],
    ),
    rule(
        ACTION,
        Form::Text,
        "",
        &[
            "eventtype",
            "eventname",
            "action",
            "operationname",
            "operation",
            "activity",
            "event",
            "activitytype",
            "^type",
        ],
    ),
    rule("source_event_id", Form::Text, "", &["eventid", "uuid", "^id", "logid", "recordid", "messageid", "requestid"]),
    rule(
        "org_id",
        Form::Text,
        "",
        &["orgid", "organizationid", "tenantid", "workspaceid", "accountid", "realmid", "realm"],
    ),
    rule(
        "agent_id",
        Form::Text,
        "",
        &[
            "clientid",
            "azp",
            "appid",
            "applicationid",
            "consumercustomid",
            "consumerusername",
            "consumerid",
            "serviceprincipalid",
            "oauthclientid",
            "agentid",
            "cid",
        ],
    ),
    rule(
        "agent_name",
        Form::Text,
        "",
        &["clientname", "appdisplayname", "appname", "applicationname", "agentname", "consumerusername"],
    ),
    rule("agent_version", Form::Text, "", &["agentversion", "clientversion"]),
    rule("agent_owner", Form::Text, "", &["agentowner", "appowner", "clientowner"]),
    rule("user_id", Form::Text, "", &["sub", "userid", "useruuid", "onbehalfof", "subjectid", "userprincipalid"]),
    rule(
        "user_name",
        Form::Text,
        "",
        &["username", "useremail", "userprincipalname", "preferredusername", "email", "login", "user"],
    ),
    rule("credential_id", Form::Text, "", &["credentialid", "keyid", "accesskeyid", "apikeyid"]),
    rule("token_id", Form::Text, "", &["jti", "tokenid", "uti", "uniquetokenidentifier"]),
    rule("session_id", Form::Text, "", &["sid", "sessionid"]),
    rule("scopes", Form::Text, " | split ', '", &["scope", "scopes", "scp", "grantedscopes"]),
    rule("token_issued_at", Form::Time, "", &["iat", "issuedat", "tokenissuedat"]),
    rule("token_expires_at", Form::Time, "", &["exp", "expiresat", "tokenexpiresat", "expiry"]),
    rule("grant_id", Form::Text, "", &["grantid", "consentid"]),
    rule("service", Form::Text, "", &["servicename", "service", "apiname", "host", "authority"]),
    rule("tool", Form::Text, "", &["toolname", "tool"]),
    rule("resource_type", Form::Text, "", &["resourcetype", "objecttype", "targettype"]),
    rule("resource_id", Form::Text, "", &["resourceid", "objectid", "targetid", "resource"]),
    rule(
        OUTCOME,
        Form::Status,
        " | lookup outcome",
        &["outcome", "result", "outcomeresult", "status", "success", "statuscode", "responsecode", "responsestatus"],
    ),
    rule("reason", Form::Text, "", &["reason", "failurereason", "errormessage", "errordescription", "error"]),
    rule("http_method", Form::Method, "", &["httpmethod", "requestmethod", "method", "verb"]),
    rule("http_path", Form::Path, " | url_path", &["requesturi", "requestpath", "requesturl", "uri", "path", "url"]),
    rule("http_status", Form::Number, "", &["httpstatus", "statuscode", "responsestatus", "responsecode", "status"]),
    rule("user_agent", Form::Text, "", &["useragent", "rawuseragent"]),
    rule(
        "src_ip",
        Form::Address,
        " | ip",
        &[
            "clientip",
            "sourceip",
            "sourceipaddress",
            "remoteip",
            "ipaddress",
            "ip",
            "remoteaddr",
            "remoteaddress",
            "clientaddress",
        ],
    ),
    rule("latency_ms", Form::Number, "", &["latencyms", "durationms"]),
    rule("bytes_in", Form::Number, "", &["requestbytes", "bytesreceived", "bytesin", "requestsize"]),
    rule("bytes_out", Form::Number, "", &["responsebytes", "bytessent", "bytesout", "responsesize"]),
    rule("tokens_in", Form::Number, "", &["inputtokens", "prompttokens"]),
    rule("tokens_out", Form::Number, "", &["outputtokens", "completiontokens"]),
    rule("conversation_id", Form::Text, "", &["conversationid", "threadid"]),
    rule("trace_id", Form::Text, "", &["traceid"]),
    rule("span_id", Form::Text, "", &["spanid"]),
    rule("correlation_id", Form::Text, "", &["correlationid", "transactionid", "requestid"]),
];

/// Keys that name whoever acted without saying whether that is an agent or a user.
pub(super) const EITHER: &[&str] = &["actor", "principal", "subject", "identity", "caller", "initiator", "initiatedby"];

/// What speaks for a path as a column.
pub(super) struct Candidate<'a> {
    pub(super) path: &'a str,
    pub(super) field: &'a Field,
    rank: usize,
}

/// Keys under which another stands than whoever acted.
const OTHERS: &[&str] =
    &["target", "targets", "resource", "resources", "object", "member", "owner", "previous", "response"];
/// What a level further down counts against a name.
const DEPTH_WEIGHT: usize = 4;

/// How deep a record's own fields stand: as deep as its time.
pub(super) fn top(sample: &Sample) -> usize {
    let times = RULES.iter().filter(|rule| rule.column == TIME).flat_map(|rule| candidates(rule, sample, 1));
    times.map(|c| keys(c.path).len()).min().unwrap_or(1)
}

/// The paths that a column may come from, the best first: what many records hold before what few do, then a name that says
/// more and stands nearer to the top.
pub(super) fn candidates<'a>(rule: &Rule, sample: &'a Sample, top: usize) -> Vec<Candidate<'a>> {
    let fitting = sample.fields.iter().filter(|(_, field)| rule.form.fits(field));
    let named = fitting.filter_map(|(path, field)| Some(Candidate { path, field, rank: rank(rule, path, top)? }));
    let mut found: Vec<Candidate<'_>> = named.collect();
    let most = found.iter().map(|c| c.field.records).max().unwrap_or(0);
    found.sort_by_key(|c| (c.field.records * 2 < most, c.rank, usize::MAX - c.field.records, c.path.len()));
    found
}

fn rank(rule: &Rule, path: &str, top: usize) -> Option<usize> {
    let keys = keys(path);
    let last = keys.last()?;
    let who = rule.column.starts_with("user_") || rule.column.starts_with("agent_");
    if who && rule.column != "user_agent" && keys.iter().any(|key| OTHERS.contains(&key.as_str())) {
        return None;
    }
    let both = keys.get(keys.len().wrapping_sub(2)).map(|before| format!("{before}{last}"));
    let place = rule.names.iter().position(|name| match name.strip_prefix('^') {
        Some(name) => keys.len() == top && name == last,
        None => name == last || both.as_deref() == Some(name),
    })?;
    Some(place + DEPTH_WEIGHT * keys.len().saturating_sub(top))
}

/// The keys of a path in lower case without separators; an element told by a field has that field's value as its name.
pub(super) fn keys(path: &str) -> Vec<String> {
    let simple = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let mut keys = Vec::new();
    for step in crate::mapping::path::parse(path).unwrap_or_default() {
        match step {
            crate::mapping::path::Step::Key(key) => keys.push(simple(&key)),
            crate::mapping::path::Step::Field { values, .. } => keys.extend(values.first().map(|value| simple(value))),
            crate::mapping::path::Step::All | crate::mapping::path::Step::Number(_) => {}
        }
    }
    keys
}

impl Form {
    fn fits(self, field: &Field) -> bool {
        let all = |fits: &dyn Fn(&str) -> bool| field.values.iter().all(|value| fits(value));
        match self {
            Form::Text => all(&|value| value.len() <= 1024) && !all(&|value| matches!(value, "true" | "false")),
            Form::Time => all(&is_time),
            Form::Address => all(&is_address),
            Form::Number => all(&|value| value.parse::<i64>().is_ok()),
            Form::Method => all(&is_method),
            Form::Path => all(&|value| value.starts_with('/') || value.contains("://")),
            Form::Status => field.values.iter().any(|value| outcome(value).is_some()),
        }
    }
}

/// A time that somebody's log would hold: a written one, or an epoch after 2001.
pub(super) fn is_time(value: &str) -> bool {
    const MICROS_MIN: i64 = 1_000_000_000_000_000;
    time::from_text(value, Unit::BySize).is_some_and(|micros| micros >= MICROS_MIN)
}

pub(super) fn is_address(value: &str) -> bool {
    value.parse::<IpAddr>().is_ok() || value.parse::<SocketAddr>().is_ok()
}

pub(super) fn is_method(value: &str) -> bool {
    let value = value.to_ascii_uppercase();
    matches!(&*value, "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" | "CONNECT" | "TRACE")
}

/// What a vendor's word for the result means, where that is plain.
pub(super) fn outcome(value: &str) -> Option<&'static str> {
    if let Ok(status) = value.parse::<u16>() {
        return match status {
            401 | 403 | 407 | 429 => Some("denied"),
            100..=399 => Some("success"),
            400..=599 => Some("failure"),
            _ => None,
        };
    }
    match value.to_ascii_lowercase().as_str() {
        "success" | "succeeded" | "successful" | "ok" | "true" | "allow" | "allowed" | "permit" | "completed" => {
            Some("success")
        }
        "failure" | "failed" | "fail" | "error" | "false" | "timeout" => Some("failure"),
        "deny" | "denied" | "forbidden" | "unauthorized" | "blocked" | "rejected" | "rate_limited" => Some("denied"),
        "challenge" | "challenged" | "mfa_required" => Some("challenged"),
        _ => None,
    }
}

/// Effect, class and activity of an action, where a word in it says so.
pub(super) fn effect(action: &str) -> Option<(&'static str, i32, i32)> {
    const WORDS: &[(&[&str], (&str, i32, i32))] = &[
        (&["login", "signin", "logon", "authenticate", "authentication", "token"], ("auth", 3002, 1)),
        (&["logout", "signout", "logoff"], ("auth", 3002, 2)),
        (&["export", "download", "dump"], ("export", 6003, 2)),
        (&["delete", "remove", "destroy", "purge"], ("delete", 6003, 4)),
        (&["grant", "permission", "role", "policy"], ("admin", 3005, 1)),
        (&["get", "read", "list", "view", "search", "query", "fetch"], ("read", 6003, 2)),
        (&["create", "add", "insert", "upload", "post"], ("write", 6003, 1)),
        (&["update", "edit", "modify", "change", "put", "patch", "write"], ("write", 6003, 3)),
        (&["execute", "run", "invoke", "call"], ("execute", 6003, 99)),
    ];
    let mut words: Vec<String> = vec![String::new()];
    for c in action.chars() {
        if !c.is_ascii_alphanumeric()
            || c.is_ascii_uppercase() && words.last().is_some_and(|w| w.ends_with(|p: char| p.is_ascii_lowercase()))
        {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_ascii_alphanumeric()) {
            word.push(c);
        }
    }
    let words: Vec<String> = words.iter().map(|w| w.to_ascii_lowercase()).collect();
    WORDS.iter().find(|(known, _)| words.iter().any(|w| known.contains(&w.as_str()))).map(|(_, effect)| *effect)
}
