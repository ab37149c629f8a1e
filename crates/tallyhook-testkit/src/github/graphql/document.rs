//! A query with its variables: the fields that it selects of each object, and its cost.

use apollo_compiler::Node;
use apollo_compiler::ast::{
    Argument, Definition, DirectiveList, Document, Field, FragmentDefinition, Selection,
};
use apollo_compiler::ast::{OperationType, Value as Written};
use serde_json::{Map, Value};

/// A parsed query with the values of its variables.
pub(super) struct Query {
    document: Document,
    variables: Map<String, Value>,
}

/// A selected field under its name in the answer, with its own selections.
pub(super) struct Wanted<'q> {
    pub(super) key: &'q str,
    pub(super) field: &'q Field,
    pub(super) inner: Vec<&'q [Selection]>,
}

/// The size of a query, which GitHub computes before it runs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weight {
    /// The number of requests: one for each list of each object that has it.
    requests: u64,
    pub(super) nodes: u64,
    pub(super) pull_requests: u64,
}

impl Weight {
    /// Returns the cost in points of the hourly allowance.
    pub(super) fn cost(self) -> u64 {
        ((self.requests + 50) / 100).max(1)
    }
}

impl Query {
    /// # Errors
    /// The error in the text of the query.
    pub(super) fn parse(text: &str, mut variables: Map<String, Value>) -> Result<Self, String> {
        let document =
            Document::parse(text, "query.graphql").map_err(|error| error.errors.to_string())?;
        let operations = document
            .definitions
            .iter()
            .filter_map(Definition::as_operation_definition);
        let queries =
            operations.filter(|operation| operation.operation_type == OperationType::Query);
        let [query] = queries.collect::<Vec<_>>()[..] else {
            return Err("one query is expected".to_owned());
        };
        for variable in &query.variables {
            if let (false, Some(value)) = (
                variables.contains_key(variable.name.as_str()),
                &variable.default_value,
            ) {
                variables.insert(variable.name.to_string(), literal(value, &Map::new()));
            } else if variable.ty.is_non_null()
                && variables
                    .get(variable.name.as_str())
                    .is_none_or(Value::is_null)
            {
                return Err(format!(
                    "Variable ${} of type {} was provided invalid value",
                    variable.name, variable.ty
                ));
            }
        }
        Ok(Self {
            document,
            variables,
        })
    }

    pub(super) fn selections(&self) -> &[Selection] {
        let mut operations = self
            .document
            .definitions
            .iter()
            .filter_map(Definition::as_operation_definition);
        &operations.next().unwrap().selection_set
    }

    fn fragment(&self, name: &str) -> Option<&Node<FragmentDefinition>> {
        let mut fragments = self
            .document
            .definitions
            .iter()
            .filter_map(Definition::as_fragment_definition);
        fragments.find(|fragment| fragment.name == name)
    }

    /// Returns the fields selected of an object of type `kind`, or of any type with `None`: each
    /// name of the answer once.
    pub(super) fn wanted<'q>(
        &'q self,
        selections: &[&'q [Selection]],
        kind: Option<&str>,
    ) -> Vec<Wanted<'q>> {
        let mut wanted = Vec::new();
        for selections in selections {
            self.collect(selections, kind, &mut wanted);
        }
        wanted
    }

    fn collect<'q>(
        &'q self,
        selections: &'q [Selection],
        kind: Option<&str>,
        wanted: &mut Vec<Wanted<'q>>,
    ) {
        let applies = |condition: &str| kind.is_none_or(|kind| is_a(kind, condition));
        for selection in selections {
            match selection {
                Selection::Field(field) if self.is_included(&field.directives) => {
                    let key = field.alias.as_ref().unwrap_or(&field.name).as_str();
                    match wanted.iter_mut().find(|wanted| wanted.key == key) {
                        Some(known) => known.inner.push(&field.selection_set),
                        None => wanted.push(Wanted {
                            key,
                            field,
                            inner: vec![&field.selection_set],
                        }),
                    }
                }
                Selection::FragmentSpread(spread) if self.is_included(&spread.directives) => {
                    let fragment = self.fragment(&spread.fragment_name);
                    if let Some(fragment) =
                        fragment.filter(|fragment| applies(fragment.type_condition.as_str()))
                    {
                        self.collect(&fragment.selection_set, kind, wanted);
                    }
                }
                Selection::InlineFragment(inline)
                    if self.is_included(&inline.directives)
                        && inline.type_condition.as_deref().is_none_or(applies) =>
                {
                    self.collect(&inline.selection_set, kind, wanted);
                }
                _ => {}
            }
        }
    }

    fn is_included(&self, directives: &DirectiveList) -> bool {
        let says = |name, value| {
            let condition = directives
                .get(name)
                .and_then(|directive| self.argument(&directive.arguments, "if"));
            condition.is_none_or(|condition| condition == value)
        };
        says("include", true) && says("skip", false)
    }

    /// Returns the value of an argument, or `None` if it is missing or null.
    pub(super) fn argument(&self, arguments: &[Node<Argument>], name: &str) -> Option<Value> {
        let argument = arguments.iter().find(|argument| argument.name == name)?;
        Some(literal(&argument.value, &self.variables)).filter(|value| !value.is_null())
    }

    /// Returns the requested length of a list: `first` or `last`.
    pub(super) fn count(&self, field: &Field) -> Option<i64> {
        let argument = |name| {
            self.argument(&field.arguments, name)
                .and_then(|count| count.as_i64())
        };
        argument("first").or_else(|| argument("last"))
    }

    pub(super) fn weight(&self) -> Weight {
        let mut weight = Weight::default();
        self.weigh(&[self.selections()], 1, &mut weight);
        weight
    }

    fn weigh(&self, selections: &[&[Selection]], parents: u64, weight: &mut Weight) {
        for Wanted { field, inner, .. } in self.wanted(selections, None) {
            let count = self
                .count(field)
                .and_then(|count| u64::try_from(count).ok());
            let children = parents * count.unwrap_or(1);
            if count.is_some() {
                weight.requests += parents;
                weight.nodes += children;
            }
            match field.name.as_str() {
                "pullRequests" => weight.pull_requests += children,
                "pullRequest" => weight.pull_requests += parents,
                _ => {}
            }
            self.weigh(&inner, children, weight);
        }
    }
}

/// Returns true if a fragment on `condition` applies to objects of type `kind`.
fn is_a(kind: &str, condition: &str) -> bool {
    match condition {
        "Actor" | "RequestedReviewer" => {
            ["User", "Bot", "Mannequin", "Organization", "Team"].contains(&kind)
        }
        "Node" | "PullRequestTimelineItems" => true,
        _ => kind == condition,
    }
}

fn literal(written: &Written, variables: &Map<String, Value>) -> Value {
    match written {
        Written::Null => Value::Null,
        Written::Enum(name) => name.as_str().into(),
        Written::Variable(name) => variables.get(name.as_str()).cloned().unwrap_or_default(),
        Written::String(text) => text.as_str().into(),
        Written::Float(number) => serde_json::from_str(number.as_str()).unwrap(),
        Written::Int(number) => serde_json::from_str(number.as_str()).unwrap(),
        Written::Boolean(is) => (*is).into(),
        Written::List(items) => items.iter().map(|item| literal(item, variables)).collect(),
        Written::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.to_string(), literal(value, variables)));
            Value::Object(fields.collect())
        }
    }
}
