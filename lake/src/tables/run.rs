//! The lake's work in a process: it writes the rows of its own sequences, and sees what other processes write.
//!
//! Which sequences are its own the [`Share`] says, and may change at any time. Then what was gathered is dropped, nothing of
//! it was shown or promised, and the sequences of the new division begin where the tables say. That two processes believe for a
//! moment that a sequence is theirs costs work, not rows: each commit is against a snapshot that says what is in the table
//! (rule 1 of the folder's header). What an earlier owner left unwritten has waited already and is written at once.
//!
//! What others write is seen every [`REFRESH_MICROS`]; until then their rows come from the log's tail. With the embedded
//! log there are no others, and nothing is looked at.

use std::time::Duration;

use super::writer::Writer;
use super::{GROUP, LOOK_MILLIS, Lake, LakeError, NEXT, TableState, lock, stored};
use crate::log::{Log, LogError, Positions, Share, Turn};

/// How often it is looked what other processes wrote.
const REFRESH_MICROS: i64 = 5_000_000;
/// So long whoever asks waits for the log to be here as far as the tables are. A writer has `log_behind_secs` for it.
pub(super) const BEHIND_PATIENCE: Duration = Duration::from_secs(5);
const BEHIND_LOOK: Duration = Duration::from_millis(10);

impl Lake {
    /// Keeps writing what the log gets in the sequences of `share`, until `shutdown` resolves; then writes what is left of
    /// them and returns.
    pub async fn run(&self, share: Share, shutdown: impl Future<Output = ()>) -> Result<(), LakeError> {
        *lock(&self.share) = Some(share);
        tokio::pin!(shutdown);
        let mut behind_since = None;
        loop {
            tokio::select! {
                () = &mut shutdown => return self.flush().await,
                () = tokio::time::sleep(Duration::from_millis(LOOK_MILLIS)) => {}
            }
            let mut writer = self.writer.lock().await;
            if !writer.may_try(self.clock.now_micros()) {
                continue;
            }
            let stepped = self.step(&mut writer).await;
            let stepped = self.wait_for_log(stepped, &mut behind_since);
            let Err(error) = stepped else { continue };
            if error.is_final() {
                return Err(error);
            }
            // Of a log that is here late, the first word is enough; how long it lasts is in the status.
            if !matches!(error, LakeError::LogBehind { waited_secs: 1.., .. }) {
                tracing::error!(%error, "writing to the lake failed and is tried again");
            }
            writer.wait_again(self.clock.now_micros());
        }
    }

    /// Says of a log that is behind the tables for how long it has been, and shows it while it lasts.
    fn wait_for_log(&self, stepped: Result<(), LakeError>, since: &mut Option<i64>) -> Result<(), LakeError> {
        match stepped {
            Err(LakeError::LogBehind { name, table, position, end, .. }) => {
                let now = self.clock.now_micros();
                let waited = now.saturating_sub(*since.get_or_insert(now)).unsigned_abs() / 1_000_000;
                let (waited_secs, last) = (waited, waited >= self.config.log_behind_secs);
                let error = LakeError::LogBehind { name, table, position, end, waited_secs, last };
                *lock(&self.error) = Some(error.to_string());
                Err(error)
            }
            stepped => {
                if since.take().is_some() {
                    *lock(&self.error) = stepped.as_ref().err().map(LakeError::to_string);
                }
                stepped
            }
        }
    }

    /// Keeps what queries see up to date with the tables that other processes write, until `shutdown` resolves. For a process
    /// that never writes itself: until it [`run`](Self::run)s, its [`flush`](Self::flush) does nothing, and what would change
    /// the tables is refused.
    pub async fn follow(&self, shutdown: impl Future<Output = ()>) {
        *lock(&self.share) = None;
        tokio::pin!(shutdown);
        loop {
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "what others wrote to the lake cannot be seen and is looked for again");
            }
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(Duration::from_micros(REFRESH_MICROS.unsigned_abs())) => {}
            }
        }
    }

    /// Sees what other processes have written up to now.
    pub async fn refresh(&self) -> Result<(), LakeError> {
        if !self.log.is_shared() {
            return Ok(());
        }
        self.refreshed(&mut *self.writer.lock().await).await
    }

    /// Writes everything that the log holds now of this process's sequences to the tables; durable when it returns.
    pub async fn flush(&self) -> Result<(), LakeError> {
        let end = self.log.ends();
        let mut writer = self.writer.lock().await;
        self.go_over(&mut writer, self.turn(), BEHIND_PATIENCE).await?;
        self.write_up_to(&mut writer, &end).await
    }

    /// The same of all sequences, whosever they are.
    pub(super) async fn flush_all(&self) -> Result<(), LakeError> {
        let end = self.log.ends();
        let mut writer = self.writer.lock().await;
        self.go_over(&mut writer, Share::whole(self.log.sequences()).now(), BEHIND_PATIENCE).await?;
        self.write_up_to(&mut writer, &end).await
    }

    /// The sequences that this process writes.
    pub(super) fn turn(&self) -> Turn {
        lock(&self.share).as_ref().map(Share::now).unwrap_or_default()
    }

    /// Whether this process only reads the tables.
    pub(super) fn only_follows(&self) -> bool {
        lock(&self.share).is_none()
    }

    async fn step(&self, writer: &mut Writer) -> Result<(), LakeError> {
        self.go_over(writer, self.turn(), Duration::ZERO).await?;
        let now = self.clock.now_micros();
        if self.log.is_shared() && now.saturating_sub(writer.looked_at()) >= REFRESH_MICROS {
            self.refreshed(writer).await?;
        }
        writer.fill(&self.log, self.config.flush_bytes_max, now).await?;
        // Appends are refused meanwhile: what is there is written at once.
        let spent = self.log.reserve_is_spent();
        if writer.due(&self.config, now, spent) {
            return self.write(writer).await;
        }
        if spent {
            self.room(None).await;
            writer.wait_again(self.clock.now_micros());
        }
        Ok(())
    }

    /// Goes over to a division, if it is another one.
    async fn go_over(&self, writer: &mut Writer, turn: Turn, patience: Duration) -> Result<(), LakeError> {
        if writer.turn() == Some(&turn) {
            return Ok(());
        }
        writer.leave();
        self.refreshed(writer).await?;
        self.begin(writer, turn, patience).await
    }

    /// Begins with the sequences of a division where the tables say.
    pub(super) async fn begin(&self, writer: &mut Writer, turn: Turn, patience: Duration) -> Result<(), LakeError> {
        let sequences: Vec<usize> = turn.sequences().collect();
        self.caught_up(writer.tables(), writer.next(), &sequences, patience).await?;
        let mut begin = Positions::default();
        for sequence in sequences {
            begin.pass(sequence, self::begin(&self.log, writer.next().get(sequence), sequence)?);
        }
        writer.begin(turn, &begin, self.log.is_shared());
        self.publish(writer);
        Ok(())
    }

    /// Looks how far others say that they are, and then at the tables, which hold all that.
    async fn refreshed(&self, writer: &mut Writer) -> Result<(), LakeError> {
        let looked = async {
            let known = stored(&self.stored_next, NEXT).await?;
            writer.refresh(self.clock.now_micros()).await?;
            Ok(known)
        };
        let looked = looked.await;
        *lock(&self.unseen) = looked.as_ref().err().map(LakeError::to_string);
        writer.learn(&looked?, self.log.sequences());
        self.publish(writer);
        if self.log.is_shared() && self.log.has_group(GROUP) {
            self.log.passed(GROUP, writer.next());
        }
        Ok(())
    }

    /// Resolves when these sequences of the log are here as far as the tables are.
    pub(super) async fn caught_up(
        &self,
        tables: &[TableState],
        next: &Positions,
        sequences: &[usize],
        patience: Duration,
    ) -> Result<(), LakeError> {
        let behind = || {
            let mut sequences = sequences.iter();
            sequences.find_map(|sequence| ahead(&self.log, tables, next.get(*sequence), *sequence, patience.as_secs()))
        };
        let waiting = async {
            while self.log.is_shared() && behind().is_some() {
                tokio::time::sleep(BEHIND_LOOK).await;
            }
        };
        let _ = tokio::time::timeout(patience, waiting).await;
        behind().map_or(Ok(()), Err)
    }

    async fn write_up_to(&self, writer: &mut Writer, end: &Positions) -> Result<(), LakeError> {
        while !writer.reaches(end) {
            writer.fill(&self.log, self.config.flush_bytes_max, self.clock.now_micros()).await?;
            self.write(writer).await?;
        }
        Ok(())
    }

    async fn write(&self, writer: &mut Writer) -> Result<(), LakeError> {
        let written = self.write_and_publish(writer).await;
        self.room(written.as_ref().err()).await;
        *lock(&self.error) = written.as_ref().err().map(LakeError::to_string);
        written
    }

    /// Uses the reserve where the tables find no room, and takes it back once they were written.
    async fn room(&self, error: Option<&LakeError>) {
        let log = self.log.clone();
        let change = match error {
            Some(error) if error.is_full() => tokio::task::spawn_blocking(move || log.spend_reserve()),
            None if log.reserve_is_spent() => tokio::task::spawn_blocking(move || log.restore_reserve()),
            _ => return,
        };
        // It cannot fail but by a panic, and then the next write tries again.
        let _ = change.await;
    }

    async fn write_and_publish(&self, writer: &mut Writer) -> Result<(), LakeError> {
        writer.write(&self.log, self.config.flush_bytes_max, self.clock.now_micros()).await?;
        // Before the log may let the frames go: a snapshot that finds them gone must find this.
        self.publish(writer);
        let mut next = writer.next().clone();
        if self.log.is_shared() {
            next.pass_all(&stored(&self.stored_next, NEXT).await?);
        }
        let next = serde_json::to_string(&next).expect("numbers are JSON");
        self.stored_next.write(next).await.map_err(LakeError::Next)?;
        self.log.passed(GROUP, writer.next());
        Ok(())
    }
}

impl LakeError {
    /// Whether to try again is no use: the process must end, and be told why.
    fn is_final(&self) -> bool {
        use LakeError::{Log as Failed, LogBehind, Lost};
        matches!(
            self,
            Failed(LogError::Closed | LogError::Fatal(_) | LogError::Gone { .. })
                | Lost { .. }
                | LogBehind { last: true, .. }
        )
    }
}

/// What the tables, or the stored `next`, hold of a sequence that the log does not.
fn ahead(log: &Log, tables: &[TableState], next: u64, sequence: usize, waited_secs: u64) -> Option<LakeError> {
    let end = log.end(sequence);
    let held = tables.iter().map(|table| (table.table.name, table.position(sequence)));
    let held = held.chain([(NEXT, next as i64 - 1)]).find(|(_, position)| *position >= end as i64);
    held.map(|(table, position)| {
        // Nobody else writes to an embedded log: there is nothing to wait for.
        let (name, last) = (log.name(sequence), !log.is_shared());
        let waited_secs = if last { 0 } else { waited_secs };
        LakeError::LogBehind { name, table, position, end, waited_secs, last }
    })
}

/// Where a sequence begins for its writer: at `next`, or where the log begins.
fn begin(log: &Log, next: u64, sequence: usize) -> Result<u64, LakeError> {
    let first = log.first(sequence);
    // The embedded log releases only what is in the tables.
    if next > 0 && next < first && log.is_shared() {
        return Err(LakeError::Lost { name: log.name(sequence), next, first });
    }
    if next == 0 && first > 0 && log.is_shared() {
        // A new lake of an old topic, or one that was never written: nobody can tell.
        tracing::warn!(
            log = log.name(sequence),
            first,
            "the tables begin with this offset: Kafka has deleted what came before"
        );
    }
    Ok(next.max(first))
}
