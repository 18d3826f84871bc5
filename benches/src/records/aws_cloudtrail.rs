//! AWS CloudTrail: an agent acts under an assumed role, its name is the role session's.

use super::{Call, Uuid, short_id};
use crate::json::Object;
use fastrand::Rng;

/// An API of AWS: where it belongs, what it is called, whether it only reads, and its request.
pub struct Api(pub &'static str, pub &'static str, pub bool, pub &'static str);

/// What agents do in a cloud account.
pub const APIS: &[Api] = &[
    Api(
        "s3",
        "GetObject",
        true,
        r#"{"bucketName":"acme-invoices","key":"2026/03/batch.parquet","Host":"acme-invoices.s3.eu-central-1.amazonaws.com"}"#,
    ),
    Api(
        "s3",
        "ListObjects",
        true,
        r#"{"bucketName":"acme-invoices","prefix":"2026/","Host":"acme-invoices.s3.eu-central-1.amazonaws.com"}"#,
    ),
    Api("s3", "PutObject", false, r#"{"bucketName":"acme-reports","key":"daily/summary.csv","x-amz-acl":"private"}"#),
    Api("dynamodb", "Query", true, r#"{"tableName":"tickets","indexName":"by-customer"}"#),
    Api(
        "sqs",
        "ReceiveMessage",
        true,
        r#"{"queueUrl":"https://sqs.eu-central-1.amazonaws.com/111122223333/tickets","maxNumberOfMessages":10}"#,
    ),
    Api("bedrock", "InvokeModel", true, r#"{"modelId":"anthropic.claude-sonnet-4-5-20250929-v1:0"}"#),
    Api(
        "kms",
        "Decrypt",
        true,
        r#"{"encryptionContext":{"service":"billing"},"encryptionAlgorithm":"SYMMETRIC_DEFAULT"}"#,
    ),
    Api("ssm", "GetParameter", true, r#"{"name":"/prod/billing/endpoint","withDecryption":false}"#),
    Api("secretsmanager", "GetSecretValue", true, r#"{"secretId":"prod/billing/gateway"}"#),
    Api(
        "ec2",
        "DescribeInstances",
        true,
        r#"{"instancesSet":{},"filterSet":{"items":[{"name":"tag:team","valueSet":{"items":[{"value":"data"}]}}]}}"#,
    ),
    Api(
        "lambda",
        "UpdateFunctionCode20150331v2",
        false,
        r#"{"functionName":"invoice-export","publish":true,"dryRun":false}"#,
    ),
    Api("sts", "GetCallerIdentity", true, "null"),
];

/// One call of `api` by the role session that `call` tells of; `key_id` is its temporary access key.
pub fn api_call(call: &Call, api: &Api, key_id: &str, out: &mut Vec<u8>) {
    let Api(service, name, reads, request) = api;
    let agent = call.agent;
    let denied = call.status >= 400;
    Object::write(out, |o| {
        o.raw("eventVersion", "\"1.11\"");
        o.object("userIdentity", |o| identity(o, call, key_id));
        o.time_seconds("eventTime", call.time_micros).shown("eventSource", format_args!("{service}.amazonaws.com"));
        o.text("eventName", name).raw("awsRegion", "\"eu-central-1\"").shown("sourceIPAddress", agent.address);
        o.text("userAgent", &agent.user_agent);
        if denied {
            o.raw("errorCode", "\"AccessDenied\"");
            let why = "because no identity-based policy allows it";
            let who = format_args!("arn:aws:sts::111122223333:assumed-role/agents/{}", agent.name);
            o.shown("errorMessage", format_args!("User: {who} is not authorized to perform: {service}:{name} {why}"));
        }
        o.raw("requestParameters", request).raw("responseElements", "null");
        o.shown("requestID", Uuid(call.id.0.rotate_left(61))).shown("eventID", call.id);
        o.raw("readOnly", if *reads { "true" } else { "false" }).raw("eventType", "\"AwsApiCall\"");
        o.raw("managementEvent", "true").raw("recipientAccountId", "\"111122223333\"");
        o.raw("eventCategory", "\"Management\"");
        o.object("tlsDetails", |o| {
            o.raw("tlsVersion", "\"TLSv1.3\"").raw("cipherSuite", "\"TLS_AES_128_GCM_SHA256\"");
            o.shown("clientProvidedHostHeader", format_args!("{service}.eu-central-1.amazonaws.com"));
        });
    });
    out.push(b'\n');
}

fn identity(o: &mut Object, call: &Call, key_id: &str) {
    let name = &call.agent.name;
    o.raw("type", "\"AssumedRole\"").shown("principalId", format_args!("AROAEXAMPLEAGENTROLE1:{name}"));
    o.shown("arn", format_args!("arn:aws:sts::111122223333:assumed-role/agents/{name}"));
    o.raw("accountId", "\"111122223333\"").text("accessKeyId", key_id);
    o.object("sessionContext", |o| {
        let role = r#"{"type":"Role","principalId":"AROAEXAMPLEAGENTROLE1","arn":"arn:aws:iam::111122223333:role/agents","accountId":"111122223333","userName":"agents"}"#;
        o.raw("sessionIssuer", role);
        o.object("attributes", |o| {
            let started = call.token.map_or(call.time_micros, |token| token.issued_secs * 1_000_000);
            o.time_seconds("creationDate", started).raw("mfaAuthenticated", "\"false\"");
        });
        if let Some(user) = call.user {
            o.text("sourceIdentity", &user.mail);
        }
    });
}

/// A temporary access key's id.
pub(crate) fn key_id(rng: &mut Rng) -> String {
    short_id(rng, "ASIA", 20).to_uppercase()
}
