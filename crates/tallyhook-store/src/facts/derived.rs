//! The numbers of a pull request as columns.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::types::Json;
use tallyhook_core::domain::business_time::BusinessNumbers;
use tallyhook_core::domain::numbers::Numbers;
use tallyhook_core::domain::origin::{Origin, OriginCertainty};
use tallyhook_core::domain::pull_request::PullRequest;
use tallyhook_core::domain::timings::{DEFINITION, PullRequestState};
use tallyhook_core::domain::waiting::{Turn, Turns, Waiting, WaitingFor};
use tallyhook_core::github::types::PrKey;

use super::row::seconds;
use super::table_columns::columns;
use crate::columns::{Name, Seconds, Words};

columns! {
    /// The values computed from the known facts.
    #[derive(Default, Serialize)]
    DerivedColumns {
        pr_id: String,
        definition: Option<i64>,
        state: Option<Name<PullRequestState>>,
        author_is_bot: Option<bool>,
        ready_at: Option<Seconds>,
        first_commit_at: Option<Seconds>,
        first_response_at: Option<Seconds>,
        first_review_at: Option<Seconds>,
        final_approval_at: Option<Seconds>,
        cycle_time_s: Option<i64>,
        review_time_s: Option<i64>,
        coding_s: Option<i64>,
        pickup_s: Option<i64>,
        review_s: Option<i64>,
        merge_wait_s: Option<i64>,
        redraft_s: Option<i64>,
        closed_s: Option<i64>,
        flags: Option<Words>,
        origin: Option<Name<Origin>>,
        origin_certainty: Option<Name<OriginCertainty>>,
        opened_by: Option<String>,
        reviewed_by_requester: Option<bool>,
        first_bot_response_at: Option<Seconds>,
        first_ai_review_at: Option<Seconds>,
        business_cycle_time_s: Option<i64>,
        business_review_time_s: Option<i64>,
        business_coding_s: Option<i64>,
        business_pickup_s: Option<i64>,
        business_review_s: Option<i64>,
        business_merge_wait_s: Option<i64>,
        business_redraft_s: Option<i64>,
        business_closed_s: Option<i64>,
        calendar: Option<String>,
        calendar_zone: Option<String>,
        calendar_hash: Option<String>,
        waiting_for: Option<Name<WaitingFor>>,
        waiting_since: Option<Seconds>,
        waiting_kind_since: Option<Seconds>,
        waiting_rule: Option<i64>,
        waiting: Option<Json<Waiting>>,
        turn: Option<Name<Turn>>,
        turn_since: Option<Seconds>,
        time_by: Option<Json<BTreeMap<Turn, i64>>>,
        turns_inferred: Option<bool>,
    }
}

pub(super) fn derived(key: PrKey, numbers: Option<&Numbers>) -> DerivedColumns {
    let pr_id = PullRequest::id(key).to_string();
    let Some(Numbers {
        timings,
        turns,
        origin,
        business,
    }) = numbers
    else {
        return DerivedColumns {
            pr_id,
            ..DerivedColumns::default()
        };
    };
    DerivedColumns {
        definition: Some(DEFINITION),
        state: Some(Name(timings.state)),
        author_is_bot: Some(timings.author_is_bot),
        ready_at: seconds(timings.ready_at),
        first_commit_at: seconds(timings.first_commit_at),
        first_response_at: seconds(timings.first_response_at),
        first_review_at: seconds(timings.first_review_at),
        final_approval_at: seconds(timings.final_approval_at),
        cycle_time_s: timings.cycle_time,
        review_time_s: timings.review_time,
        coding_s: timings.stages.coding,
        pickup_s: timings.stages.pickup,
        review_s: timings.stages.review,
        merge_wait_s: timings.stages.merge_wait,
        redraft_s: timings.stages.redraft,
        closed_s: timings.stages.closed,
        flags: Some(Words(
            timings
                .flags
                .iter()
                .map(|flag| Name(flag).to_string())
                .collect(),
        )),
        origin: origin.origin.map(Name),
        origin_certainty: origin.certainty.map(Name),
        opened_by: origin.opened_by.as_ref().map(|person| person.login.clone()),
        reviewed_by_requester: Some(origin.reviewed_by_requester),
        first_bot_response_at: seconds(origin.first_bot_response_at),
        first_ai_review_at: seconds(origin.first_ai_review_at),
        ..business_columns(business.as_ref(), turn_columns(pr_id, turns))
    }
}

fn business_columns(business: Option<&BusinessNumbers>, others: DerivedColumns) -> DerivedColumns {
    let durations = business
        .map(|numbers| numbers.durations)
        .unwrap_or_default();
    let calendar = business.map(|numbers| &numbers.calendar);
    DerivedColumns {
        business_cycle_time_s: durations.cycle_time,
        business_review_time_s: durations.review_time,
        business_coding_s: durations.stages.coding,
        business_pickup_s: durations.stages.pickup,
        business_review_s: durations.stages.review,
        business_merge_wait_s: durations.stages.merge_wait,
        business_redraft_s: durations.stages.redraft,
        business_closed_s: durations.stages.closed,
        calendar: calendar.map(|calendar| calendar.name.clone()),
        calendar_zone: calendar.map(|calendar| calendar.zone.clone()),
        calendar_hash: calendar.map(|calendar| calendar.hash.clone()),
        ..others
    }
}

fn turn_columns(pr_id: String, turns: &Turns) -> DerivedColumns {
    let waiting = turns.waiting.as_ref();
    let (current, time_by) = turns.up_to_current();
    DerivedColumns {
        pr_id,
        waiting_for: waiting.map(|waiting| Name(waiting.on)),
        waiting_since: waiting.map(|waiting| Seconds(waiting.since)),
        waiting_kind_since: waiting.map(|waiting| Seconds(waiting.kind_since)),
        waiting_rule: waiting.map(|waiting| i64::from(waiting.rule)),
        waiting: waiting.cloned().map(Json),
        turn: current.map(|(turn, _)| Name(turn)),
        turn_since: current.map(|(_, since)| Seconds(since)),
        time_by: Some(Json(time_by)),
        turns_inferred: Some(turns.inferred),
        ..DerivedColumns::default()
    }
}
