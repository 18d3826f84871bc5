//! Asking for memory before it is needed.
//!
//! Agents lie far apart, and an ordinary call reads some thirty places of its agent's memory that nobody read for minutes. So work is
//! done in groups, and while one is done, the memory of those that follow is on its way: in steps, because what one step
//! brings tells the next where to look. To ask is no more than a hint: it waits for nothing and changes nothing.

/// So many are asked for together: more would push each other out of the nearest cache.
const GROUP: usize = 32;
const LINE_BYTES: usize = 64;

/// Visits all items `STEPS` times, in order each time. The last visit of an item does the work; the ones before ask for
/// what it and the next visit will read, each while the work of a group further ahead is done.
#[inline]
pub(crate) fn in_steps<const STEPS: usize, T: Copy>(items: &[T], mut visit: impl FnMut(usize, T)) {
    for newest in 0..items.len().div_ceil(GROUP) + STEPS - 1 {
        for step in 0..STEPS {
            let group = newest.checked_sub(step).and_then(|number| items.chunks(GROUP).nth(number));
            group.into_iter().flatten().for_each(|item| visit(step, *item));
        }
    }
}

/// Asks for all of `value`, but not for what it points to.
#[inline]
pub(crate) fn ask<T: ?Sized>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<u8>();
    let before = start.addr() % LINE_BYTES;
    for at in (0..before + size_of_val(value)).step_by(LINE_BYTES) {
        branches::prefetch_read_data::<u8, 0>(start.wrapping_sub(before).wrapping_add(at));
    }
}

/// Asks for the place where the next item of a list will be put.
#[inline]
pub(crate) fn ask_end<T>(list: &[T]) {
    branches::prefetch_read_data::<T, 0>(list.as_ptr_range().end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_comes_in_every_step_and_in_order() {
        for len in [0, 1, GROUP - 1, GROUP, GROUP + 1, 5 * GROUP + 3] {
            let items: Vec<usize> = (0..len).collect();
            let mut seen = [const { Vec::new() }; 3];
            in_steps::<3, _>(&items, |step, item| {
                assert!(step == 0 || seen[step - 1].len() > item, "{item} was not asked for before step {step}");
                seen[step].push(item);
            });
            assert_eq!(seen, [const { Vec::new() }; 3].map(|_: Vec<usize>| items.clone()));
        }
    }

    #[test]
    fn anything_may_be_asked_for() {
        ask(&[0u64; 100]);
        ask::<[u8]>(&[]);
        ask_end(&Vec::<u64>::new());
    }
}
