//! Business time: the cases of the definition by name, and a naive count beside the algorithm.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::civil;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tallyhook_core::domain::business_time::{Calendar, Calendars, DayHours};
use tallyhook_core::domain::metrics::{
    Aggregation, AuthorFilter, CalendarBucket, MergedPullRequest,
};
use tallyhook_core::domain::numbers::{NumberRules, Numbers, numbers};
use tallyhook_core::domain::pull_request::{PullRequest, Source};
use tallyhook_core::domain::timings::{PullRequestDurations, Stages};
use tallyhook_core::domain::waiting::Party;
use tallyhook_core::event::{PullRequestEvent, ReviewState};
use tallyhook_core::github::types::{AccountId, Timestamp};
use testkit::histories::{self, Step};

const REPO: &str = "acme-corp/api-server";
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

fn zone(name: &str) -> TimeZone {
    ZONES.get(name).unwrap()
}

fn hours(blocks: &str) -> DayHours {
    DayHours::parse(blocks.split_whitespace()).unwrap()
}

/// A calendar of `days`, such as `Mon-Fri`, with the same blocks on each.
fn calendar(zone_name: &str, days: &str, blocks: &str, dates: &[(&str, &str)]) -> Calendar {
    const NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let place = |name| NAMES.iter().position(|known| *known == name).unwrap();
    let (first, last) = days.split_once('-').unwrap();
    let mut week: [DayHours; 7] = Default::default();
    let length = (place(last) + 7 - place(first)) % 7 + 1;
    for day in (place(first)..).take(length) {
        week[day % 7] = hours(blocks);
    }
    let dates: BTreeMap<civil::Date, DayHours> = dates
        .iter()
        .map(|(date, blocks)| (date.parse().unwrap(), hours(blocks)))
        .collect();
    Calendar::new(zone_name, zone_name, zone(zone_name), week, &dates)
}

fn berlin() -> Calendar {
    let dates = [
        ("2026-12-24", "09:00-12:00"),
        ("2026-12-25", ""),
        ("2026-12-31", "09:00-12:00"),
        ("2027-01-01", ""),
    ];
    calendar("Europe/Berlin", "Mon-Fri", "09:00-18:00", &dates)
}

/// The time at which clocks of the zone show `text`, the first one if they do so twice.
fn at(zone_name: &str, text: &str) -> Timestamp {
    let civil: civil::DateTime = text.parse().unwrap();
    Timestamp::clamped(zone(zone_name).to_timestamp(civil).unwrap().as_second())
}

#[test]
fn cases_of_the_definition() {
    let ber = berlin();
    let days = |name: &str, days, blocks| calendar(name, days, blocks, &[]);
    let always = |name: &str| days(name, "Mon-Sun", "00:00-24:00");
    let night = days("Europe/Berlin", "Mon-Sun", "22:00-24:00 00:00-06:00");
    let new_york = days("America/New_York", "Mon-Fri", "09:00-18:00");
    let early = days("Europe/Berlin", "Mon-Sun", "01:00-02:30");
    let two = days("Europe/Berlin", "Mon-Sun", "02:00-03:00");
    let riyadh = days("Asia/Riyadh", "Sun-Thu", "09:00-18:00");
    let kathmandu = days("Asia/Kathmandu", "Sun-Fri", "10:00-17:00");
    let (b, howe) = ("Europe/Berlin", "Australia/Lord_Howe");
    for (case, calendar, clock, from, to, seconds, business) in [
        (
            "1 two hours",
            &ber,
            b,
            "2026-03-02 10:00",
            "2026-03-02 12:00",
            7_200,
            7_200,
        ),
        (
            "2 weekend",
            &ber,
            b,
            "2026-03-06 17:59",
            "2026-03-09 09:30",
            228_660,
            1_860,
        ),
        (
            "3 half a minute",
            &ber,
            b,
            "2026-03-06 17:59:30",
            "2026-03-06 18:10",
            630,
            30,
        ),
        (
            "4 wholly outside",
            &ber,
            b,
            "2026-03-06 18:00",
            "2026-03-09 09:00",
            226_800,
            0,
        ),
        (
            "5 on the weekend",
            &ber,
            b,
            "2026-03-07 10:00",
            "2026-03-08 10:00",
            86_400,
            0,
        ),
        (
            "6 into the weekend",
            &ber,
            b,
            "2026-03-06 17:00",
            "2026-03-07 11:00",
            64_800,
            3_600,
        ),
        (
            "7 spring",
            &ber,
            b,
            "2026-03-27 17:00",
            "2026-03-30 09:30",
            228_600,
            5_400,
        ),
        (
            "8 autumn",
            &ber,
            b,
            "2026-10-23 17:00",
            "2026-10-26 09:30",
            235_800,
            5_400,
        ),
        (
            "9 always",
            &always(b),
            b,
            "2026-03-28 12:00",
            "2026-03-29 12:00",
            82_800,
            82_800,
        ),
        (
            "10 spring night",
            &night,
            b,
            "2026-03-28 22:00",
            "2026-03-29 06:00",
            25_200,
            25_200,
        ),
        (
            "10 autumn night",
            &night,
            b,
            "2026-10-24 22:00",
            "2026-10-25 06:00",
            32_400,
            32_400,
        ),
        (
            "11 an hour twice",
            &early,
            b,
            "2026-10-25 00:00",
            "2026-10-25 06:00",
            25_200,
            7_200,
        ),
        (
            "12 a missing hour",
            &two,
            b,
            "2026-03-29 00:00",
            "2026-03-29 06:00",
            18_000,
            0,
        ),
        (
            "13 half days",
            &ber,
            b,
            "2026-12-24 11:00",
            "2026-12-28 10:00",
            342_000,
            7_200,
        ),
        (
            "14 reviewer",
            &new_york,
            b,
            "2026-07-01 14:00",
            "2026-07-01 17:00",
            10_800,
            7_200,
        ),
        (
            "14 own stage",
            &ber,
            b,
            "2026-07-01 14:00",
            "2026-07-01 17:00",
            10_800,
            10_800,
        ),
        (
            "15 before both",
            &new_york,
            b,
            "2026-03-16 14:30",
            "2026-03-16 15:30",
            3_600,
            3_600,
        ),
        (
            "15 after both",
            &new_york,
            b,
            "2026-03-30 14:30",
            "2026-03-30 15:30",
            3_600,
            1_800,
        ),
        (
            "16 Sunday to Thursday",
            &riyadh,
            "Asia/Riyadh",
            "2026-03-05 17:00",
            "2026-03-08 10:00",
            234_000,
            7_200,
        ),
        (
            "17 +05:45",
            &kathmandu,
            "Asia/Kathmandu",
            "2026-03-06 16:30",
            "2026-03-08 10:15",
            150_300,
            2_700,
        ),
        (
            "18 half an hour",
            &always(howe),
            howe,
            "2026-10-04 00:00",
            "2026-10-05 00:00",
            84_600,
            84_600,
        ),
        (
            "19 new year",
            &ber,
            b,
            "2026-12-31 11:00",
            "2027-01-04 10:00",
            342_000,
            7_200,
        ),
        (
            "21 open",
            &ber,
            b,
            "2026-03-06 17:59",
            "2026-03-08 12:00",
            151_260,
            60,
        ),
        (
            "reversed",
            &ber,
            b,
            "2026-03-02 12:00",
            "2026-03-02 10:00",
            -7_200,
            0,
        ),
    ] {
        let (from, to) = (at(clock, from), at(clock, to));
        assert_eq!(to.epoch() - from.epoch(), seconds, "{case}");
        assert_eq!(calendar.seconds(from, to), business, "{case}");
    }
}

#[test]
fn due_times_of_case_22_skip_nights_weekends_and_holidays() {
    let (ber, clock) = (berlin(), |text| at("Europe/Berlin", text));
    for (from, seconds, due) in [
        ("2026-03-06 16:00", 8 * HOUR, "2026-03-09 15:00"),
        ("2026-12-24 11:00", 8 * HOUR, "2026-12-28 16:00"),
        ("2026-03-06 16:00", 2 * HOUR, "2026-03-06 18:00"),
        ("2026-03-06 16:00", 2 * HOUR + 1, "2026-03-09 09:00:01"),
        ("2026-03-07 12:00", 0, "2026-03-07 12:00"),
    ] {
        assert_eq!(ber.due(clock(from), seconds), Some(clock(due)), "{from}");
    }
    let never = calendar(
        "Europe/Berlin",
        "Mon-Fri",
        "",
        &[("2026-03-06", "09:00-10:00")],
    );
    assert_eq!(
        never.due(clock("2026-03-01 00:00"), HOUR),
        Some(clock("2026-03-06 10:00"))
    );
    assert_eq!(never.due(clock("2026-03-01 00:00"), HOUR + 1), None);
}

#[test]
fn last_times_of_all_have_an_answer() {
    let always = calendar("Europe/Berlin", "Mon-Sun", "00:00-24:00", &[]);
    let (first, last) = (Timestamp::clamped(i64::MIN), Timestamp::clamped(i64::MAX));
    assert_eq!(always.seconds(first, last), last.epoch() - first.epoch());
    assert_eq!(always.due(first, i64::MAX), None);
    assert!(always.contains(first) && always.contains(last));
}

/// Returns the events `seconds` later.
fn later(mut events: Vec<PullRequestEvent>, seconds: i64) -> Vec<PullRequestEvent> {
    let later = |at: &mut Timestamp| *at = Timestamp::clamped(at.epoch() + seconds);
    for event in &mut events {
        let snapshot = event.pull_request.as_mut().unwrap();
        later(&mut snapshot.updated_at);
        later(&mut snapshot.created_at);
        snapshot.merged_at.as_mut().map(later);
        snapshot.conversation.closed_at.as_mut().map(later);
        event.facts.iter_mut().for_each(|fact| later(&mut fact.at));
        event
            .review
            .iter_mut()
            .for_each(|review| later(&mut review.submitted_at));
        event.commits.iter_mut().for_each(|commits| {
            commits.first.as_mut().map(later);
            commits.last.as_mut().map(later);
        });
    }
    events
}

fn known(events: &[PullRequestEvent]) -> PullRequest {
    let mut known = PullRequest::unknown(histories::KEY);
    for event in events {
        known.apply(event, Source::Webhook);
    }
    known
}

fn rules(calendar: Calendar) -> NumberRules {
    let name = calendar.name().to_owned();
    NumberRules {
        calendars: Calendars::new([calendar], Some(&name)).unwrap(),
        ..NumberRules::default()
    }
}

#[test]
fn case_20_stages_are_sets_of_seconds_and_add_up_in_business_time() {
    let minutes = |minutes: i64, step| (minutes * 60, step);
    let events = histories::events(
        false,
        Some(HOUR),
        &[
            minutes(19 * 60, Step::ConvertToDraft),
            minutes(46 * 60, Step::Ready),
            minutes(60, Step::Review(1, ReviewState::Commented)),
            minutes(60, Step::Review(1, ReviewState::Approved)),
            minutes(30, Step::Merge),
        ],
    );
    // Opened on a Friday at 17:00 in Berlin; its only commit is an hour older.
    let created = events[0].pull_request.as_ref().unwrap().created_at;
    let friday = at("Europe/Berlin", "2026-03-06 17:00");
    let pull_request = known(&later(events, friday.epoch() - created.epoch()));
    let rules = rules(berlin());
    let Numbers {
        timings, business, ..
    } = numbers(&pull_request, Some(REPO), &rules).unwrap();
    let stages = |[coding, pickup, review, merge_wait, redraft]: [i64; 5]| Stages {
        coding: Some(coding),
        pickup: Some(pickup),
        review: Some(review),
        merge_wait: Some(merge_wait),
        redraft: Some(redraft),
        closed: None,
    };
    assert_eq!(
        timings.stages,
        stages([3_600, 72_000, 3_600, 1_800, 165_600])
    );
    let business = business.unwrap();
    let expected = PullRequestDurations {
        cycle_time: Some(3_600 + 3 * HOUR + 1_800),
        review_time: Some(3_600 + 2 * HOUR),
        stages: stages([3_600, 7_200, 3_600, 1_800, 3_600]),
    };
    assert_eq!(business.durations, expected);
    assert_eq!(business.durations.stages.total(), 19_800);
    let segments: Vec<_> = timings
        .segments
        .iter()
        .map(|s| (s.stage.as_str(), s.seconds()))
        .collect();
    let expected = [
        ("coding", 3_600),
        ("pickup", 68_400),
        ("redraft", 165_600),
        ("pickup", 3_600),
        ("review", 3_600),
        ("merge_wait", 1_800),
    ];
    assert_eq!(segments, expected);
    // Without a calendar there is nothing, which is not 0.
    let without = numbers(&pull_request, Some(REPO), &NumberRules::default()).unwrap();
    assert_eq!(without.business, None);
    assert_eq!(numbers(&pull_request, None, &rules).unwrap().business, None);
}

const NAMES: [&str; 14] = [
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Asia/Riyadh",
    "America/St_Johns",
    "Asia/Kolkata",
    "Pacific/Chatham",
    "America/Sao_Paulo",
    "Asia/Tehran",
    "UTC",
];

/// A calendar as plain lists of minutes, for the naive count.
#[derive(Clone, Debug)]
struct PlainCalendar {
    zone: &'static str,
    /// Blocks of minutes of each weekday, from Monday on.
    week: Vec<Vec<(i64, i64)>>,
    /// By days after the start of 2026.
    dates: BTreeMap<i64, Vec<(i64, i64)>>,
}

/// A day's blocks, from some of its minutes as their ends.
fn blocks() -> impl Strategy<Value = Vec<(i64, i64)>> {
    let minute = prop_oneof![
        4 => (0_i64..=48).prop_map(|half| half * 30),
        1 => 0_i64..=24 * 60,
    ];
    prop::collection::btree_set(minute, 0..6).prop_map(|ends| {
        let ends: Vec<_> = ends.into_iter().collect();
        ends.chunks_exact(2)
            .map(|pair| (pair[0], pair[1]))
            .collect()
    })
}

fn plain_calendar(from_day: i64) -> impl Strategy<Value = PlainCalendar> {
    let dates = prop::collection::btree_map(from_day..from_day + 12, blocks(), 0..5);
    let zone = prop::sample::select(NAMES.to_vec());
    (zone, prop::collection::vec(blocks(), 7), dates)
        .prop_map(|(zone, week, dates)| PlainCalendar { zone, week, dates })
}

impl PlainCalendar {
    fn calendar(&self) -> Calendar {
        let hours = |blocks: &Vec<(i64, i64)>| {
            let clock = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
            let texts: Vec<_> = blocks
                .iter()
                .map(|(from, to)| format!("{}-{}", clock(*from), clock(*to)))
                .collect();
            DayHours::parse(texts.iter().map(String::as_str)).unwrap()
        };
        let week: Vec<_> = self.week.iter().map(hours).collect();
        let first = civil::date(2026, 1, 1);
        let dates = self
            .dates
            .iter()
            .map(|(day, blocks)| (first + jiff::Span::new().days(*day), hours(blocks)));
        let week = week.try_into().unwrap();
        Calendar::new("random", self.zone, zone(self.zone), week, &dates.collect())
    }

    /// Reads the clock on the wall at each minute between the two times.
    fn count(&self, time_zone: &TimeZone, from: i64, to: i64) -> i64 {
        let first = civil::date(2026, 1, 1);
        let mut counted = 0;
        for minute in from.div_euclid(60)..=to.div_euclid(60) {
            let begin = minute * 60;
            let now = time_zone.to_datetime(jiff::Timestamp::from_second(begin).unwrap());
            let day = i64::from((now.date() - first).get_days());
            let weekday = now.weekday().to_monday_zero_offset();
            let regular = &self.week[usize::try_from(weekday).unwrap()];
            let blocks = self.dates.get(&day).unwrap_or(regular);
            let reading = i64::from(now.hour()) * 60 + i64::from(now.minute());
            if blocks
                .iter()
                .any(|(from, to)| (*from..*to).contains(&reading))
            {
                counted += to.min(begin + 60) - from.max(begin);
            }
        }
        counted
    }
}

/// Calendars for stories, since making one takes longer than a story.
static CALENDARS: LazyLock<Vec<Calendar>> = LazyLock::new(|| {
    let mut runner = TestRunner::deterministic();
    let calendar = |_| {
        plain_calendar(60)
            .new_tree(&mut runner)
            .unwrap()
            .current()
            .calendar()
    };
    (0..200).map(calendar).collect()
});

/// A time near a change of the zone's offset, or the start of 2026 where there is none.
fn near_a_change(time_zone: &TimeZone, place: usize, before: i64) -> i64 {
    let start = civil::date(2011, 12, 1).to_zoned_datetime(time_zone.clone());
    let changes = time_zone.following(start.unwrap().timestamp());
    let change = changes.take(40).nth(place % 30);
    let default = 1_767_225_600;
    change.map_or(default, |change| change.timestamp().as_second()) - before
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    /// The seconds equal a count by a clock, in zones of every kind, about changes of their offset
    /// among others; those of two parts add up to the whole, and due times are the first ones.
    #[test]
    fn seconds_equal_a_naive_count_and_add_up(
        plain in (0_i64..400).prop_flat_map(plain_calendar),
        place in any::<usize>(),
        before in -2 * DAY..4 * DAY,
        lengths in (0..4 * DAY, 0..2 * DAY),
    ) {
        let (calendar, time_zone) = (plain.calendar(), zone(plain.zone));
        let first_date = plain.dates.keys().next().copied();
        let from = match first_date.filter(|_| place % 2 == 0) {
            Some(day) => 1_767_225_600 + day * DAY - before / 2,
            None => near_a_change(&time_zone, place / 2, before),
        };
        let (a, b, c) = (from, from + lengths.0, from + lengths.0 + lengths.1);
        let time = Timestamp::clamped;
        let whole = calendar.seconds(time(a), time(c));
        prop_assert_eq!(whole, plain.count(&time_zone, a, c));
        let parts = calendar.seconds(time(a), time(b)) + calendar.seconds(time(b), time(c));
        prop_assert_eq!(parts, whole);
        prop_assert!(whole <= c - a);
        let is_business = calendar.seconds(time(b), time(b + 1)) == 1;
        prop_assert_eq!(calendar.contains(time(b)), is_business);
        if whole > 0 {
            let wanted = 1 + lengths.1 % whole;
            let due = calendar.due(time(a), wanted).unwrap();
            prop_assert_eq!(calendar.seconds(time(a), due), wanted);
            prop_assert!(calendar.contains(time(due.epoch() - 1)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// On twenty thousand stories under random calendars the business stages add up to the business
    /// time from the start to the merge, none is longer than the stage itself, and one that is not
    /// there stays so.
    #[test]
    fn business_stages_add_up(
        draft in any::<bool>(),
        commit_age in prop::option::of(0_i64..1_000_000),
        mut steps in histories::steps(),
        place in any::<Index>(),
    ) {
        steps.extend([(5, Step::Reopen), (50_000, Step::Merge)]);
        let pull_request = known(&histories::events(draft, commit_age, &steps));
        let calendar = place.get(&CALENDARS);
        let found = numbers(&pull_request, Some(REPO), &rules(calendar.clone())).unwrap();
        let (timings, business) = (found.timings, found.business.unwrap());
        let (stages, durations) = (timings.stages, business.durations);
        let pairs = [
            (timings.cycle_time, durations.cycle_time),
            (timings.review_time, durations.review_time),
            (stages.coding, durations.stages.coding),
            (stages.pickup, durations.stages.pickup),
            (stages.review, durations.stages.review),
            (stages.merge_wait, durations.stages.merge_wait),
            (stages.redraft, durations.stages.redraft),
            (stages.closed, durations.stages.closed),
        ];
        for (seconds, business) in pairs {
            prop_assert_eq!(seconds.is_some(), business.is_some());
            prop_assert!(business <= seconds && business.is_none_or(|business| business >= 0));
        }
        let Some(merged_at) = pull_request.merged_at else { return Ok(()) };
        let start = match stages.coding {
            Some(_) => timings.first_commit_at.or(pull_request.created_at).unwrap(),
            None => timings.ready_at.unwrap(),
        };
        prop_assert_eq!(durations.stages.total(), calendar.seconds(start, merged_at));
        let mut end = start;
        for segment in &timings.segments {
            prop_assert!(segment.from == end && segment.to > end, "{:?}", timings.segments);
            end = segment.to;
        }
        prop_assert_eq!(end, merged_at.max(start));
        // The turns, too, are disjoint and leave no gap.
        let turns = found.turns.steps.iter();
        let by_turn: i64 = turns
            .map(|step| calendar.seconds(step.from, step.to.unwrap_or(merged_at)))
            .sum();
        let created_at = pull_request.created_at.unwrap();
        prop_assert_eq!(by_turn, calendar.seconds(created_at, merged_at));
    }
}

#[test]
fn always_is_calendar_time_and_never_is_none() {
    for name in NAMES {
        let always = calendar(name, "Mon-Sun", "00:00-24:00", &[]);
        let never = calendar(name, "Mon-Sun", "", &[]);
        for year in 0..40 {
            let from = Timestamp::clamped(1_000_000_000 + year * 31_000_123);
            let to = Timestamp::clamped(from.epoch() + 40_000_077);
            assert_eq!(always.seconds(from, to), 40_000_077, "{name}");
            assert_eq!(never.seconds(from, to), 0, "{name}");
        }
    }
}

#[test]
fn hash_is_of_the_content_and_not_of_the_name() {
    let of = |days, blocks, dates: &[(&str, &str)]| {
        calendar("Europe/Berlin", days, blocks, dates)
            .hash()
            .to_owned()
    };
    let usual = of("Mon-Fri", "09:00-12:00 13:00-18:00", &[]);
    assert_eq!(usual, of("Mon-Fri", "13:00-18:00 09:00-12:00", &[]));
    let others = [
        of("Mon-Sat", "09:00-12:00 13:00-18:00", &[]),
        of("Mon-Fri", "09:00-18:00", &[]),
        of("Mon-Fri", "09:00-12:00 13:00-18:00", &[("2026-12-24", "")]),
        calendar("Europe/Paris", "Mon-Fri", "09:00-12:00 13:00-18:00", &[])
            .hash()
            .to_owned(),
    ];
    assert!(others.iter().all(|other| *other != usual), "{others:?}");
}

#[test]
fn calendars_are_chosen_by_repository_team_and_person() {
    let named = |name: &str| {
        Calendar::new(
            name,
            "UTC",
            zone("UTC"),
            Default::default(),
            &BTreeMap::new(),
        )
    };
    let mut calendars = Calendars::new(["a", "b", "c"].map(named), Some("a")).unwrap();
    calendars.assign_repository("Acme-Corp/*", "b").unwrap();
    calendars.assign_repository("acme-corp/API", "c").unwrap();
    calendars.assign_team("Backend", "b").unwrap();
    calendars.assign_person("Ines-Acme", "c").unwrap();
    let name = |calendar: Option<&Calendar>| calendar.map(|found| found.name().to_owned());
    for (repo, expected) in [
        ("acme-corp/api", "c"),
        ("ACME-corp/web", "b"),
        ("acme-corp2/web", "a"),
        ("other/api", "a"),
    ] {
        assert_eq!(
            name(calendars.of_repository(repo)).as_deref(),
            Some(expected),
            "{repo}"
        );
    }
    assert_eq!(name(calendars.of_team("backend")).as_deref(), Some("b"));
    assert_eq!(calendars.of_team("frontend"), None);
    assert_eq!(name(calendars.of_person("INES-acme")).as_deref(), Some("c"));
    assert_eq!(calendars.of_person("zoe"), None);
    let account = |login: &str| Party::Account {
        id: AccountId(1),
        login: login.to_owned(),
    };
    let team = |slug: &str| Party::Team {
        id: None,
        slug: slug.to_owned(),
    };
    for (party, expected) in [
        (account("ines-acme"), "c"),
        (account("zoe"), "a"),
        (team("backend"), "b"),
        (team("frontend"), "a"),
    ] {
        let found = calendars.of_reviewer(&party, "other/api");
        assert_eq!(name(found).as_deref(), Some(expected), "{party:?}");
    }
    for (error, words) in [
        (
            calendars.assign_person("ines-ACME", "a"),
            "`ines-ACME` is there twice",
        ),
        (
            calendars.assign_team("web", "d"),
            "no calendar `d`: the calendars are a, b, c",
        ),
    ] {
        assert!(
            error.clone().unwrap_err().to_string().contains(words),
            "{error:?}"
        );
    }
}

#[test]
fn buckets_begin_with_the_day_of_their_zone() {
    use CalendarBucket::{Day, Month, Week};
    for (zone_name, bucket, at, start) in [
        (
            "Europe/Berlin",
            Day,
            "2026-03-01T23:30:00Z",
            "2026-03-01T23:00:00Z",
        ),
        (
            "Europe/Berlin",
            Week,
            "2026-03-01T23:30:00Z",
            "2026-03-01T23:00:00Z",
        ),
        (
            "Europe/Berlin",
            Week,
            "2026-03-01T22:59:59Z",
            "2026-02-22T23:00:00Z",
        ),
        (
            "Europe/Berlin",
            Month,
            "2026-04-15T10:00:00Z",
            "2026-03-31T22:00:00Z",
        ),
        // A day without its midnight.
        (
            "America/Sao_Paulo",
            Day,
            "2018-11-04T12:00:00Z",
            "2018-11-04T03:00:00Z",
        ),
        // Midnight comes twice: the clock was put back at one o'clock.
        (
            "America/Havana",
            Day,
            "2026-11-01T12:00:00Z",
            "2026-11-01T04:00:00Z",
        ),
    ] {
        let found = bucket.start_of(Timestamp::parse(at).unwrap(), &zone(zone_name));
        assert_eq!(found.to_string(), start, "{zone_name} {at}");
    }
}

#[test]
fn clock_that_is_put_back_over_midnight_begins_no_bucket_again() {
    let newfoundland = zone("America/St_Johns");
    let mut aggregation =
        Aggregation::new(AuthorFilter::Human, Some(CalendarBucket::Day)).in_zone(newfoundland);
    // At 00:01 on 7 November 2010 clocks were put back to 23:01 on the day before.
    for at in [
        "2010-11-07T02:00:00Z",
        "2010-11-07T02:30:30Z",
        "2010-11-07T03:00:00Z",
    ] {
        aggregation.add(&MergedPullRequest {
            merged_at: Timestamp::parse(at).unwrap(),
            author_is_bot: false,
            origin: None,
            flags: Vec::new(),
            has_calendar: true,
            durations: PullRequestDurations {
                cycle_time: Some(1),
                ..Default::default()
            },
        });
    }
    let buckets = aggregation.finish().buckets;
    let counted: Vec<_> = buckets
        .iter()
        .map(|(start, summary)| (start.to_string(), summary.cycle_time.n))
        .collect();
    let expected = [("2010-11-06T02:30:00Z", 1), ("2010-11-07T02:30:00Z", 2)];
    assert_eq!(counted, expected.map(|(start, n)| (start.to_owned(), n)));
}

#[test]
fn hours_that_are_none_are_refused_with_their_reason() {
    for (blocks, words) in [
        (
            "9:00-18:00",
            "`9:00-18:00` are no hours: expected a text such as 09:00-17:30",
        ),
        ("09:00-24:01", "are no hours"),
        ("09:60-10:00", "are no hours"),
        ("09:00", "are no hours"),
        ("+9:00-10:00", "are no hours"),
        (
            "18:00-09:00",
            "end before they begin: write a night as two blocks",
        ),
        ("09:00-09:00", "end before they begin"),
        (
            "13:00-18:00 09:00-13:01",
            "`09:00-13:01` and `13:00-18:00` overlap",
        ),
    ] {
        let error = DayHours::parse(blocks.split_whitespace())
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(
        hours("13:00-24:00 00:00-13:00"),
        hours("00:00-13:00 13:00-24:00")
    );
    let rest = hours("09:00-12:00 13:00-18:00").without(11 * HOUR, 14 * HOUR + 30);
    assert_eq!(rest.to_string(), "09:00-11:00 14:00:30-18:00");
}
