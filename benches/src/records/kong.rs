//! Kong's http-log: one object a request, with the consumer and the credential that Kong found for its key.

use super::{Call, Uuid};
use crate::json::Object;

/// Ids of a route and a service follow from the service's name, as they would from Kong's declarative configuration.
fn id_of(name: &str, salt: u128) -> Uuid {
    let fold = |hash: u128, byte: u8| (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    let hash = name.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d ^ salt, fold);
    Uuid(hash & !(0xf << 76) & !(0x3 << 62) | 0x5 << 76 | 0x2 << 62)
}

/// One finished request of an API-key consumer.
pub fn http_log(call: &Call, out: &mut Vec<u8>) {
    let Call { agent, service, path, .. } = call;
    let (service_id, route_id) = (id_of(service, 1), id_of(service, 2));
    let millis = call.time_micros / 1_000;
    // Kong refuses what it may not pass, and then there is no upstream to speak of.
    let refused = matches!(call.status, 401 | 403 | 429);
    Object::write(out, |o| {
        o.object("service", |o| {
            o.shown("id", service_id).text("name", service).shown("host", format_args!("{service}.prod.internal"));
            o.raw("port", "8080").raw("protocol", "\"http\"").raw("path", "null").raw("retries", "5");
            o.raw("connect_timeout", "60000").raw("read_timeout", "60000").raw("write_timeout", "60000");
            o.raw("created_at", "1714032000").raw("updated_at", "1751375000");
        });
        o.object("route", |o| {
            o.shown("id", route_id).text("name", service).raw("protocols", "[\"http\",\"https\"]");
            o.raw("strip_path", "false").raw("preserve_host", "false").raw("regex_priority", "0");
            o.object("service", |o| {
                o.shown("id", service_id);
            });
        });
        request(call, o);
        response(call, refused, o);
        let gateway = call.duration_ms.min(3);
        let upstream = if refused { -1 } else { call.duration_ms - gateway };
        o.object("latencies", |o| {
            o.int("request", call.duration_ms).int("kong", gateway).int("proxy", upstream).raw("receive", "0");
        });
        if refused {
            o.raw("tries", "[]").raw("source", "\"exiting\"");
        } else {
            o.raw("tries", "[{\"balancer_latency\":0,\"port\":8080,\"ip\":\"10.8.4.19\"}]")
                .raw("source", "\"upstream\"");
            o.shown("upstream_status", call.status);
        }
        o.object("authenticated_entity", |o| {
            o.shown("id", agent.key).shown("consumer_id", agent.consumer);
        });
        o.object("consumer", |o| {
            o.shown("id", agent.consumer).text("username", &agent.name).text("custom_id", &agent.id);
            o.raw("tags", "[\"agent\"]").raw("created_at", "1735689600");
        });
        o.shown("client_ip", agent.address).text("upstream_uri", path).int("started_at", millis);
        o.raw("workspace", "\"5f3d9a52-3c1b-4d5e-9a77-0f1c2b7d8e90\"").raw("workspace_name", "\"default\"");
    });
    out.push(b'\n');
}

fn request(call: &Call, o: &mut Object) {
    let Call { agent, service, path, .. } = call;
    o.object("request", |o| {
        o.shown("id", format_args!("{:032x}", call.id.0)).text("method", call.method).text("uri", path);
        o.shown("url", format_args!("https://{service}.api.example:8443{path}")).raw("querystring", "{}");
        o.int("size", call.bytes_in + 310);
        o.object("headers", |o| {
            o.shown("host", format_args!("{service}.api.example")).raw("accept", "\"application/json\"");
            o.text("user-agent", &agent.user_agent).raw("apikey", "\"REDACTED\"");
            o.text("x-consumer-username", &agent.name);
            if let Some(owner) = &agent.owner {
                o.text("x-agent-owner", owner);
            }
            if let Some(user) = call.user {
                o.text("x-authenticated-userid", &user.id);
            }
        });
    });
}

fn response(call: &Call, refused: bool, o: &mut Object) {
    o.object("response", |o| {
        o.int("status", call.status.into()).int("size", call.bytes_out + 260);
        o.object("headers", |o| {
            o.raw("content-type", "\"application/json\"").shown("content-length", call.bytes_out);
            if !refused {
                o.raw("via", "\"1.1 kong/3.9.1\"").shown("x-kong-upstream-latency", call.duration_ms);
            }
            o.raw("server", "\"kong/3.9.1\"");
        });
    });
}
