//! A world to stop agents in: two logs on simulated files, a clock that stands, and a responder that can be restarted.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use lake::clock::Clock;
use lake::files::sim::SimFiles;
use lake::log::{Log, LogConfig, Payload};
use respond::config::{Mode, Policy, Severity, Webhook};
use respond::signer::Signer;
use respond::{Asker, Config, Responder};
use schemas::order::Orders;
use schemas::{AlertRow, EventRow, Holder, OrderRow, Principal, Verb};

pub(crate) const START: i64 = 1_800_000_000_000_000;
pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) files: SimFiles,
    pub(crate) config: Config,
    pub(crate) control: Arc<Log>,
    pub(crate) main: Arc<Log>,
    pub(crate) responder: Arc<Responder>,
}

pub(crate) fn log(files: &SimFiles, folder: &str, group: &'static str, clock: &Clock) -> Arc<Log> {
    let config = LogConfig::default();
    let opened = Log::open(Arc::new(files.clone()), PathBuf::from(folder), &config, clock.clone(), &[group]);
    opened.expect("the log opens").0
}

impl World {
    pub(crate) fn new(config: Config) -> World {
        World::on(SimFiles::new(), config)
    }

    pub(crate) fn on(files: SimFiles, config: Config) -> World {
        let clock = Clock::manual(START);
        let (control, main) = (log(&files, "control", "orders", &clock), log(&files, "main", "respond", &clock));
        let opened = Responder::open(control.clone(), main.clone(), config.clone(), clock.clone());
        let responder = opened.expect("the responder opens");
        // One key for all, as an installation keeps its own.
        static KEY: OnceLock<Vec<u8>> = OnceLock::new();
        let key = KEY.get_or_init(|| Signer::generate().expect("a key"));
        responder.sign_with(Signer::from_pkcs8(key).expect("is a key"));
        World { responder, clock, files, config, control, main }
    }

    /// Power goes and comes back: only what was synced is there.
    pub(crate) fn restart(self) -> World {
        self.control.close();
        self.main.close();
        let now = self.clock.now_micros();
        let world = World::on(self.files.after_cut(None), self.config);
        world.clock.set(now);
        world
    }

    pub(crate) fn pass(&self, secs: i64) -> i64 {
        let now = self.clock.now_micros() + secs * SECOND;
        self.clock.set(now);
        now
    }

    /// The steps in the main log's `orders`, as `state` of one order after the other.
    pub(crate) async fn mirrored(&self) -> Vec<OrderRow> {
        self.responder.mirror().await.expect("the main log takes it");
        rows(&self.main)
    }

    pub(crate) async fn states(&self) -> Vec<String> {
        self.mirrored().await.into_iter().map(|row| row.state).collect()
    }

    pub(crate) fn denied(&self, agent: &str) -> bool {
        self.responder.deny().check("acme", &by(agent)).is_some()
    }
}

/// All rows of `orders` in a log.
pub(crate) fn rows(log: &Log) -> Vec<OrderRow> {
    let mut rows = Vec::new();
    let mut next = log.first(0);
    while next < log.end(0) {
        for frame in log.read(0, next, 1 << 20).expect("the log reads") {
            next = frame.offset + 1;
            if let Payload::Orders(batch) = &frame.payload {
                let orders = Orders::new(batch).expect("the frame holds orders");
                rows.extend((0..batch.num_rows()).map(|row| orders.row(row)));
            }
        }
    }
    rows
}

/// A live alert about `agent`, received now.
pub(crate) fn alert(agent: &str, received_at: i64) -> AlertRow {
    AlertRow {
        alert_id: schemas::id::digest([agent.as_bytes(), &received_at.to_le_bytes()]),
        time: received_at,
        received_at,
        event_day: schemas::id::day(received_at),
        tenant: "acme".into(),
        detector: "new_action".into(),
        severity_id: 4,
        live: true,
        rules_digest: "0".repeat(32),
        agent_id: Some(agent.into()),
        user_id: Some("ann".into()),
        credential_id: Some(format!("key-of-{agent}")),
        title: format!("{agent} exports customers for the first time"),
        explanation: "It reads invoices, every day, and never did anything else.".into(),
        event_ids: vec!["e1".into()],
        terms: "[]".into(),
        ..AlertRow::default()
    }
}

pub(crate) fn acting() -> Config {
    let policy = Policy { mode: Mode::Act, severity_min: Severity::High, ..Policy::default() };
    Config { policies: vec![policy], active_agents_share_max: 1.0, ..Config::default() }
}

/// Acting, with the webhook `soc` at `address` that gives up after 200 ms.
pub(crate) fn calling(address: &str) -> Config {
    let mut config = acting();
    config.policies[0].switches = vec!["soc".into()];
    config.private_addresses_allowed = true;
    config.webhooks.push(Webhook {
        name: "soc".into(),
        url: format!("http://{address}/hook"),
        timeout_ms: 200,
        secret: Some(SECRET.parse().expect("is a secret")),
        ..Webhook::default()
    });
    config
}

/// Somebody who only says which agent it is.
pub(crate) fn by(agent: &str) -> Asker {
    Asker { agent: Some(agent.into()), ..Asker::default() }
}

/// A person of `acme` who may ask for orders and approve them.
pub(crate) fn person(name: &str) -> Principal {
    let verbs = vec![Verb::Order, Verb::Approve];
    Principal { name: name.into(), tenant: "acme".into(), holder: Holder::Person, verbs }
}

/// An event of `agent` at `at`, received then, live, with this outcome.
pub(crate) fn event(agent: &str, at: i64, outcome: &str) -> EventRow {
    EventRow {
        event_id: schemas::id::digest([agent.as_bytes(), &at.to_le_bytes(), outcome.as_bytes()]),
        time: at,
        received_at: at,
        tenant: "acme".into(),
        source: "kong".into(),
        agent_id: Some(agent.into()),
        action: "GET /v1/customers".into(),
        outcome: outcome.into(),
        http_status: Some(if outcome == "denied" { 403 } else { 200 }),
        ..EventRow::default()
    }
}

impl World {
    /// Has the responder see these events.
    pub(crate) async fn see(&self, events: impl IntoIterator<Item = EventRow>) {
        let mut builder = schemas::RowBuilder::new(&schemas::event::TABLE);
        for event in events {
            event.append_to(&mut builder);
        }
        self.responder.see_events(&builder.finish()).await.expect("these are events");
    }

    pub(crate) fn state(&self, order_id: &str) -> respond::order::State {
        self.responder.order(order_id).expect("it is there").state
    }

    /// Has an alert about `agent` act, and returns the order's id.
    pub(crate) async fn acted(&self, agent: &str) -> String {
        let handled = self.responder.handle_alert(&alert(agent, self.clock.now_micros())).await.expect("handled");
        let respond::Handled::Acting(order_id) = handled else { panic!("{handled:?}") };
        order_id
    }
}
