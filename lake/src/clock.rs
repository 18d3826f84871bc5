//! The only wall clock. Everything else is handed a time, so that tests and replays hand in theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Tells the time in microseconds since the Unix epoch: the system's, or one that a test sets.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    manual: Option<Arc<AtomicI64>>,
}

impl Clock {
    pub fn system() -> Self {
        Clock::default()
    }

    /// A clock that stands at `micros` until it is [`set`](Self::set).
    pub fn manual(micros: i64) -> Self {
        Clock { manual: Some(Arc::new(AtomicI64::new(micros))) }
    }

    #[expect(clippy::disallowed_methods, reason = "the only wall clock")]
    pub fn now_micros(&self) -> i64 {
        match &self.manual {
            Some(micros) => micros.load(Ordering::SeqCst),
            None => chrono::Utc::now().timestamp_micros(),
        }
    }

    /// Sets a manual clock; a system clock cannot be set.
    pub fn set(&self, micros: i64) {
        let manual = self.manual.as_ref().expect("only a manual clock can be set");
        manual.store(micros, Ordering::SeqCst);
    }
}
