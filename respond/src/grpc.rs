//! Envoy's `ext_authz` over gRPC: the question of `/v1/deny/ask/{gateway}`, answered by the same rule from the same list.
//!
//! Served where the HTTP doors are: `POST /envoy.service.auth.v3.Authorization/Check`, HTTP/2 without TLS. The rule is `envoy`
//! unless the call's metadata say otherwise (`muster-gateway`). The few messages that are read and written are declared here by
//! Envoy's field numbers; whatever else a request holds is skipped.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::post;
use axum::{Extension, Router};
use futures::future::{Ready, ready};
use schemas::Principal;
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use crate::doors::{VERBS, judge, refusal, rule};
use crate::http::{Problem, need};
use crate::responder::Responder;

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// Header of the call with the name of another rule than `envoy`.
const GATEWAY: &str = "muster-gateway";
/// A question holds the request's headers, and its body where somebody configured that.
const QUESTION_BYTES_MAX: usize = 256 << 10;

pub(crate) fn routes() -> Router<Arc<Responder>> {
    Router::new().route(CHECK, post(check))
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CheckRequest {
    #[prost(message, optional, tag = "1")]
    attributes: Option<Attributes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Attributes {
    #[prost(message, optional, tag = "4")]
    request: Option<Asked>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Asked {
    #[prost(message, optional, tag = "2")]
    http: Option<HttpRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HttpRequest {
    #[prost(map = "string, string", tag = "3")]
    headers: HashMap<String, String>,
    /// In their place where Envoy is told to `encode_raw_headers`.
    #[prost(message, optional, tag = "13")]
    header_map: Option<RawHeaders>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawHeaders {
    #[prost(message, repeated, tag = "1")]
    headers: Vec<Header>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
    #[prost(bytes = "vec", tag = "3")]
    raw_value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CheckResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<RpcStatus>,
    #[prost(message, optional, tag = "2")]
    denied_response: Option<Denied>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Denied {
    #[prost(message, optional, tag = "1")]
    status: Option<HttpStatus>,
    #[prost(message, repeated, tag = "2")]
    headers: Vec<HeaderOption>,
    #[prost(string, tag = "3")]
    body: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HttpStatus {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HeaderOption {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

async fn check(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Response {
    let name = request.headers().get(GATEWAY).and_then(|name| name.to_str().ok()).unwrap_or("envoy").to_owned();
    let allowed = need(&principal, VERBS).and_then(|()| rule(&responder, &name).map(|_| ()));
    if let Err(Problem(status, detail)) = allowed {
        let code = if status == StatusCode::FORBIDDEN { Code::PermissionDenied } else { Code::NotFound };
        return Status::new(code, detail).into_http::<axum::body::Body>();
    }
    let mut grpc = Grpc::new(ProstCodec::default()).max_decoding_message_size(QUESTION_BYTES_MAX);
    let question = Question { responder, tenant: principal.tenant, gateway: name };
    grpc.unary(question, request).await.map(axum::body::Body::new)
}

struct Question {
    responder: Arc<Responder>,
    tenant: String,
    gateway: String,
}

impl UnaryService<CheckRequest> for Question {
    type Response = CheckResponse;
    type Future = Ready<Result<tonic::Response<CheckResponse>, Status>>;

    fn call(&mut self, request: tonic::Request<CheckRequest>) -> Self::Future {
        let Ok(rule) = rule(&self.responder, &self.gateway) else {
            return ready(Err(Status::not_found("no gateway has this name")));
        };
        let asker = rule.asker(&headers(request.into_inner()));
        ready(Ok(tonic::Response::new(answer(judge(&self.responder, &self.tenant, rule, &asker)))))
    }
}

/// The headers of the request that is asked about. One that is no header by HTTP's rules is left out.
fn headers(question: CheckRequest) -> HeaderMap {
    let http = question.attributes.and_then(|attributes| attributes.request?.http).unwrap_or_default();
    let raw = http.header_map.unwrap_or_default().headers.into_iter().map(|Header { key, value, raw_value }| {
        let value = if raw_value.is_empty() { value.into_bytes() } else { raw_value };
        (key, value)
    });
    let pairs = http.headers.into_iter().map(|(key, value)| (key, value.into_bytes())).chain(raw);
    let mut headers = HeaderMap::new();
    for (key, value) in pairs {
        if let (Ok(key), Ok(value)) = (HeaderName::from_bytes(key.as_bytes()), HeaderValue::from_bytes(&value)) {
            headers.append(key, value);
        }
    }
    headers
}

fn answer(judged: Result<Option<Arc<crate::deny::Entry>>, ()>) -> CheckResponse {
    let entry = match judged {
        Ok(None) => return CheckResponse { status: Some(RpcStatus { code: Code::Ok as i32 }), denied_response: None },
        Ok(Some(entry)) => Some(entry),
        Err(()) => None,
    };
    let body = refusal(entry.as_deref()).to_string();
    let order = entry.map(|entry| HeaderOption {
        header: Some(Header { key: "muster-order".into(), value: entry.order_id.clone(), raw_value: Vec::new() }),
    });
    let status = Some(HttpStatus { code: StatusCode::FORBIDDEN.as_u16().into() });
    let denied_response = Some(Denied { status, headers: order.into_iter().collect(), body });
    CheckResponse { status: Some(RpcStatus { code: Code::PermissionDenied as i32 }), denied_response }
}
