//! What is wrong with a mapping file, and where.

pub use schemas::problem::Problem as MappingError;
pub(crate) use schemas::problem::nearest;
