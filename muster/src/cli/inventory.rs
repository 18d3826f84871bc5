//! `muster inventory`: runs the polls of what providers hold, through the running server, else in the folder itself.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use ingest::inventory::Snapshot;
use ingest::inventory::provider::{Provider, built_in, names};
use lake::clock::Clock;

use super::verify::leave;
use crate::client::{Client, SOCKET};
use crate::config::Config;
use crate::node::Node;
use crate::output::{self, Format, grouped};

#[derive(Subcommand)]
pub(crate) enum InventoryCommand {
    /// Run the configured polls once, now, and print what they found
    Run(Run),
    /// The providers that can be polled
    Providers,
}

#[derive(Args)]
pub(crate) struct Run {
    /// Only the poll of this name
    #[arg(long)]
    poll: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(crate) async fn run(command: &InventoryCommand, config: Config) -> Result<ExitCode> {
    let command = match command {
        InventoryCommand::Run(command) => command,
        InventoryCommand::Providers => {
            for (name, provider) in providers() {
                output::print(&format!("{name:10} {}\n", provider.title))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
    };
    if config.inventory.polls.is_empty() {
        bail!("no polls are configured: see `[[inventory.polls]]` in docs/inventory.md");
    }
    let done = match Client::connect(&config.data.folder.join(SOCKET), "default").await? {
        Some(client) => {
            let query = command.poll.as_deref().map_or_else(String::new, |poll| {
                format!("?{}", url::form_urlencoded::Serializer::new(String::new()).append_pair("poll", poll).finish())
            });
            let answer = client.post(&format!("/operator/inventory{query}"), Vec::new()).await?;
            serde_json::from_slice(&answer.body).context("the server's answer is not JSON")?
        }
        None => {
            let node = Node::open(config, Clock::system()).await?;
            let done = node.inventory.run_named(command.poll.as_deref()).await;
            let left = leave(&node).await;
            let done = done?;
            left?;
            done
        }
    };
    match command.format {
        Format::Table => output::print(&done.iter().map(line).collect::<String>())?,
        Format::Json | Format::Csv => {
            output::json_lines(&done.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?)?;
        }
    }
    let failed = done.iter().any(|snapshot| snapshot.error.is_some());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn line(snapshot: &Snapshot) -> String {
    let Snapshot { poll, provider, tenant, items, kinds, requests, masked, error, .. } = snapshot;
    if let Some(error) = error {
        return format!("{poll} ({provider}, tenant {tenant}): FAILED, nothing is changed: {error}\n");
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{} {kind}", grouped(*count as i64))).collect();
    let items = grouped(*items as i64);
    format!(
        "{poll} ({provider}, tenant {tenant}): {items} items ({}), {requests} requests, {masked} secrets masked\n",
        kinds.join(", ")
    )
}

fn providers() -> impl Iterator<Item = (&'static str, Provider)> {
    names().filter_map(|name| Some((name, built_in(name)?)))
}

/// `docs/inventory.md`: how the inventory is filled, each provider, and the table's own page.
pub(crate) fn reference(table: &str) -> String {
    let mut page = GUIDE.to_owned();
    for (name, provider) in providers() {
        page.push_str(&format!("\n### `{name}`: {}\n\n", provider.title));
        page.push_str(&format!("`base_url` such as `{}`. {}\n\n", provider.base_url, provider.permissions));
        for parameter in &provider.parameters {
            page.push_str(&format!("Needs `parameters.{parameter}`.\n\n"));
        }
        page.push_str("| list | asks | becomes |\n| --- | --- | --- |\n");
        for list in &provider.lists {
            let path = list.path.split('?').next().unwrap_or("");
            let action = list.path.split(['?', '&']).find(|part| part.starts_with("Action="));
            let asks = action.unwrap_or(path);
            let each = list.each.as_ref().map_or_else(String::new, |each| format!(", for each of `{each}`"));
            let kinds: Vec<&str> = list.rows.iter().map(|rows| rows.kind.as_str()).collect();
            let kinds = if kinds.is_empty() { "(only leads to another list)".to_owned() } else { kinds.join(", ") };
            page.push_str(&format!("| `{}` | `{asks}`{each} | {kinds} |\n", list.name));
        }
        page.push('\n');
        for quirk in &provider.quirks {
            page.push_str(&format!("- {quirk}\n"));
        }
        page.push_str(&format!("- Tried against: {}. Not yet against the real service.\n", provider.tried));
    }
    page.push('\n');
    page.push_str(&table.replace("\n## ", "\n### ").replacen("# The table", "## The table", 1));
    page
}

const GUIDE: &str = r#"# The inventory

What logs cannot show: credentials that nobody ever used, when they expire, who owns them, and who granted what to whom.
Muster asks identity providers and gateways for it, keeps each answer as a snapshot, and joins it to the roster.

Generated from the code; do not edit (`muster docs` writes it).

```toml
[[inventory.polls]]
name = "okta-prod"
provider = "okta"
base_url = "https://acme.okta.com"
token_file = "/etc/muster/okta.token"

[[inventory.polls]]
name = "entra"
provider = "entra"
base_url = "https://graph.microsoft.com"
only = ["applications", "service_principals", "consents"]
interval_secs = 43200
[inventory.polls.oauth]
token_url = "https://login.microsoftonline.com/TENANT/oauth2/v2.0/token"
client_id = "…"
client_secret_file = "/etc/muster/entra.secret"
scope = "https://graph.microsoft.com/.default"
```

```sh
muster inventory run                      # all polls once, now; what each found
muster agents report                      # the review: unowned, unused, never expiring, …, each with its fact
muster agents report --format markdown    # the same for a ticket
muster agents grants --user ann@acme.example   # which agents hold grants on me
muster sql "SELECT * FROM grants WHERE all_users"
```

`muster serve` runs each poll at its start and then every `interval_secs`. `muster status` shows the last run of each and
the last complete one; the metric `muster_inventory_runs` counts runs by poll and outcome.

## What you can rely on
- **A run is complete or it is nothing.** Items are stored when the last page is there. A failing page, a limit reached or a
  crash leaves only a row of kind `run` that says why, or nothing; the last complete snapshot stays what the views show.
- **Unknown stays unknown.** A column that a provider does not show is null. Only where its answer says that there is nothing
  (an empty list of owners, a key without an end), a flag says so, and a hygiene flag of the roster may say `yes`.
- **Calls go to the host of `base_url` (and of `oauth.token_url`) only**, over https, or http on loopback. Redirects are not
  followed; a next page on another host fails the run. Answers, requests, items, bytes and time have limits
  ([configuration](configuration.md)). 429 and 5xx are repeated as `Retry-After` or `X-Rate-Limit-Reset` ask.
- **Secrets** come from files, read at each run, and are never logged. Secrets in the answers are masked before anything is
  stored.
- **Tenants**: a poll's rows belong to the tenant that its configuration names.

## What the views show
`inventory` has every snapshot, as evidence. `credentials` and `grants` show each poll's latest complete snapshot;
`credentials` adds when the logs last saw each. `agents` joins both worlds: an agent that only an inventory lists has no
events, and what the inventory knows answers flags that logs left `unknown`.

| flag | yes | no |
| --- | --- | --- |
| `no_owner` | a log or provider has the field, and it is empty | one names an owner |
| `unused` | last event and last use are more than 90 days ago, or the provider says never | one is younger |
| `never_expires` | a credential in force has no expiry, or a token in the logs lives for more than a year | an expiry was seen |
| `long_lived` | a credential in force was made more than 365 days ago | all are younger |
| `generic_name` | every word could stand for any agent (`test-client-2`, `My App`) | the name says something |
| `overprivileged` | granted `*`, an admin, owner or root role, `….ReadWrite.All`, `okta.….manage`, or the like | scopes are known, none is so |
| `unused_scopes` | granted and never among those that calls needed | all were needed |
| `shared_credential` | two agents used it, or it came from several places at once | seen, with one agent |

## A provider of your own
`provider = "generic"` with the same declaration that the built-in ones have
([`schemas/inventory/`](../schemas/inventory)), in configuration:

```toml
[[inventory.polls]]
name = "bots"
provider = "generic"
base_url = "https://internal.example/api"
token_file = "/etc/muster/bots.token"

[[inventory.polls.generic.lists]]
name = "bots"
path = "/v1/bots?limit=100"
paging = { kind = "cursor", path = "meta.next", parameter = "cursor" }
items = "data"
[[inventory.polls.generic.lists.rows]]
kind = "client"
[inventory.polls.generic.lists.rows.columns]
item_id = "id"
agent_id = "client_id"
agent_name = "name"
owner = { take = "owner.email", empty = "no_owner" }
created_at = "created"
```

Paging: `none`, `link` (header `Link`), `next` (a URL at `path`), `cursor` (a value at `path` goes into `parameter`), `offset`
and `page` (counted, until `total` is reached or a page is empty). A list with `each` is asked for each item of an earlier
list, whose fields fill `{field}` in its path and are reached with `^.` in its rows. A text in single quotes is itself.
Times are ISO 8601, RFC 2822, or epochs of any unit.

## Providers
"#;
