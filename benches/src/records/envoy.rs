//! Envoy's JSON access log: Istio's default keys, and the token's claims as `jwt_authn` hands them to the log.

use std::fmt::Write as _;

use super::Call;
use crate::json::Object;

/// One finished request.
pub fn access(call: &Call, out: &mut Vec<u8>) {
    let Call { agent, service, .. } = call;
    let details = match call.status {
        403 => "rbac_access_denied_matched_policy[ns[prod]-policy[agents]-rule[0]]",
        429 => "request_rate_limited",
        503 => "upstream_reset_before_response_started{connection_failure}",
        _ => "via_upstream",
    };
    let reached = details == "via_upstream";
    let flags = match call.status {
        429 => "RL",
        503 => "UF",
        _ => "-",
    };
    let port = 32_768 + (call.id.0 as u16 >> 2);
    Object::write(out, |o| {
        o.text("agent_owner", agent.owner.as_deref().unwrap_or("-"));
        o.text("authority", service).int("bytes_received", call.bytes_in).int("bytes_sent", call.bytes_out);
        o.raw("connection_termination_details", "null").raw("downstream_local_address", "\"10.8.0.12:8443\"");
        o.shown("downstream_peer_uri_san", format_args!("spiffe://prod.internal/ns/agents/sa/{}", agent.name));
        o.shown("downstream_remote_address", format_args!("{}:{port}", agent.address));
        o.int("duration", call.duration_ms);
        claims(call, o);
        o.text("method", call.method).text("path", call.path).raw("protocol", "\"HTTP/2\"");
        o.shown("request_id", call.id).raw("requested_server_name", "\"api.prod.internal\"");
        o.int("response_code", call.status.into()).text("response_code_details", details);
        o.text("response_flags", flags).text("route_name", service).time("start_time", call.time_micros);
        o.shown("traceparent", format_args!("00-{:032x}-{:016x}-01", call.id.0.rotate_left(37), call.id.0 as u64));
        o.shown("upstream_cluster", format_args!("outbound|8080||{service}.prod.svc.cluster.local"));
        if reached {
            o.raw("upstream_host", "\"10.8.4.7:8080\"").raw("upstream_local_address", "\"10.8.0.12:51234\"");
            o.shown("upstream_service_time", (call.duration_ms - 1).max(0));
        } else {
            o.raw("upstream_host", "null").raw("upstream_local_address", "null").raw("upstream_service_time", "null");
        }
        o.raw("upstream_transport_failure_reason", "null");
        o.text("user_agent", &agent.user_agent).shown("x_forwarded_for", agent.address);
    });
    out.push(b'\n');
}

/// The verified claims, or null where the request carried no token.
fn claims(call: &Call, o: &mut Object) {
    let Some(token) = call.token else {
        o.raw("jwt_payload", "null");
        return;
    };
    o.object("jwt_payload", |o| {
        o.text("iss", token.issuer).raw("aud", "\"api://prod\"");
        o.text("sub", call.user.map_or(&call.agent.id, |user| &user.id));
        if let Some(user) = call.user {
            o.text("email", &user.mail);
        }
        o.text("azp", &call.agent.id).text("scope", token.scopes).text("jti", &token.jti).text("sid", &token.session);
        o.int("iat", token.issued_secs);
        if let Some(expires) = token.expires_secs {
            o.int("exp", expires);
        }
        if !token.delegated_by.is_empty() {
            o.raw("act", &actors(&call.agent.id, &token.delegated_by));
        }
    });
}

/// RFC 8693: the current actor outside, who delegated to it within. Ids are letters and digits.
fn actors(holder: &str, delegated_by: &[String]) -> String {
    let mut json = format!("{{\"sub\":\"{holder}\"");
    for id in delegated_by {
        write!(json, ",\"act\":{{\"sub\":\"{id}\"").expect("writing to memory does not fail");
    }
    json.push_str(&"}".repeat(delegated_by.len() + 1));
    json
}
