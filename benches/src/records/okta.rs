//! Okta's System Log: a token granted to a client for a user, and a person who logs in.

use super::{Agent, Token, User, Uuid};
use crate::json::Object;

/// An access token granted to `agent`, for `user` or for itself.
pub fn token_grant(time_micros: i64, id: Uuid, agent: &Agent, user: Option<&User>, token: &Token, out: &mut Vec<u8>) {
    let event = Event {
        time_micros,
        id,
        kind: "app.oauth2.token.grant.access_token",
        message: "OAuth2 access token is granted",
        severity: "INFO",
        outcome: ("SUCCESS", None),
        session: &token.session,
    };
    let grant = match user {
        Some(_) => "urn:ietf:params:oauth:grant-type:token-exchange",
        None => "client_credentials",
    };
    // Okta separates scopes by comma and space here, whatever the token does.
    let scopes = token.scopes.replace(' ', ", ");
    let mut targets = Vec::with_capacity(2);
    if let Some(user) = user {
        targets.push(Target::User(user));
    }
    targets.push(Target::Token(token, user.map_or(&agent.id, |user| &user.id)));
    event.write(out, |o| {
        o.object("actor", |o| {
            o.text("id", &agent.id).raw("type", "\"PublicClientApp\"").text("alternateId", &agent.id);
            o.text("displayName", &agent.name).raw("detailEntry", "null");
        });
        client(o, agent.address, &agent.user_agent, "Unknown");
        o.object("debugContext", |o| {
            o.object("debugData", |o| {
                o.raw("clientAuthType", "\"private_key_jwt\"").text("clientId", &agent.id).text("grantType", grant);
                o.text("grantedScopes", &scopes).text("requestedScopes", &scopes);
                o.raw("requestUri", "\"/oauth2/default/v1/token\"").raw("url", "\"/oauth2/default/v1/token?\"");
                o.shown("requestId", format_args!("{:032x}", id.0)).raw("threatSuspected", "\"false\"");
            });
        });
        o.objects("target", &targets, target);
    });
}

/// A person logs in; `reason` is why it failed, where it did.
pub fn login(time_micros: i64, id: Uuid, user: &User, session: &str, reason: Option<&str>, out: &mut Vec<u8>) {
    let event = Event {
        time_micros,
        id,
        kind: "user.session.start",
        message: "User login to Okta",
        severity: if reason.is_some() { "WARN" } else { "INFO" },
        outcome: (if reason.is_some() { "FAILURE" } else { "SUCCESS" }, reason),
        session: if reason.is_some() { "unknown" } else { session },
    };
    event.write(out, |o| {
        o.object("actor", |o| {
            o.text("id", &user.id).raw("type", "\"User\"").text("alternateId", &user.mail);
            o.text("displayName", &user.name).raw("detailEntry", "null");
        });
        client(o, user.address, BROWSER, "Computer");
        o.object("debugContext", |o| {
            o.object("debugData", |o| {
                o.raw("behaviors", "\"{New Geo-Location=NEGATIVE, New Device=NEGATIVE, New IP=NEGATIVE}\"");
                o.raw("requestUri", "\"/api/v1/authn\"").raw("url", "\"/api/v1/authn?\"");
                o.raw("risk", "\"{level=LOW}\"").raw("threatSuspected", "\"false\"");
                o.shown("requestId", format_args!("{:032x}", id.0));
            });
        });
        o.raw("target", "null");
    });
}

const BROWSER: &str = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36";
const PLACE: &str = r#"{"city":"Frankfurt am Main","country":"Germany","geolocation":{"lat":50.1155,"lon":8.6842},"postalCode":"60313","state":"Hesse"}"#;

/// What every System Log event has.
struct Event<'a> {
    time_micros: i64,
    id: Uuid,
    kind: &'a str,
    message: &'a str,
    severity: &'a str,
    outcome: (&'a str, Option<&'a str>),
    session: &'a str,
}

impl Event<'_> {
    fn write(&self, out: &mut Vec<u8>, particular: impl FnOnce(&mut Object)) {
        Object::write(out, |o| {
            o.shown("uuid", self.id).time("published", self.time_micros).text("eventType", self.kind);
            o.raw("version", "\"0\"").text("severity", self.severity).text("displayMessage", self.message);
            o.raw("legacyEventType", "null");
            o.object("outcome", |o| {
                o.text("result", self.outcome.0).optional("reason", self.outcome.1);
            });
            particular(o);
            o.object("authenticationContext", |o| {
                o.raw("authenticationProvider", "null")
                    .raw("authenticationStep", "0")
                    .raw("credentialProvider", "null");
                o.raw("credentialType", "null").raw("interface", "null").raw("issuer", "null");
                o.text("externalSessionId", self.session);
            });
            let network = r#"{"asNumber":64500,"asOrg":"example networks","domain":"example.net","isProxy":false,"isp":"example networks"}"#;
            o.raw("securityContext", network);
            o.object("transaction", |o| {
                o.shown("id", format_args!("{:032x}", self.id.0)).raw("type", "\"WEB\"").raw("detail", "{}");
            });
        });
        out.push(b'\n');
    }
}

fn client(o: &mut Object, address: std::net::Ipv4Addr, user_agent: &str, device: &str) {
    o.object("client", |o| {
        o.shown("ipAddress", address).text("device", device).raw("id", "null").raw("zone", "\"null\"");
        o.raw("geographicalContext", PLACE);
        o.object("userAgent", |o| {
            o.raw("browser", "\"UNKNOWN\"").raw("os", "\"Unknown\"").text("rawUserAgent", user_agent);
        });
    });
    o.object("request", |o| {
        o.objects("ipChain", &[address], |o, address| {
            o.shown("ip", address).raw("source", "null").raw("version", "\"V4\"").raw("geographicalContext", PLACE);
        });
    });
}

enum Target<'a> {
    User(&'a User),
    /// A token and its subject.
    Token(&'a Token, &'a str),
}

fn target(o: &mut Object, target: &Target) {
    match target {
        Target::User(user) => {
            o.text("id", &user.id).raw("type", "\"User\"").text("alternateId", &user.mail);
            o.text("displayName", &user.name).raw("detailEntry", "null");
        }
        Target::Token(token, subject) => {
            o.text("id", &token.jti).raw("type", "\"access_token\"").raw("alternateId", "null");
            o.raw("displayName", "\"Access Token\"");
            o.object("detailEntry", |o| {
                if let Some(expires) = token.expires_secs {
                    o.time("expires", expires * 1_000_000);
                }
                o.text("subject", subject).text("hash", &token.jti[3..]);
            });
        }
    }
}
