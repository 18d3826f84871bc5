//! Whether a tenant's alerts may start orders unattended: armed until somebody disarms it or a cap is hit.
//!
//! Disarmed, nothing acts without a person; orders that stand go on standing, and persons can still ask for and approve orders.

use schemas::{OrderRow, id};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arming {
    pub tenant: String,
    pub armed: bool,
    pub by: String,
    pub at: i64,
    pub reason: String,
    /// Number of the change, from 0.
    pub step: i32,
}

impl Arming {
    /// The change after `before`, and its row of table `orders`.
    pub(crate) fn change(
        before: Option<&Arming>,
        tenant: &str,
        armed: bool,
        by: &str,
        reason: &str,
        at: i64,
    ) -> (Arming, OrderRow) {
        let step = before.map_or(0, |before| before.step + 1);
        let own = |text: &str| text.to_owned();
        let row = OrderRow {
            order_id: id::digest(["arming".as_bytes(), tenant.as_bytes()]),
            step,
            time: at,
            event_day: id::day(at),
            tenant: own(tenant),
            target_kind: "tenant".into(),
            target_id: own(tenant),
            state: if armed { "armed" } else { "disarmed" }.into(),
            mode: "act".into(),
            detail: Some(if armed { "alerts may act unattended" } else { "nothing acts unattended" }.into()),
            requested_by: own(by),
            reason: own(reason),
            ..OrderRow::default()
        };
        (Arming { tenant: own(tenant), armed, by: own(by), at, reason: own(reason), step }, row)
    }
}
