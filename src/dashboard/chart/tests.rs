//! Charts of any numbers stay inside their boxes, and their widths add up.

use proptest::prelude::*;
use tallyhook_core::domain::timings::Stage;
use tallyhook_core::github::types::Timestamp;

use super::*;

/// Numbers as a broken program or a long life could give them.
fn any_hours() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(-1.0),
        Just(0.0),
        Just(1e6),
        0.0..1e6,
        0.0..2.0,
    ]
}

fn any_stage() -> impl Strategy<Value = Stage> {
    prop::sample::select(Stage::ALL)
}

/// Returns the values of an attribute that has a number.
fn numbers(svg: &str, attribute: &str) -> Vec<f64> {
    let begin = format!(" {attribute}=\"");
    let parts = svg.split(&begin).skip(1);
    let values = parts.map(|part| part.split('"').next().unwrap());
    values.map(|value| value.parse().unwrap()).collect()
}

/// Asserts that everything is drawn within the box of the chart, in finite numbers.
fn assert_inside(chart: &Markup, height: f64) {
    let svg = chart.0.as_str();
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    assert!(!svg.contains("style="), "{svg}");
    assert!(svg.contains("role=\"group\" aria-label="), "{svg}");
    for attribute in ["x", "x1", "x2", "cx"] {
        for x in numbers(svg, attribute) {
            assert!((0.0..=WIDTH + 0.1).contains(&x), "{attribute}={x} in {svg}");
        }
    }
    for attribute in ["y", "y1", "y2", "cy"] {
        for y in numbers(svg, attribute) {
            assert!(
                (0.0..=height + 0.1).contains(&y),
                "{attribute}={y} in {svg}"
            );
        }
    }
    for rectangle in svg.split("<rect ").skip(1) {
        let tag = format!(" {}", rectangle.split('>').next().unwrap());
        let one = |name| numbers(&tag, name).first().copied().unwrap_or(0.0);
        assert!(one("x") + one("width") <= WIDTH + 0.2, "{tag}");
        assert!(one("y") + one("height") <= height + 0.2, "{tag}");
        assert!(one("width") >= 0.0 && one("height") >= 0.0, "{tag}");
    }
    for points in svg.split(" points=\"").skip(1) {
        for point in points.split('"').next().unwrap().split(' ') {
            let (x, y) = point.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((0.0..=WIDTH + 0.1).contains(&x), "{point} in {svg}");
            assert!((0.0..=height + 0.1).contains(&y), "{point} in {svg}");
        }
    }
}

fn bar(steps: &[(Stage, i64)], marks: &[i64], mode: BarMode, is_running: bool) -> StageBar {
    let mut at = 1_772_000_000;
    let whole: i64 = steps.iter().map(|(_, seconds)| seconds).sum();
    let mut marks = marks.to_vec();
    marks.sort_unstable();
    let marks = marks.iter().enumerate().map(|(number, after)| BarMark {
        number: number + 1,
        at: Timestamp::clamped(at + after % (whole + 1)),
        words: "approved".to_owned(),
    });
    let mut marks: Vec<_> = marks.collect();
    marks.sort_by_key(|mark| mark.at);
    let segments = steps.iter().map(|(stage, seconds)| {
        let from = at;
        at += seconds;
        BarSegment {
            stage: *stage,
            from: Timestamp::clamped(from),
            to: Timestamp::clamped(at),
        }
    });
    StageBar {
        segments: segments.collect(),
        marks,
        mode,
        is_running,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn stage_bars_fill_their_box_and_numbers_do_not_collide(
        steps in prop::collection::vec((any_stage(), prop_oneof![Just(0_i64), 0..3_600_000_000_i64]), 0..12),
        marks in prop::collection::vec(0..i64::MAX, 0..60),
        is_equal in any::<bool>(),
        is_running in any::<bool>(),
    ) {
        let mode = if is_equal { BarMode::Equal } else { BarMode::Scaled };
        let bar = bar(&steps, &marks, mode, is_running);
        assert_inside(&stage_bar("test", &bar), 112.0);
        let spans = bar.spans();
        let whole: f64 = spans.iter().map(|(_, width)| width).sum();
        prop_assert!(spans.is_empty() || (whole - 936.0).abs() < 1e-6, "{whole}");
        for pair in spans.windows(2) {
            prop_assert!((pair[0].0 + pair[0].1 - pair[1].0).abs() < 1e-6);
        }
        let room = 18_f64.min(936.0 / bar.marks.len().max(1) as f64);
        for pair in bar.mark_places().windows(2) {
            prop_assert!(pair[1].1 - pair[0].1 > room - 1e-6, "{pair:?}");
        }
    }

    #[test]
    fn stacked_bars_are_as_high_as_their_sum(
        bars in prop::collection::vec(prop::collection::vec((any_stage(), any_hours()), 0..6), 0..60),
    ) {
        let bars: Vec<_> = bars.into_iter().map(|parts| StackedBar {
            label: "03-16".to_owned(),
            count: 5,
            address: "/prs".to_owned(),
            parts,
        }).collect();
        let chart = stacked("test", &bars);
        assert_inside(&chart, 236.0);
        prop_assert_eq!(chart.0.matches("href=\"/prs\"").count(), bars.len());
    }

    #[test]
    fn histograms_lines_and_scatters_stay_inside(
        values in prop::collection::vec(any_hours(), 0..60),
        times in prop::collection::vec(0_i64..4_000_000_000, 60),
    ) {
        let bars: Vec<_> = values.iter().map(|hours| HistogramBar {
            from_hours: hours / 2.0,
            to_hours: *hours,
            count: 3,
            address: "/prs".to_owned(),
        }).collect();
        let marked = [("p50", values.first().copied()), ("p90", values.last().copied())];
        assert_inside(&histogram("test", &bars, &marked), 236.0);
        let labels = vec!["03-16".to_owned(); values.len()];
        let hours: Vec<_> = values.iter().map(|hours| Some(*hours).filter(|hours| *hours != 0.0)).collect();
        let drawn = ["p50", "p75", "p90"].map(|name| ChartLine { name, hours: hours.clone() });
        assert_inside(&lines("test", &labels, &drawn), 236.0);
        let dots: Vec<_> = values.iter().zip(times).map(|(hours, at)| ScatterDot {
            name: "acme/web#1".to_owned(),
            address: "/repos/acme/web/prs/1".to_owned(),
            merged_at: Timestamp::clamped(at),
            hours: *hours,
        }).collect();
        assert_inside(&scatter("test", &dots), 236.0);
    }
}

#[test]
fn zero_length_is_a_tick_and_the_running_part_is_hatched() {
    let steps = [
        (Stage::Pickup, 7200),
        (Stage::Review, 0),
        (Stage::MergeWait, 3600),
    ];
    let ended = stage_bar("test", &bar(&steps, &[], BarMode::Scaled, false)).0;
    let tick = "<rect class=\"review\" x=\"634.5\" y=\"31.0\" width=\"3.0\" height=\"40.0\">";
    assert!(ended.contains(tick), "{ended}");
    assert!(!ended.contains("hatching"));
    let running = stage_bar("test", &bar(&steps, &[], BarMode::Scaled, true)).0;
    assert!(running.contains("fill=\"url(#hatching)\"") && running.contains(">now<"));
    // 2 of 3 hours are two thirds of the bar.
    let spans = bar(&steps, &[], BarMode::Scaled, false).spans();
    assert!((spans[0].1 - 624.0).abs() < 1e-6 && (spans[2].1 - 312.0).abs() < 1e-6);
}

#[test]
fn bars_are_links_that_have_words() {
    let bars = [StackedBar {
        label: "03-16".to_owned(),
        count: 2,
        address: "/prs?state=merged".to_owned(),
        parts: vec![(Stage::Pickup, 4.0), (Stage::MergeWait, 1.5)],
    }];
    let chart = stacked("Mean hours", &bars).0;
    assert!(chart.contains(
        "<a href=\"/prs?state=merged\" aria-label=\"03-16: 2 pull requests, 5.50 h each: pickup \
         4.00 h, merge wait 1.50 h\">"
    ), "{chart}");
    // 4 and 1.5 of the 6 hours of the axis, on 180 units.
    assert!(
        chart.contains("height=\"120.0\"") && chart.contains("height=\"45.0\""),
        "{chart}"
    );
}
