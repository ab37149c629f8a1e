//! GitHub's GraphQL API over the world, as far as pull requests go.

mod document;
mod objects;
mod run;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use self::document::Query;
use self::run::{Refused, Run};
use super::access::Allowance;
use super::world::World;

/// The maximum number of nodes; a larger query is refused before it runs.
const MOST_NODES: u64 = 500_000;

/// The faults that apply to one query.
pub(super) struct Conditions<'a> {
    pub(super) is_admin: bool,
    pub(super) sees_private: bool,
    pub(super) allowance: &'a Allowance,
    /// The number of pull requests in one query above which GitHub gives up.
    pub(super) most_pulls: Option<u64>,
    /// The pull requests, by repository id and number, on which GitHub fails.
    pub(super) broken: &'a BTreeSet<(i64, i64)>,
    /// Every n-th pull request of this answer fails.
    pub(super) broken_every: Option<usize>,
}

/// The body of an answer, and its cost.
pub(super) struct GraphqlAnswer {
    pub(super) value: Value,
    pub(super) cost: u64,
}

/// Answers a query. Except for limits, the status is 200 even for errors.
pub(super) fn answer(world: &World, body: &[u8], conditions: &Conditions<'_>) -> GraphqlAnswer {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(text) = asked["query"].as_str() else {
        return failed(
            &json!({"message": "A query attribute must be specified and must be a string."}),
        );
    };
    let variables = asked["variables"].as_object().cloned().unwrap_or_default();
    let query = match Query::parse(text, variables) {
        Ok(query) => query,
        Err(error) => {
            return failed(&json!({"message": error, "locations": [{"line": 1, "column": 1}]}));
        }
    };
    let weight = query.weight();
    if weight.nodes > MOST_NODES {
        let message = format!(
            "This query requests up to {} possible nodes which exceeds the maximum limit of {MOST_NODES}.",
            weight.nodes
        );
        return failed(&json!({"type": "MAX_NODE_LIMIT_EXCEEDED", "message": message}));
    }
    let (cost, allowance) = (weight.cost(), conditions.allowance);
    if conditions
        .most_pulls
        .is_some_and(|most| weight.pull_requests > most)
    {
        return GraphqlAnswer {
            value: too_much(&query),
            cost,
        };
    }
    let rate_limit = json!({
        "__typename": "RateLimit",
        "limit": allowance.limit,
        "cost": cost,
        "remaining": allowance.remaining.saturating_sub(cost),
        "used": allowance.limit - allowance.remaining.saturating_sub(cost),
        "nodeCount": weight.nodes,
        "resetAt": allowance.reset.to_string(),
    });
    let mut run = Run {
        world,
        query: &query,
        conditions,
        rate_limit,
        errors: Vec::new(),
        pulls: 0,
    };
    match run.data() {
        Ok(data) if run.errors.is_empty() => GraphqlAnswer {
            value: json!({"data": data}),
            cost,
        },
        Ok(data) => GraphqlAnswer {
            value: json!({"data": data, "errors": run.errors}),
            cost,
        },
        Err(Refused(error)) => failed(&error),
    }
}

fn failed(error: &Value) -> GraphqlAnswer {
    GraphqlAnswer {
        value: json!({"errors": [error]}),
        cost: 1,
    }
}

/// The answer of GitHub to a query that exceeds its resources, without any data.
fn too_much(query: &Query) -> Value {
    let wanted = query.wanted(&[query.selections()], None);
    let data: Map<String, Value> = wanted
        .iter()
        .map(|wanted| (wanted.key.to_owned(), Value::Null))
        .collect();
    let errors = wanted.iter().map(|wanted| {
        let message = "Resource limits for this query exceeded.";
        json!({"type": "RESOURCE_LIMITS_EXCEEDED", "path": [wanted.key], "message": message})
    });
    json!({"data": data, "errors": errors.collect::<Value>()})
}
