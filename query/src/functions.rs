//! SQL functions over a delegation chain: `chain_contains(delegation, id)` and `chain_root(delegation)`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, ListArray, StringArray, StructArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

pub(crate) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    let signature = |arguments| Signature::any(arguments, Volatility::Immutable);
    registry.register_udf(Arc::new(ScalarUDF::from(Chain { which: Which::Contains, signature: signature(2) })))?;
    registry.register_udf(Arc::new(ScalarUDF::from(Chain { which: Which::Root, signature: signature(1) })))?;
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Which {
    /// Whether any principal of the chain has the id.
    Contains,
    /// The id of the principal at whose wish the chain began.
    Root,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Chain {
    which: Which,
    signature: Signature,
}

impl ScalarUDFImpl for Chain {
    fn name(&self) -> &str {
        match self.which {
            Which::Contains => "chain_contains",
            Which::Root => "chain_root",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let hops = matches!(&arguments[0], DataType::List(item) if matches!(item.data_type(), DataType::Struct(_)));
        if !hops {
            let message = format!("{} takes a delegation, not {}", self.name(), arguments[0]);
            return Err(DataFusionError::Plan(message));
        }
        match self.which {
            Which::Contains => Ok(DataType::Boolean),
            Which::Root => Ok(DataType::Utf8),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let Some(chains) = arrays[0].as_any().downcast_ref::<ListArray>() else {
            return exec_err!("{} takes a delegation", self.name());
        };
        let ids = ids(chains)?;
        let result: ArrayRef = match self.which {
            Which::Contains => {
                let wanted = cast(&arrays[1], &DataType::Utf8)?;
                Arc::new(contains(chains, &ids, texts(&wanted)?))
            }
            Which::Root => Arc::new(root(chains, &ids)),
        };
        Ok(ColumnarValue::Array(result))
    }
}

/// The `id` of every hop of every chain.
fn ids(chains: &ListArray) -> Result<StringArray> {
    let hops = chains.values().as_any().downcast_ref::<StructArray>();
    let Some(ids) = hops.and_then(|hops| hops.column_by_name("id")) else {
        return exec_err!("a delegation's hops have an id");
    };
    Ok(texts(&cast(ids, &DataType::Utf8)?)?.clone())
}

fn texts(array: &ArrayRef) -> Result<&StringArray> {
    let texts = array.as_any().downcast_ref::<StringArray>();
    texts.ok_or_else(|| DataFusionError::Internal("cast to text made no text".into()))
}

fn hops(chains: &ListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = chains.value_offsets();
    offsets[row] as usize..offsets[row + 1] as usize
}

fn contains(chains: &ListArray, ids: &StringArray, wanted: &StringArray) -> BooleanArray {
    let found = |row: usize| {
        let known = chains.is_valid(row) && wanted.is_valid(row);
        known.then(|| hops(chains, row).any(|hop| ids.is_valid(hop) && ids.value(hop) == wanted.value(row)))
    };
    (0..chains.len()).map(found).collect()
}

fn root(chains: &ListArray, ids: &StringArray) -> StringArray {
    let first = |row: usize| {
        let hop = hops(chains, row).next().filter(|&hop| chains.is_valid(row) && ids.is_valid(hop))?;
        Some(ids.value(hop))
    };
    (0..chains.len()).map(first).collect()
}
