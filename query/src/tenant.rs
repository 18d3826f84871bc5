//! The wall between tenants: a table from which one tenant's rows come out, and into which no expression of a query goes.
//!
//! Files and frames of the log hold rows of several tenants, and the engine computes both sides of an `AND` over whole
//! batches: beside `tenant = X`, a cast that fails would tell in its error what another tenant wrote. So the rows are
//! taken apart first, in a plan of its own that neither filters nor projections nor limits pass, neither when the query is
//! planned nor while it runs. Only comparisons that no value can make fail ([`harmless`]) reach the files, where they and
//! the tenant spare reading what the statistics rule out; the engine applies them again above the wall. What is lost:
//! a `LIMIT` of sorted rows or a join does not narrow the scan while it runs.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ToDFSchema;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::TableType;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use datafusion::prelude::{col, lit};

const TENANT: &str = "tenant";

/// The rows of one tenant from a table of many.
#[derive(Debug)]
pub(crate) struct OneTenant {
    pub(crate) tenant: String,
    pub(crate) all: Arc<dyn TableProvider>,
}

#[async_trait]
impl TableProvider for OneTenant {
    fn schema(&self) -> SchemaRef {
        self.all.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let schema = self.schema();
        let answer = |filter: &&Expr| match harmless(filter, &schema) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(answer).collect())
    }

    /// The limit stays outside: it counts the tenant's rows.
    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema();
        let tenant = schema.index_of(TENANT)?;
        let mut columns = projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect());
        let asked = (0..columns.len()).collect();
        if !columns.contains(&tenant) {
            columns.push(tenant);
        }
        let own = col(TENANT).eq(lit(&self.tenant));
        let mut inner = vec![own.clone()];
        inner.extend(filters.iter().filter(|filter| harmless(filter, &schema)).cloned());
        let all = self.all.scan(session, Some(&columns), &inner, None).await?;
        let own = session.create_physical_expr(own, &all.schema().to_dfschema()?)?;
        let rows = FilterExecBuilder::new(own, all).apply_projection(Some(asked))?.build()?;
        Ok(Arc::new(Wall { rows: Arc::new(rows) }))
    }
}

/// Whether a filter may be computed over rows of other tenants: columns compared with values of the very same type.
/// Everything else may fail at a value, and its error would tell the value.
fn harmless(filter: &Expr, schema: &SchemaRef) -> bool {
    let column = |expr: &Expr| match expr {
        Expr::Column(column) => schema.field_with_name(&column.name).ok().map(|f| f.data_type().clone()),
        _ => None,
    };
    let plain = |left: &Expr, right: &Expr| match (column(left), right) {
        (Some(kind), Expr::Literal(value, _)) => !kind.is_nested() && value.data_type() == kind,
        _ => false,
    };
    match filter {
        Expr::BinaryExpr(pair) if matches!(pair.op, Operator::And | Operator::Or) => {
            harmless(&pair.left, schema) && harmless(&pair.right, schema)
        }
        Expr::BinaryExpr(pair) => {
            use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
            matches!(pair.op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
                && (plain(&pair.left, &pair.right) || plain(&pair.right, &pair.left))
        }
        Expr::InList(list) => list.list.iter().all(|value| plain(&list.expr, value)),
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => column(inner).is_some(),
        _ => false,
    }
}

/// A filter of the tenant's rows that no rule of the optimizer reaches through: all that [`ExecutionPlan`] may pass down
/// is, by its defaults, not passed.
#[derive(Debug)]
struct Wall {
    rows: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for Wall {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wall: ")?;
        self.rows.fmt_as(kind, f)
    }
}

impl ExecutionPlan for Wall {
    fn name(&self) -> &str {
        "Wall"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.rows.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        self.rows.maintains_input_order()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.rows.children()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.rows.apply_expressions(f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Wall { rows: Arc::clone(&self.rows).replace_children(children, options)? }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.rows.execute(partition, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    use datafusion::prelude::cast;
    use datafusion::scalar::ScalarValue;

    #[test]
    fn only_what_cannot_fail_is_harmless() {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let list = DataType::new_list(DataType::Utf8, true);
        let fields = [("name", DataType::Utf8), ("time", time), ("size", DataType::Int64), ("scopes", list)];
        let fields: Vec<_> = fields.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let noon = lit(ScalarValue::TimestampMicrosecond(Some(1), Some("UTC".into())));
        for filter in [
            col("name").eq(lit("x")),
            lit("x").not_eq(col("name")),
            col("time").gt_eq(noon.clone()).and(col("time").lt(noon)),
            col("name").in_list(vec![lit("x"), lit("y")], true).or(col("name").is_null()),
            col("scopes").is_not_null(),
        ] {
            assert!(harmless(&filter, &schema), "{filter}");
        }
        for filter in [
            cast(col("name"), DataType::Int64).eq(lit(1i64)),
            col("name").eq(lit(1i64)),
            col("size").eq(lit(1i64)).and((lit(1i64) / col("size")).eq(lit(1i64))),
            col("size").in_list(vec![lit(1i64), col("size") / col("size")], false),
            cast(col("name"), DataType::Int64).is_null(),
            col("scopes").eq(lit("x")),
            col("name").like(lit("x%")),
            col("name").eq(col("name")),
            col("missing").eq(lit("x")),
        ] {
            assert!(!harmless(&filter, &schema), "{filter}");
        }
    }
}
