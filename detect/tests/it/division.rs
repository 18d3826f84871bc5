//! Engines that divide the shards of one log are together one engine, whoever has which, and wherever they start again.

use detect::{Config, Engine, RestoreError, Shards};
use proptest::prelude::*;
use schemas::{AlertRow, EventRow, event};

use crate::properties::{config, stream};
use crate::support::*;

const OWNERS: usize = 3;

/// One or several engines, each with the sequences that are its own.
struct Division {
    sequences: usize,
    engines: Vec<(Engine, Vec<usize>)>,
    rows: Vec<EventRow>,
    alerts: Vec<AlertRow>,
}

fn shards(sequences: usize, mine: &[usize]) -> Shards {
    mine.iter().fold(Shards::default(), |all, one| all.or(Shards::of_sequence(*one, sequences)))
}

impl Division {
    fn new(sequences: usize, owners: &[usize]) -> Division {
        let mut division = Division { sequences, engines: Vec::new(), rows: Vec::new(), alerts: Vec::new() };
        division.engines = division.divided(owners, |_| Engine::new(&config()));
        division
    }

    /// `owners` says of each sequence whose it is.
    fn divided(&self, owners: &[usize], engine: impl Fn(&[usize]) -> Engine) -> Vec<(Engine, Vec<usize>)> {
        let of = |owner| (0..self.sequences).filter(|sequence| owners[*sequence] == owner).collect::<Vec<_>>();
        let all = (0..OWNERS).map(of).filter(|mine| !mine.is_empty());
        all.map(|mine| (engine(&mine), mine)).collect()
    }

    fn judge(&mut self) {
        let sequences = self.sequences;
        for (engine, mine) in &mut self.engines {
            let rows = self.rows.iter().filter(|row| mine.contains(&(row.log_partition as usize % sequences)));
            let rows: Vec<&EventRow> = rows.collect();
            if !rows.is_empty() {
                engine.observe(&event::batch(rows), &mut self.alerts).expect("rows of events");
            }
        }
        self.rows.clear();
    }

    /// A tick of the sequences for which `takes_part`.
    fn tick(&mut self, time: i64, takes_part: impl Fn(usize) -> bool) {
        let taking = |mine: &[usize], sequences| {
            shards(sequences, &mine.iter().copied().filter(|one| takes_part(*one)).collect::<Vec<_>>())
        };
        let sequences = self.sequences;
        let handed: Vec<Vec<u8>> =
            self.engines.iter_mut().map(|(engine, mine)| engine.hand_over(taking(mine, sequences), time)).collect();
        for (number, (engine, mine)) in self.engines.iter_mut().enumerate() {
            let others = handed.iter().enumerate().filter(|(other, _)| *other != number);
            let others: Vec<Vec<u8>> = others.map(|(_, bytes)| bytes.clone()).collect();
            engine.tick_with(taking(mine, sequences), time, &others).expect("they fit together");
        }
    }

    fn restored(&self, mine: &[usize]) -> Engine {
        let part = |sequence: usize| {
            let (engine, _) = self.engines.iter().find(|(_, mine)| mine.contains(&sequence)).expect("somebody has it");
            let bytes = engine.snapshot_of(Shards::of_sequence(sequence, self.sequences), sequence == 0);
            Engine::restore(&config(), &bytes).expect("its own snapshot")
        };
        let mut whole = part(0);
        mine.iter().for_each(|one| whole.take_over(Shards::of_sequence(*one, self.sequences), part(*one)));
        whole
    }

    fn redivide(&mut self, owners: &[usize]) {
        self.engines = self.divided(owners, |mine| self.restored(mine));
    }

    /// Everything there is to know: alerts in the order of their ids, and the state.
    fn end(mut self) -> (Vec<AlertRow>, Vec<u8>) {
        self.judge();
        self.alerts.sort_by(|a, b| a.alert_id.cmp(&b.alert_id));
        let all: Vec<usize> = (0..self.sequences).collect();
        let whole = self.restored(&all).snapshot();
        (self.alerts, whole)
    }
}

fn run(steps: &[Step], sequences: usize, seed: u64, divided: bool) -> (Vec<AlertRow>, Vec<u8>) {
    let (mut dice, mut parts) = (Dice(seed), Dice(seed ^ 1));
    let mut owners =
        |divided: bool| (0..sequences).map(|_| if divided { dice.roll(OWNERS as u64) as usize } else { 0 }).collect();
    let first: Vec<usize> = owners(divided);
    let mut division = Division::new(sequences, &first);
    for step in steps {
        match step {
            Step::Row(row) => {
                division.rows.push((**row).clone());
                continue;
            }
            Step::Control(control) => {
                division.judge();
                let heard = division.engines.iter_mut().map(|(engine, _)| engine.control(control)).collect::<Vec<_>>();
                assert!(heard.contains(&true), "{control}");
            }
            Step::Tick(time) => {
                division.judge();
                // Now and then a sequence lacks a tick; the first never, so that there is one.
                let absent: Vec<bool> = (0..sequences).map(|one| one > 0 && parts.roll(10) == 0).collect();
                division.tick(*time, |one| !absent[one]);
                if parts.roll(40) == 0 {
                    let next: Vec<usize> = owners(divided);
                    division.redivide(&next);
                }
            }
        }
    }
    division.end()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn engines_that_divide_the_shards_are_one(sequences in 2usize..9, seed: u64) {
        let steps = stream();
        let (alerts, state) = run(&steps, sequences, seed, false);
        prop_assert!(!alerts.is_empty());
        let (found, divided) = run(&steps, sequences, seed, true);
        prop_assert_eq!(found, alerts);
        prop_assert!(divided == state, "the states differ");
    }
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let mut division = Division::new(2, &[0, 1]);
    division.rows.extend(stream().into_iter().filter_map(|step| match step {
        Step::Row(row) => Some(*row),
        Step::Tick(_) | Step::Control(_) => None,
    }));
    division.judge();
    let (first, second) = (shards(2, &[0]), shards(2, &[1]));
    let time = START + 40 * DAY;
    let handed = division.engines[1].0.hand_over(second, time);
    assert!(handed.len() > 1_000);
    let (engine, _) = &mut division.engines[0];
    let before = engine.snapshot();
    for end in (0..handed.len()).step_by(handed.len() / 50) {
        assert!(engine.tick_with(first, time, &[handed[..end].to_vec()]).is_err(), "cut at {end}");
    }
    assert!(
        engine.tick_with(second, time, std::slice::from_ref(&handed)).is_err(),
        "its own shards from somebody else"
    );
    let mut other = Engine::new(&Config { hash_key: [9, 9], ..config() });
    assert_eq!(other.tick_with(first, time, std::slice::from_ref(&handed)), Err(RestoreError::OtherKey));
    let newer = [vec![2], handed[1..].to_vec()].concat();
    assert_eq!(engine.tick_with(first, time, &[newer]), Err(RestoreError::Version(2)));
    assert!(engine.snapshot() == before);
    engine.tick_with(first, time, &[handed]).expect("it fits");
    assert!(engine.snapshot() != before);
}
