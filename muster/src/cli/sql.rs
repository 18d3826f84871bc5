//! `muster sql`: one question, answered from the lake and its hot tail.

use std::process::ExitCode;

use anyhow::Result;
use arrow::array::RecordBatch;
use clap::Args;
use serde_json::json;

use crate::client::Access;
use crate::config::Config;
use crate::output::{self, Format, complain};

/// Which tenant's data a command sees.
#[derive(Args, Clone)]
pub(crate) struct Tenant {
    /// Tenant whose data is meant
    #[arg(long, default_value = "default", value_parser = crate::tokens::name)]
    pub(crate) tenant: String,
}

#[derive(Args)]
pub(crate) struct Sql {
    /// The query; tables: events, alerts, judged_alerts, verdicts, detector_precision, orders,
    /// quarantine, ingest_ledger, agents, inventory, credentials, grants
    query: String,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    tenant: Tenant,
}

pub(crate) async fn run(command: &Sql, config: Config) -> Result<ExitCode> {
    let access = Access::open(config, &command.tenant.tenant).await?;
    let answer = ask(&access, &command.tenant.tenant, &command.query).await?;
    output::rows(&answer, command.format)?;
    Ok(ExitCode::SUCCESS)
}

const TRUNCATED: &str = "the answer was cut at the limit of rows (query.rows_max)";

/// Asks whichever way the data is reached. Says on standard error where the answer was cut at the limit of rows.
pub(crate) async fn ask(access: &Access, tenant: &str, query: &str) -> Result<Vec<RecordBatch>> {
    match access {
        Access::Folder(store) => {
            let answer = store.query.sql(tenant, query).await?;
            if answer.truncated {
                complain(TRUNCATED);
            }
            Ok(answer.batches)
        }
        Access::Server(client) => {
            let body = serde_json::to_vec(&json!({"sql": query, "format": "arrow"}))?;
            let answer = client.post("/v1/sql", body).await?;
            if answer.truncated {
                complain(TRUNCATED);
            }
            let reader = arrow::ipc::reader::StreamReader::try_new(answer.body.as_slice(), None)?;
            let schema = reader.schema();
            let mut batches = reader.collect::<Result<Vec<_>, _>>()?;
            if batches.is_empty() {
                batches.push(RecordBatch::new_empty(schema));
            }
            Ok(batches)
        }
    }
}

/// [`ask`], with each row as a JSON object.
pub(crate) async fn ask_json(access: &Access, tenant: &str, query: &str) -> Result<Vec<serde_json::Value>> {
    let batches = ask(access, tenant, query).await?;
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write_batches(&batches.iter().collect::<Vec<_>>())?;
    writer.finish()?;
    let lines = String::from_utf8(writer.into_inner())?;
    lines.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// A text as a SQL literal.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
