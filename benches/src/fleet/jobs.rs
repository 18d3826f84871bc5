//! What the fleet's agents do for a living: data, one entry a job.

/// A kind of agent. Its sessions run the steps in order, each so many times.
pub(super) struct Job {
    pub(super) name: &'static str,
    /// How many agents have the job at each tenant, in the order of [`super::TENANTS`].
    pub(super) agents: [usize; 2],
    pub(super) door: Door,
    pub(super) when: When,
    pub(super) sessions_a_day: u32,
    pub(super) scopes: &'static str,
    pub(super) steps: &'static [Step],
    /// Normal too, but only in one session of several ([`super::week`]).
    pub(super) rarely: &'static [Step],
}

/// How the agent reaches the APIs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// Through Envoy, with a token from Okta for one of its users.
    ForUsers,
    /// Through Envoy, with a token from Okta for itself.
    Alone,
    /// Through Envoy, with a token that an agent of this other job delegated to it.
    DelegatedBy(&'static str),
    /// Through Kong, with an API key.
    Key,
}

/// When sessions begin, in UTC.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Always,
    /// 9 to 17, Monday to Friday.
    Weekdays,
    /// 7 to 21, every day.
    Daily,
    /// In the half hour after this hour.
    Nightly(i64),
}

/// A call, made between so many and so many times; `{id}` becomes one of the ids that the agent works on.
pub(super) struct Step {
    pub(super) service: &'static str,
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) times: (u32, u32),
}

const fn get(service: &'static str, path: &'static str, least: u32, most: u32) -> Step {
    Step { service, method: "GET", path, times: (least, most) }
}

const fn post(service: &'static str, path: &'static str, least: u32, most: u32) -> Step {
    Step { service, method: "POST", path, times: (least, most) }
}

const fn patch(service: &'static str, path: &'static str, least: u32, most: u32) -> Step {
    Step { service, method: "PATCH", path, times: (least, most) }
}

/// The job of the agent that is hijacked. It works around the clock, so that the story fits whatever hour it is told at.
pub(super) const HIJACKED: &str = "invoice-reconciler";
/// The job of the agents whose key goes round.
pub(super) const SHARED: &str = "price-watcher";
/// The job of the one agent whose token never expires and that nobody owns.
pub(super) const NEVER_EXPIRES: &str = "legacy-sync";

use Door::{Alone, DelegatedBy, ForUsers, Key};
use When::{Always, Daily, Nightly, Weekdays};

macro_rules! job {
    ($name:expr, $agents:expr, $door:expr, $when:expr, $sessions:literal a day, $scopes:literal,
     steps $($step:ident($($arg:tt)*))+; rarely $($rare:ident($($rare_arg:tt)*))*) => {
        Job {
            name: $name,
            agents: $agents,
            door: $door,
            when: $when,
            sessions_a_day: $sessions,
            scopes: $scopes,
            steps: &[$($step($($arg)*)),+],
            rarely: &[$($rare($($rare_arg)*)),*],
        }
    };
}

#[rustfmt::skip]
pub(super) const JOBS: &[Job] = &[
    job!(HIJACKED, [12, 3], ForUsers, Always, 6 a day, "invoices.read ledger.write",
        steps get("billing", "/v1/invoices", 1, 1) get("billing", "/v1/invoices/{id}", 2, 4)
              get("billing", "/v1/invoices/{id}/items", 2, 4) post("ledger", "/v1/ledger/notes", 1, 2);
        rarely get("billing", "/v1/vendors/{id}", 1, 2) post("billing", "/v1/invoices/{id}/disputes", 1, 1)),
    job!("support-triage", [16, 4], ForUsers, Daily, 8 a day, "tickets.read tickets.comment kb.read",
        steps get("support", "/v1/tickets", 1, 1) get("support", "/v1/tickets/{id}", 2, 5)
              post("support", "/v1/tickets/{id}/comments", 1, 3);
        rarely get("knowledge", "/v1/articles/{id}", 1, 3) post("support", "/v1/tickets/{id}/escalations", 1, 1)),
    job!("crm-enricher", [12, 3], Alone, Weekdays, 6 a day, "crm.read crm.write",
        steps get("crm", "/v1/contacts", 1, 1) get("crm", "/v1/contacts/{id}", 3, 6) patch("crm", "/v1/contacts/{id}", 1, 4);
        rarely get("crm", "/v1/accounts/{id}", 1, 2) post("crm", "/v1/contacts/{id}/merge", 1, 1)),
    job!("report-exporter", [8, 2], Alone, Nightly(2), 2 a day, "reports.read reports.export warehouse.query",
        steps post("warehouse", "/v1/queries", 2, 4) get("warehouse", "/v1/queries/{id}/result", 2, 4)
              post("reports", "/v1/reports/export", 1, 1);
        rarely get("reports", "/v1/reports/{id}", 1, 2)),
    job!("customer-exporter", [2, 1], Alone, Nightly(3), 1 a day, "customers.read customers.export",
        steps get("customers", "/v1/customers", 1, 2) post("customers", "/v1/customers/export", 1, 1)
              get("customers", "/v1/exports/{id}", 1, 3);
        rarely get("customers", "/v1/customers/{id}", 1, 1)),
    job!("deployment-bot", [6, 2], ForUsers, Weekdays, 4 a day, "deployments.write registry.read secrets.read",
        steps get("vault", "/v1/secrets/deploy/registry-token", 1, 1) post("deploy", "/v1/deployments", 1, 1)
              get("deploy", "/v1/deployments/{id}", 3, 8);
        rarely post("deploy", "/v1/deployments/{id}/rollback", 1, 1)),
    job!("refund-assistant", [10, 2], ForUsers, Daily, 5 a day, "orders.read refunds.write",
        steps get("orders", "/v1/orders/{id}", 1, 3) get("billing", "/v1/payments/{id}", 1, 2) post("billing", "/v1/refunds", 0, 1);
        rarely get("support", "/v1/tickets/{id}", 1, 1)),
    job!("ops-copilot", [8, 2], ForUsers, Weekdays, 5 a day, "ops.read kb.read delegate",
        steps get("metrics", "/v1/dashboards/{id}", 1, 2) get("deploy", "/v1/deployments", 1, 1) post("ops", "/v1/runs", 1, 2);
        rarely post("ops", "/v1/incidents/{id}/notes", 1, 1)),
    job!("kb-searcher", [8, 2], DelegatedBy("ops-copilot"), Weekdays, 6 a day, "kb.read",
        steps get("knowledge", "/v1/articles", 1, 3) get("knowledge", "/v1/articles/{id}", 2, 5);
        rarely get("knowledge", "/v1/articles/{id}/history", 1, 1)),
    job!("order-tracker", [14, 4], ForUsers, Daily, 7 a day, "orders.read shipments.read",
        steps get("orders", "/v1/orders/{id}", 2, 4) get("shipping", "/v1/shipments/{id}", 1, 3);
        rarely post("shipping", "/v1/shipments/{id}/claims", 1, 1)),
    job!(SHARED, [10, 3], Key, Always, 6 a day, "",
        steps get("catalog", "/v1/products", 1, 2) get("catalog", "/v1/products/{id}", 3, 6) patch("catalog", "/v1/products/{id}/price", 0, 2);
        rarely get("catalog", "/v1/suppliers/{id}", 1, 2)),
    job!("inventory-sync", [8, 2], Key, Always, 8 a day, "",
        steps get("inventory", "/v1/stock", 1, 1) patch("inventory", "/v1/stock/{id}", 2, 5);
        rarely post("inventory", "/v1/stock/{id}/recounts", 1, 1)),
    job!("shipping-notifier", [8, 2], Key, Daily, 7 a day, "",
        steps get("shipping", "/v1/shipments", 1, 1) post("messages", "/v1/messages", 2, 5);
        rarely get("shipping", "/v1/shipments/{id}", 1, 2)),
    job!("webhook-relay", [6, 2], Key, Always, 10 a day, "",
        steps post("hooks", "/v1/deliveries", 2, 6);
        rarely post("hooks", "/v1/deliveries/{id}/retry", 1, 2)),
    job!("hr-onboarder", [4, 1], ForUsers, Weekdays, 2 a day, "people.read accounts.write",
        steps get("people", "/v1/employees/{id}", 1, 2) post("accounts", "/v1/accounts", 1, 1) post("accounts", "/v1/accounts/{id}/groups", 1, 3);
        rarely get("people", "/v1/contracts/{id}", 1, 1)),
    job!("contract-reviewer", [6, 1], ForUsers, Weekdays, 4 a day, "documents.read documents.comment",
        steps get("documents", "/v1/documents/{id}", 2, 4) post("documents", "/v1/documents/{id}/comments", 1, 4);
        rarely get("documents", "/v1/templates/{id}", 1, 1)),
    job!("expense-auditor", [6, 1], Alone, Weekdays, 5 a day, "expenses.read expenses.flag",
        steps get("expenses", "/v1/expenses", 1, 1) get("expenses", "/v1/expenses/{id}", 3, 7) post("expenses", "/v1/expenses/{id}/flags", 0, 1);
        rarely get("people", "/v1/employees/{id}", 1, 1)),
    job!("sales-forecaster", [5, 1], Alone, Nightly(4), 3 a day, "crm.read warehouse.query",
        steps get("crm", "/v1/opportunities", 2, 4) post("warehouse", "/v1/queries", 1, 3) get("warehouse", "/v1/queries/{id}/result", 1, 3);
        rarely post("reports", "/v1/reports", 1, 1)),
    job!("meeting-scheduler", [6, 1], ForUsers, Weekdays, 7 a day, "calendar.read calendar.write",
        steps get("calendar", "/v1/calendars/{id}/free", 1, 4) post("calendar", "/v1/events", 0, 1);
        rarely patch("calendar", "/v1/events/{id}", 1, 1)),
    job!("data-quality", [4, 1], Alone, Daily, 6 a day, "warehouse.query",
        steps post("warehouse", "/v1/queries", 3, 6) get("warehouse", "/v1/queries/{id}/result", 3, 6);
        rarely post("warehouse", "/v1/tables/{id}/comments", 1, 1)),
    job!(NEVER_EXPIRES, [1, 0], Alone, Nightly(1), 2 a day, "orders.read ledger.write",
        steps get("orders", "/v1/orders", 1, 1) get("orders", "/v1/orders/{id}", 4, 9) post("ledger", "/v1/ledger/entries", 1, 3);
        rarely),
];
