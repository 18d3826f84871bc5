//! The responder: all orders, and everything that acts on them.
//!
//! All state is made again from the control log at start. Alerts become orders in `decide`, persons' wishes in `hand`, calls are
//! made in `calls`, evidence is weighed in `evidence`. Each of these may be repeated and interrupted at any point: an order's id
//! is a digest of its cause, and a switch is called again with the same message id.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use lake::clock::Clock;
use lake::log::{Log, Positions};
use tokio::sync::Notify;

use crate::activity::Activity;
use crate::arming::Arming;
use crate::book::Book;
use crate::calls::Progress;
use crate::config::Config;
use crate::counts::Counts;
use crate::deny::DenyList;
use crate::doors::STREAMS_MAX;
use crate::error::Error;
use crate::gateway::Gateway;
use crate::journal::{CONTROL_GROUP, MAIN_GROUP, Mirror};
use crate::order::Order;
use crate::signer::Signer;
use crate::stream::Stream;
use crate::switches::{self, Switch};

/// A shorter beginning of an order's id names nothing.
const PREFIX_BYTES_MIN: usize = 8;

pub struct Responder {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) control: Arc<Log>,
    pub(crate) main: Arc<Log>,
    pub(crate) switches: HashMap<String, Box<dyn Switch>>,
    /// Held from reading an order to having its next step durable and applied: steps have one order.
    pub(crate) writing: tokio::sync::Mutex<()>,
    pub(crate) book: Mutex<Book>,
    pub(crate) deny: DenyList,
    pub(crate) progress: Mutex<Progress>,
    pub(crate) mirror: tokio::sync::Mutex<Mirror>,
    pub(crate) followed: Mutex<Followed>,
    pub(crate) activity: Mutex<Activity>,
    /// Of each tenant that was ever disarmed: whether its alerts may act.
    pub(crate) arming: Mutex<BTreeMap<String, Arming>>,
    /// The rules of the doors, the operator's before the built-in ones.
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) signer: OnceLock<Arc<Signer>>,
    /// Places for open change streams.
    pub(crate) streams: Arc<tokio::sync::Semaphore>,
    /// The streams that receivers of shared signals made, by tenant and receiver.
    pub(crate) feeds: Mutex<BTreeMap<(String, String), Stream>>,
    /// Held while a drill is under way.
    pub(crate) drilling: tokio::sync::Mutex<()>,
    /// Control log position of the last rewrite of all orders.
    pub(crate) kept_at: AtomicU64,
    /// Told when a call may be due.
    pub(crate) woken: Notify,
    pub(crate) counts: Counts,
}

/// How far the main log was followed.
#[derive(Default)]
pub(crate) struct Followed {
    /// Frames below this need no more handling.
    pub(crate) passed: Positions,
    /// One past the last of them that held alerts or orders.
    pub(crate) news: Positions,
}

impl Responder {
    /// Reads the control log and stands where it left off. `control` must retain for the group [`CONTROL_GROUP`],
    /// `main` for [`MAIN_GROUP`]; webhook secrets must be resolved.
    pub fn open(control: Arc<Log>, main: Arc<Log>, config: Config, clock: Clock) -> Result<Arc<Responder>, Error> {
        let mut problems = config.problems();
        for (name, log, group) in [("control", &control, CONTROL_GROUP), ("main", &main, MAIN_GROUP)] {
            if !log.has_group(group) {
                problems
                    .push(format!("the {name} log is open without the group `{group}`, so it would not retain for it"));
            }
        }
        if !problems.is_empty() {
            return Err(Error::Config(problems));
        }
        let built = switches::build(&config).map_err(|problem| Error::Config(vec![problem]))?;
        let now = clock.now_micros();
        let gateways = config.gateways.iter().cloned().chain(Gateway::built_in()).collect();
        let responder = Responder {
            gateways,
            signer: OnceLock::new(),
            streams: Arc::new(tokio::sync::Semaphore::new(STREAMS_MAX)),
            feeds: Mutex::default(),
            drilling: tokio::sync::Mutex::default(),
            deny: DenyList::protecting(&config.protected),
            book: Mutex::new(Book::new(config.quiet_secs)),
            config,
            clock,
            control,
            main,
            switches: built.into_iter().map(|switch| (switch.name().to_owned(), switch)).collect(),
            writing: tokio::sync::Mutex::default(),
            progress: Mutex::default(),
            mirror: tokio::sync::Mutex::default(),
            followed: Mutex::default(),
            activity: Mutex::new(Activity::new(BTreeMap::new(), now)),
            arming: Mutex::default(),
            kept_at: AtomicU64::new(0),
            woken: Notify::new(),
            counts: Counts::default(),
        };
        responder.rebuild(now)?;
        Ok(Arc::new(responder))
    }

    pub fn deny(&self) -> &DenyList {
        &self.deny
    }

    /// From now on what is handed out is signed.
    pub fn sign_with(&self, signer: Signer) {
        // Told once, at start, before anybody asks.
        let _ = self.signer.set(Arc::new(signer));
    }

    pub(crate) fn signer(&self) -> Option<&Signer> {
        self.signer.get().map(Arc::as_ref)
    }

    pub(crate) fn feeds(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Stream>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn activity(&self) -> std::sync::MutexGuard<'_, Activity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn armings(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arming>> {
        self.arming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The order with this id, of any tenant.
    pub fn order(&self, order_id: &str) -> Option<Order> {
        self.book().get(order_id).cloned()
    }

    /// The order of a tenant with this id, or with an id that begins so if only one does.
    pub fn find(&self, tenant: &str, order_id: &str) -> Result<Order, Error> {
        let book = self.book();
        if let Some(order) = book.get(order_id).filter(|order| order.tenant == tenant) {
            return Ok(order.clone());
        }
        let begins = |order: &&Order| order.tenant == tenant && order.order_id.starts_with(order_id);
        let mut found = book.all().filter(begins).take(if order_id.len() < PREFIX_BYTES_MIN { 0 } else { 2 });
        match (found.next(), found.next()) {
            (Some(order), None) => Ok(order.clone()),
            (Some(_), Some(_)) => Err(Error::Ambiguous(order_id.into())),
            (None, _) => Err(Error::Unknown(order_id.into())),
        }
    }

    /// How many orders are in memory, by state and mode.
    pub fn orders_by_state(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.book().by_state().clone()
    }

    /// The newest orders of a tenant.
    pub fn orders(&self, tenant: &str, limit: usize) -> Vec<Order> {
        let book = self.book();
        let mut orders: Vec<&Order> = book.all().filter(|order| order.tenant == tenant).collect();
        orders.sort_by(|a, b| (b.requested_at, &b.order_id).cmp(&(a.requested_at, &a.order_id)));
        orders.into_iter().take(limit).cloned().collect()
    }

    /// Frames of the main log below this are handled.
    pub fn alerts_passed(&self) -> Positions {
        self.followed().passed.clone()
    }

    pub(crate) fn followed(&self) -> std::sync::MutexGuard<'_, Followed> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}
