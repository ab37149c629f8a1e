//! The conditions of a filter of pull requests, as SQL that both kinds of database understand.

use tallyhook_core::domain::business_time::DurationClock;
use tallyhook_core::domain::metrics::{AuthorFilter, DurationName, ExclusionReason};
use tallyhook_core::domain::timings::Flag;
use tallyhook_core::domain::waiting::{WaitingFor, WaitingReason};

use super::aggregate_rows::by_authors;
use super::filter::duration_column;
use super::{DetailFilter, PartyName, PullRequestFilter};
use crate::columns::{Seconds, storable_text};
use crate::database::StatementBuilder;

/// Compares a name regardless of case, by an index over the first `length` characters in lower case.
/// Names on GitHub are ASCII; a letter that is not has one case, as in SQLite. As everywhere U+FFFD
/// stands for U+0000.
pub(crate) fn push_name(query: &mut StatementBuilder<'_>, column: &str, name: &str, length: usize) {
    let name = storable_text(name).to_ascii_lowercase();
    let beginning: String = name.chars().take(length).collect();
    // Of a short name the beginning is all; to ask twice would let a planner believe that hardly
    // any row is left.
    let longer = beginning.chars().count() == length;
    query
        .push(" AND lower(substr(")
        .push(column)
        .push(&format!(", 1, {length})) = "))
        .push_bind(beginning);
    if longer {
        query
            .push(" AND lower(")
            .push(column)
            .push(") = ")
            .push_bind(name);
    }
}

pub(super) fn push_wanted(
    query: &mut StatementBuilder<'static>,
    filter: &PullRequestFilter,
    is_sqlite: bool,
) {
    if let Some(repo) = filter.repo {
        // SQLite knows nothing of how much is in its tables; the plus keeps it from the
        // repository's index, since one author is sure to have fewer.
        let plus = if is_sqlite && filter.author.is_some() {
            "+"
        } else {
            ""
        };
        query
            .push(" AND ")
            .push(plus)
            .push("repo_id = ")
            .push_bind(repo.0);
    }
    if let Some(author) = &filter.author {
        push_name(query, "author_login", author, 100);
    }
    if let Some(from) = filter.from {
        query.push(" AND updated_at >= ").push_bind(Seconds(from));
    }
    if let Some(to) = filter.to {
        query.push(" AND updated_at < ").push_bind(Seconds(to));
    }
}

pub(super) fn push_ranges(query: &mut StatementBuilder<'static>, filter: &PullRequestFilter) {
    for (condition, at) in [
        (" AND merged_at >= ", filter.merged_from),
        (" AND merged_at < ", filter.merged_to),
        (" AND closed_at >= ", filter.closed_from),
        (" AND closed_at < ", filter.closed_to),
        (" AND waiting_since <= ", filter.waiting_since_until),
        (" AND waiting_since > ", filter.waiting_since_after),
    ] {
        if let Some(at) = at {
            query.push(condition).push_bind(Seconds(at));
        }
    }
}

/// The condition that another open pull request holds up an approved one. Its rows are called by the
/// name of their table.
pub(super) const IS_HELD: &str = "waiting_rule IN (11, 12) AND EXISTS (\
     SELECT 1 FROM pull_requests b WHERE b.state = 'open' AND b.repo_id = pull_requests.repo_id \
     AND b.head_ref = pull_requests.base_ref AND b.head_repo_id = pull_requests.repo_id \
     AND b.number <> pull_requests.number)";

pub(super) fn push_waiting(
    query: &mut StatementBuilder<'static>,
    filter: &PullRequestFilter,
    logins: &[String],
) {
    match filter.waiting_for {
        Some(WaitingFor::BasePr) => drop(query.push(" AND ").push(IS_HELD)),
        Some(kind) => {
            query.push(" AND waiting_for = ").push_bind(kind.as_str());
            query.push(" AND NOT (").push(IS_HELD).push(")");
        }
        None => {}
    }
    if let Some(reason) = filter.reason {
        query.push(" AND ").push(&by_reason(reason));
    }
    match &filter.waiting_on {
        Some(PartyName::Team(slug)) => push_parties(query, "team", &[slug.to_ascii_lowercase()]),
        Some(PartyName::Login(_)) => push_parties(query, "account", logins),
        None => {}
    }
}

/// Returns the condition that [`WaitingReason::of`] is this reason.
fn by_reason(reason: WaitingReason) -> String {
    let for_kind = |kind: WaitingFor| format!("waiting_for = '{}'", kind.as_str());
    let condition = match reason {
        WaitingReason::BasePr => return IS_HELD.to_owned(),
        WaitingReason::NobodyAsked => for_kind(WaitingFor::Nobody),
        WaitingReason::Queued => for_kind(WaitingFor::MergeQueue),
        WaitingReason::Checks => for_kind(WaitingFor::Ci),
        WaitingReason::FirstReview => {
            format!(
                "{} AND first_review_at IS NULL",
                for_kind(WaitingFor::Reviewers)
            )
        }
        WaitingReason::AnotherLook => {
            format!(
                "{} AND first_review_at IS NOT NULL",
                for_kind(WaitingFor::Reviewers)
            )
        }
        WaitingReason::Draft
        | WaitingReason::LeftQueue
        | WaitingReason::Conflict
        | WaitingReason::ChangesRequested
        | WaitingReason::CheckFailed
        | WaitingReason::Comments
        | WaitingReason::Merge => by_rule(reason),
    };
    format!("{condition} AND NOT ({IS_HELD})")
}

/// Returns the condition of a reason for which the author or the maintainers are waited for.
fn by_rule(reason: WaitingReason) -> String {
    let known = WaitingReason::BY_RULE;
    let rules = match known.iter().find(|(_, known)| *known == reason) {
        Some((rule, _)) => format!("IN ({rule})"),
        None => {
            let rules = known.map(|(rule, _)| rule.to_string());
            format!("NOT IN ({})", rules.join(", "))
        }
    };
    let [author, maintainers] =
        [WaitingFor::Author, WaitingFor::Maintainers].map(WaitingFor::as_str);
    format!("waiting_for IN ('{author}', '{maintainers}') AND waiting_rule {rules}")
}

/// Adds the condition that a pull request waits for one of these names, in lower case. One that is
/// held up by another waits for none.
pub(super) fn push_parties(query: &mut StatementBuilder<'_>, kind: &str, names: &[String]) {
    query.push(&format!(
        " AND (repo_id, number) IN (SELECT w.repo_id, w.number FROM waiting_parties w \
         WHERE w.kind = '{kind}' AND lower(w.name) IN ("
    ));
    for (place, name) in names.iter().enumerate() {
        query.push(if place == 0 { "" } else { ", " });
        query.push_bind(storable_text(name));
    }
    query.push(")) AND NOT (").push(IS_HELD).push(")");
}

pub(super) fn push_details(
    query: &mut StatementBuilder<'static>,
    details: &DetailFilter,
    is_sqlite: bool,
) {
    if let Some((name, least, below)) = details.duration {
        let column = duration_column(name, details.clock);
        query.push(&format!(" AND {column} IS NOT NULL"));
        for (sign, seconds) in [(">=", least), ("<", below)] {
            if let Some(seconds) = seconds {
                query
                    .push(&format!(" AND {column} {sign} "))
                    .push_bind(seconds);
            }
        }
    }
    if let Some(name) = details.missing {
        let column = duration_column(name, details.clock);
        query.push(&format!(" AND {column} IS NULL"));
    }
    if let Some(flag) = details.flag {
        query.push(" AND ");
        push_word(query, "flags", flag.as_str().to_owned(), is_sqlite);
    }
    if let Some(label) = &details.label {
        query.push(" AND ");
        push_word(query, "labels", storable_text(label), is_sqlite);
    }
    if let Some(draft) = details.draft {
        // Of one that was seen only in part it is not known, and it counts as none.
        query.push(if draft {
            " AND draft IS TRUE"
        } else {
            " AND draft IS NOT TRUE"
        });
    }
    if let Some(reason) = details.excluded {
        push_excluded(query, details, reason, is_sqlite);
    } else if details.counted {
        push_counted(query, details, None, is_sqlite);
    } else if let Some(authors) = details.authors {
        query.push(by_authors(authors));
    }
    if let Some(text) = &details.text {
        push_text(query, text.trim(), is_sqlite);
    }
}

/// Adds the condition under which aggregates leave a merged pull request out for this reason, the
/// first that holds.
fn push_excluded(
    query: &mut StatementBuilder<'static>,
    details: &DetailFilter,
    reason: ExclusionReason,
    is_sqlite: bool,
) {
    let means_people = details.authors.unwrap_or_default() == AuthorFilter::Human;
    match reason {
        ExclusionReason::BotAuthor | ExclusionReason::AgentAuthor if !means_people => {
            query.push(" AND false");
        }
        ExclusionReason::BotAuthor => {
            query.push(" AND merged_at IS NOT NULL AND author_is_bot");
        }
        ExclusionReason::AgentAuthor => {
            query.push(" AND merged_at IS NOT NULL AND NOT author_is_bot AND origin = 'agent'");
        }
        ExclusionReason::NoCalendar
        | ExclusionReason::ClockSkew
        | ExclusionReason::MergedAsDraft
        | ExclusionReason::Stub => push_counted(query, details, Some(reason), is_sqlite),
    }
}

/// Adds the condition under which aggregates count a merged pull request of their authors; with
/// `reason` that under which they leave it out, since no reason before holds and this one does.
fn push_counted(
    query: &mut StatementBuilder<'static>,
    details: &DetailFilter,
    reason: Option<ExclusionReason>,
    is_sqlite: bool,
) {
    query.push(" AND merged_at IS NOT NULL");
    query.push(by_authors(details.authors.unwrap_or_default()));
    for checked in [
        ExclusionReason::NoCalendar,
        ExclusionReason::ClockSkew,
        ExclusionReason::MergedAsDraft,
        ExclusionReason::Stub,
    ] {
        let holds = reason == Some(checked);
        query.push(if holds { " AND (" } else { " AND NOT (" });
        push_reason(query, details.clock, checked, is_sqlite);
        query.push(")");
        if holds {
            break;
        }
    }
}

/// Adds the condition that one reason is, regardless of those before it.
fn push_reason(
    query: &mut StatementBuilder<'static>,
    clock: DurationClock,
    reason: ExclusionReason,
    is_sqlite: bool,
) {
    match (reason, clock) {
        (ExclusionReason::NoCalendar, DurationClock::Business) => {
            query.push("calendar_hash IS NULL");
        }
        (ExclusionReason::ClockSkew, _) => {
            // A flag alone can be about the commits: one with a duration counts.
            let cycle = duration_column(DurationName::Cycle, clock);
            query.push(&format!("({cycle} IS NULL AND "));
            push_word(
                query,
                "flags",
                Flag::ClockSkew.as_str().to_owned(),
                is_sqlite,
            );
            query.push(")");
            for name in DurationName::ALL {
                let column = duration_column(*name, clock);
                query.push(&format!(" OR coalesce({column}, 0) < 0"));
            }
        }
        (ExclusionReason::MergedAsDraft, _) => {
            push_word(
                query,
                "flags",
                Flag::MergedAsDraft.as_str().to_owned(),
                is_sqlite,
            );
        }
        (ExclusionReason::Stub, _) => {
            push_word(query, "flags", Flag::Stub.as_str().to_owned(), is_sqlite);
        }
        // Of authors by themselves, and of the calendar of a clock that has none.
        (ExclusionReason::BotAuthor | ExclusionReason::AgentAuthor, _)
        | (ExclusionReason::NoCalendar, DurationClock::Calendar) => drop(query.push("false")),
    }
}

/// Adds the condition that the title or the branch has this text, or that it is the number. Only
/// ASCII letters have two cases, as in SQLite.
fn push_text(query: &mut StatementBuilder<'static>, text: &str, is_sqlite: bool) {
    let number = text.trim_start_matches('#').parse::<i64>().ok();
    let pattern = format!("%{}%", escaped(&storable_text(text).to_ascii_lowercase()));
    let collation = if is_sqlite { "" } else { " COLLATE \"C\"" };
    for (sign, column) in [("AND (", "title"), ("OR", "head_ref")] {
        query
            .push(&format!(" {sign} lower({column}{collation}) LIKE "))
            .push_bind(pattern.clone())
            .push(" ESCAPE '!'");
    }
    query.push(" OR number = ").push_bind(number).push(")");
}

/// Adds the condition that a list of words has this one.
fn push_word(query: &mut StatementBuilder<'_>, column: &str, word: String, is_sqlite: bool) {
    if is_sqlite {
        query.push(&format!(
            "EXISTS (SELECT 1 FROM json_each({column}) AS word WHERE word.value = "
        ));
        query.push_bind(word).push(")");
    } else {
        query.push_bind(word).push(&format!(" = ANY ({column})"));
    }
}

/// Returns a text in which the signs of `LIKE` stand for themselves, after `!`.
fn escaped(text: &str) -> String {
    text.replace('!', "!!")
        .replace('%', "!%")
        .replace('_', "!_")
}
