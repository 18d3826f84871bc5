//! The generator, so that nobody mistakes it for what is measured.

use benches::workload::{Source, Spec};
use criterion::Criterion;

use crate::{group, on_core};

const RECORDS: u64 = 10_000;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = group(criterion, "generator", RECORDS);
    for source in Source::ALL {
        on_core(&mut group, source.name(), || Spec { source, events: RECORDS, ..Spec::default() }.written());
    }
    group.finish();
}
