//! The execution of a query over the world.

use apollo_compiler::ast::{Field, Selection};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tallyhook_core::github::types::Timestamp;

use super::super::world::{PullRequest, Repository, World};
use super::document::{Query, Wanted};
use super::{Conditions, objects};

/// The error of a query that cannot be run.
pub(super) struct Refused(pub(super) Value);

/// An object whose fields are selected.
enum Asked<'v> {
    Query,
    Repository(&'v Repository),
    Pull(&'v PullRequest),
    Known(&'v Value),
}

/// An element of a list with its sort key.
type Item<'v> = (String, Asked<'v>);

pub(super) struct Run<'a> {
    pub(super) world: &'a World,
    pub(super) query: &'a Query,
    pub(super) conditions: &'a Conditions<'a>,
    /// The value of `rateLimit`.
    pub(super) rate_limit: Value,
    /// The errors beside the data.
    pub(super) errors: Vec<Value>,
    pub(super) pulls: usize,
}

impl Run<'_> {
    /// Returns the `data` of the answer.
    pub(super) fn data(&mut self) -> Result<Value, Refused> {
        self.object(&Asked::Query, &[self.query.selections()], &[])
    }

    fn object(
        &mut self,
        asked: &Asked<'_>,
        selections: &[&[Selection]],
        path: &[Value],
    ) -> Result<Value, Refused> {
        let made;
        let asked = match asked {
            Asked::Pull(pull) => {
                made = objects::pull_request(pull);
                &Asked::Known(&made)
            }
            other => other,
        };
        let kind = match asked {
            Asked::Query => "Query",
            Asked::Repository(_) => "Repository",
            Asked::Pull(_) => "PullRequest",
            Asked::Known(value) => value["__typename"].as_str().unwrap(),
        };
        let mut answer = Map::new();
        for Wanted { key, field, inner } in self.query.wanted(selections, Some(kind)) {
            let path = [path, &[key.into()]].concat();
            let value = match (asked, field.name.as_str()) {
                (_, "__typename") => kind.into(),
                (Asked::Query, "repository") => self.repository(field, &inner, &path)?,
                (Asked::Query, "rateLimit") => {
                    let limit = self.rate_limit.clone();
                    self.object(&Asked::Known(&limit), &inner, &path)?
                }
                (Asked::Repository(repository), "pullRequest") => {
                    self.pull(repository, field, &inner, &path)?
                }
                (Asked::Repository(repository), "pullRequests") => {
                    let (items, descending) = self.pulls_of(repository, field);
                    self.connection(&items, descending, field, &inner, &path)?
                }
                (Asked::Repository(repository), name) => {
                    let known = objects::repository(repository, self.conditions.is_admin);
                    self.known(known.get(name), kind, field, &inner, &path)?
                }
                (Asked::Known(value), name) => {
                    self.known(value.get(name), kind, field, &inner, &path)?
                }
                (Asked::Query | Asked::Pull(_), _) => return Err(undefined(kind, field, &path)),
            };
            answer.insert(key.to_owned(), value);
        }
        Ok(Value::Object(answer))
    }

    fn known(
        &mut self,
        value: Option<&Value>,
        kind: &str,
        field: &Field,
        inner: &[&[Selection]],
        path: &[Value],
    ) -> Result<Value, Refused> {
        match value {
            None => Err(undefined(kind, field, path)),
            Some(Value::Object(object)) => match object.get("$items") {
                Some(items) => {
                    let items = self.chosen(items.as_array().unwrap(), field);
                    self.connection(&items, false, field, inner, path)
                }
                None => self.object(&Asked::Known(value.unwrap()), inner, path),
            },
            Some(scalar) => Ok(scalar.clone()),
        }
    }

    fn missing(&mut self, path: &[Value], message: &str) -> Value {
        self.errors.push(json!({
            "type": "NOT_FOUND",
            "path": path,
            "locations": [{"line": 1, "column": 1}],
            "message": message,
        }));
        Value::Null
    }

    fn repository(
        &mut self,
        field: &Field,
        inner: &[&[Selection]],
        path: &[Value],
    ) -> Result<Value, Refused> {
        let argument = |name| {
            self.query
                .argument(&field.arguments, name)
                .unwrap_or_default()
        };
        let name = format!(
            "{}/{}",
            argument("owner").as_str().unwrap_or(""),
            argument("name").as_str().unwrap_or("")
        );
        let found = self
            .world
            .find(&name)
            .or_else(|| self.world.formerly(&name));
        match found.filter(|found| self.conditions.sees_private || !found.place.private) {
            Some(found) => self.object(&Asked::Repository(found), inner, path),
            None => Ok(self.missing(
                path,
                &format!("Could not resolve to a Repository with the name '{name}'."),
            )),
        }
    }

    fn pull(
        &mut self,
        of: &Repository,
        field: &Field,
        inner: &[&[Selection]],
        path: &[Value],
    ) -> Result<Value, Refused> {
        let number = self
            .query
            .argument(&field.arguments, "number")
            .and_then(|number| number.as_i64());
        let number = number.unwrap_or_default();
        match of.pulls.get(&number) {
            Some(pull) => self.pull_unless_broken(pull, inner, path),
            None => {
                let message =
                    format!("Could not resolve to a PullRequest with the number of {number}.");
                Ok(self.missing(path, &message))
            }
        }
    }

    fn pull_unless_broken(
        &mut self,
        pull: &PullRequest,
        inner: &[&[Selection]],
        path: &[Value],
    ) -> Result<Value, Refused> {
        self.pulls += 1;
        let is_nth = self
            .conditions
            .broken_every
            .is_some_and(|every| self.pulls.is_multiple_of(every));
        // Even a failing pull request has its number in the response.
        let is_more = inner
            .iter()
            .copied()
            .flatten()
            .any(|field| !matches!(field, Selection::Field(field) if field.name == "number"));
        if is_more
            && (is_nth
                || self
                    .conditions
                    .broken
                    .contains(&(pull.pr.world.repo_id, pull.pr.number)))
        {
            let message = "Something went wrong while executing your query on this pull request.";
            self.errors
                .push(json!({"type": "INTERNAL", "path": path, "message": message}));
            return Ok(Value::Null);
        }
        self.object(&Asked::Pull(pull), inner, path)
    }

    /// Returns the pull requests of a repository in the requested order, and true if that is
    /// descending.
    fn pulls_of<'v>(&self, repository: &'v Repository, field: &Field) -> (Vec<Item<'v>>, bool) {
        let order = self
            .query
            .argument(&field.arguments, "orderBy")
            .unwrap_or_default();
        let states = self.query.argument(&field.arguments, "states");
        let is_wanted = |pull: &&PullRequest| {
            let state = match (&pull.pr.merged_at, pull.is_open()) {
                (Some(_), _) => "MERGED",
                (None, true) => "OPEN",
                (None, false) => "CLOSED",
            };
            let is_listed = |states: &Value| {
                states == state
                    || states
                        .as_array()
                        .is_some_and(|all| all.contains(&state.into()))
            };
            states.as_ref().is_none_or(is_listed)
        };
        let key = |pull: &PullRequest| {
            let at = match order["field"].as_str() {
                Some("UPDATED_AT") => pull.pr.updated_at.as_str(),
                _ => pull.pr.created_at.as_str(),
            };
            format!("{at}|{:010}", pull.pr.number)
        };
        let descending = order["direction"] == "DESC";
        let mut items: Vec<_> = repository
            .pulls
            .values()
            .filter(is_wanted)
            .map(|pull| (key(pull), Asked::Pull(pull)))
            .collect();
        items.sort_by(|(one, _), (two, _)| {
            if descending {
                two.cmp(one)
            } else {
                one.cmp(two)
            }
        });
        (items, descending)
    }

    /// Returns the elements of a list that match the arguments.
    fn chosen<'v>(&self, items: &'v [Value], field: &Field) -> Vec<Item<'v>> {
        let types = self.query.argument(&field.arguments, "itemTypes");
        let since = self.query.argument(&field.arguments, "since");
        let since = since.and_then(|since| Timestamp::parse(since.as_str()?));
        let is_chosen = |item: &Value| {
            let kind = item["__typename"].as_str().map(screaming);
            let is_late =
                |since| item["createdAt"].as_str().and_then(Timestamp::parse) >= Some(since);
            types.as_ref().is_none_or(|types| {
                types
                    .as_array()
                    .is_some_and(|all| all.iter().any(|one| one.as_str() == kind.as_deref()))
            }) && since.is_none_or(is_late)
        };
        let keyed = items.iter().filter(|item| is_chosen(item)).enumerate();
        keyed
            .map(|(place, item)| (format!("{place:010}"), Asked::Known(item)))
            .collect()
    }

    /// Returns a page of a list. As at GitHub, its cursor names the last element, not a position,
    /// so that elements that move to the front in between shift nothing.
    fn connection(
        &mut self,
        items: &[Item<'_>],
        descending: bool,
        field: &Field,
        inner: &[&[Selection]],
        path: &[Value],
    ) -> Result<Value, Refused> {
        let name = field.name.as_str();
        let wanted = self.query.wanted(inner, None);
        let count = self.query.count(field);
        match count {
            None if wanted
                .iter()
                .any(|wanted| wanted.field.name != "totalCount") =>
            {
                let message = format!(
                    "You must provide a `first` or `last` value to properly paginate the `{name}` connection."
                );
                return Err(refused("MISSING_PAGINATION_BOUNDARIES", path, &message));
            }
            Some(count) if !(0..=100).contains(&count) => {
                let message = format!(
                    "Requesting {count} records on the `{name}` connection exceeds the `first` limit of 100 records."
                );
                return Err(refused("EXCESSIVE_PAGINATION", path, &message));
            }
            _ => {}
        }
        let total = items.len();
        let count = usize::try_from(count.unwrap_or(0)).unwrap();
        let start = match self.query.argument(&field.arguments, "after") {
            Some(cursor) => {
                let Some(last) = cursor.as_str().and_then(uncursor) else {
                    let message = format!("`{cursor}` does not appear to be a valid cursor.");
                    return Err(refused("INVALID_CURSOR_ARGUMENTS", path, &message));
                };
                items
                    .iter()
                    .position(|(key, _)| if descending { *key < last } else { *key > last })
                    .unwrap_or(total)
            }
            None if self.query.argument(&field.arguments, "last").is_some() => {
                total.saturating_sub(count)
            }
            None => 0,
        };
        let page = &items[start..total.min(start + count)];
        let cursors =
            |item: Option<&Item<'_>>| item.map_or(Value::Null, |(key, _)| cursor(key).into());
        let page_info = json!({
            "__typename": "PageInfo",
            "hasNextPage": start + page.len() < total,
            "hasPreviousPage": start > 0,
            "startCursor": cursors(page.first()),
            "endCursor": cursors(page.last()),
        });
        let mut answer = Map::new();
        for Wanted { key, field, inner } in wanted {
            let path = [path, &[key.into()]].concat();
            let value = match field.name.as_str() {
                "totalCount" => total.into(),
                "pageInfo" => self.object(&Asked::Known(&page_info), &inner, &path)?,
                "nodes" => self.nodes(page, &inner, &path)?,
                "edges" => {
                    let mut edges = Vec::new();
                    for (place, item) in page.iter().enumerate() {
                        edges.push(self.edge(
                            item,
                            &inner,
                            &[&path[..], &[place.into()]].concat(),
                        )?);
                    }
                    edges.into()
                }
                _ => return Err(undefined("Connection", field, &path)),
            };
            answer.insert(key.to_owned(), value);
        }
        Ok(Value::Object(answer))
    }

    fn nodes(
        &mut self,
        page: &[Item<'_>],
        inner: &[&[Selection]],
        path: &[Value],
    ) -> Result<Value, Refused> {
        let mut nodes = Vec::with_capacity(page.len());
        for (place, (_, asked)) in page.iter().enumerate() {
            nodes.push(self.node(asked, inner, &[path, &[place.into()]].concat())?);
        }
        Ok(nodes.into())
    }

    fn node(
        &mut self,
        asked: &Asked<'_>,
        inner: &[&[Selection]],
        path: &[Value],
    ) -> Result<Value, Refused> {
        match asked {
            Asked::Pull(pull) => self.pull_unless_broken(pull, inner, path),
            Asked::Known(Value::Null) => Ok(Value::Null),
            other => self.object(other, inner, path),
        }
    }

    fn edge(
        &mut self,
        (key, asked): &Item<'_>,
        inner: &[&[Selection]],
        path: &[Value],
    ) -> Result<Value, Refused> {
        let mut edge = Map::new();
        for Wanted {
            key: name,
            field,
            inner,
        } in self.query.wanted(inner, None)
        {
            let path = [path, &[name.into()]].concat();
            let value = match field.name.as_str() {
                "cursor" => cursor(key).into(),
                "node" => self.node(asked, &inner, &path)?,
                _ => return Err(undefined("Edge", field, &path)),
            };
            edge.insert(name.to_owned(), value);
        }
        Ok(Value::Object(edge))
    }
}

fn undefined(kind: &str, field: &Field, path: &[Value]) -> Refused {
    let name = field.name.as_str();
    let path = [&["query".into()], path].concat();
    Refused(json!({
        "path": path,
        "extensions": {"code": "undefinedField", "typeName": kind, "fieldName": name},
        "locations": [{"line": 1, "column": 1}],
        "message": format!("Field '{name}' doesn't exist on type '{kind}'"),
    }))
}

fn refused(kind: &str, path: &[Value], message: &str) -> Refused {
    Refused(json!({
        "type": kind,
        "path": path,
        "locations": [{"line": 1, "column": 1}],
        "message": message,
    }))
}

fn cursor(key: &str) -> String {
    STANDARD.encode(format!("cursor:v2:{key}"))
}

fn uncursor(cursor: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(cursor).ok()?).ok()?;
    text.strip_prefix("cursor:v2:").map(str::to_owned)
}

/// Converts `ReadyForReviewEvent` to `READY_FOR_REVIEW_EVENT`.
fn screaming(camel: &str) -> String {
    let mut screaming = String::new();
    for (place, letter) in camel.char_indices() {
        if letter.is_uppercase() && place > 0 {
            screaming.push('_');
        }
        screaming.push(letter.to_ascii_uppercase());
    }
    screaming
}
