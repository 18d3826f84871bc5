//! Columns without a value: most of a wide row. They share their bytes, whatever batch they are in.
//!
//! Whoever counts a batch's memory counts what its buffers hold, shared or not; so there is a buffer for each size, and none
//! of more than a few rows is more than twice as long as it need be.

use std::sync::LazyLock;

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::datatypes::DataType;

use crate::table::Kind;

const ROWS_LEAST: usize = 8;
/// Longer columns have bytes of their own.
const ROWS_MOST: usize = 16_384;

/// A column of `rows` rows without a value.
pub fn nulls(of: &DataType, rows: usize) -> ArrayRef {
    let rows_shared = rows.next_power_of_two().max(ROWS_LEAST);
    match SHARED.iter().find(|array| array.len() == rows_shared && array.data_type() == of) {
        Some(array) => array.slice(0, rows),
        None => new_null_array(of, rows),
    }
}

/// One for each size and kind of column: a size is twice the one before.
static SHARED: LazyLock<Vec<ArrayRef>> = LazyLock::new(|| {
    let sizes = std::iter::successors(Some(ROWS_LEAST), |rows| Some(rows * 2)).take_while(|rows| *rows <= ROWS_MOST);
    let of_size = |rows| Kind::ALL.map(|kind| new_null_array(&kind.data_type(), rows));
    sizes.flat_map(of_size).collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_without_values_is_what_arrow_makes_and_counts_for_twice_that_at_most() {
        for kind in Kind::ALL {
            for rows in [0, 1, 7, 8, 9, 64, 65, 1_000, ROWS_MOST, ROWS_MOST + 1] {
                let of = kind.data_type();
                let (made, own) = (nulls(&of, rows), new_null_array(&of, rows));
                assert_eq!((made.null_count(), &made), (rows, &own), "{kind:?}");
                let least = new_null_array(&of, ROWS_LEAST).get_array_memory_size();
                let most = own.get_array_memory_size().max(least) * 2;
                assert!(made.get_array_memory_size() <= most, "{kind:?} of {rows}");
            }
        }
    }

    #[test]
    fn columns_share_their_bytes() {
        let bytes = |rows| nulls(&DataType::Utf8, rows).to_data().buffers()[0].clone();
        assert!(bytes(1_000).ptr_eq(&bytes(1_000)));
        assert_eq!(bytes(1_000).as_ptr(), bytes(600).as_ptr());
    }
}
