//! The working hours of one day.

use std::fmt;

use super::DAY;

/// The working hours of one day: stretches of the wall clock in seconds since midnight, each
/// without its end, in order and free of overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DayHours(Vec<(i64, i64)>);

/// The reason why texts are no working hours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoursError {
    #[error("`{0}` are no hours: expected a text such as 09:00-17:30, within 00:00-24:00")]
    NotHours(String),
    #[error(
        "the hours `{0}` end before they begin: write a night as two blocks, such as 22:00-24:00 \
         and, on the next day, 00:00-06:00"
    )]
    FromAfterTo(String),
    #[error("the hours `{0}` and `{1}` overlap: leave each minute to one block")]
    Overlap(String, String),
}

impl DayHours {
    /// Reads blocks such as `09:00-12:00`, in any order.
    ///
    /// # Errors
    /// The first block that is wrong.
    pub fn parse<'t>(blocks: impl IntoIterator<Item = &'t str>) -> Result<Self, HoursError> {
        let mut parsed = Vec::new();
        for block in blocks {
            let ends = block
                .split_once('-')
                .and_then(|(from, to)| clock_seconds(from).zip(clock_seconds(to)));
            match ends {
                Some((from, to)) if from < to => parsed.push((from, to)),
                Some(_) => return Err(HoursError::FromAfterTo(block.to_owned())),
                None => return Err(HoursError::NotHours(block.to_owned())),
            }
        }
        parsed.sort_unstable();
        let hours = Self(parsed);
        let overlap = hours.0.windows(2).find(|pair| pair[0].1 > pair[1].0);
        match overlap {
            Some(pair) => Err(HoursError::Overlap(block(pair[0]), block(pair[1]))),
            None => Ok(hours),
        }
    }

    /// Returns the hours without those from `from` to `to`, in seconds since midnight.
    #[must_use]
    pub fn without(&self, from: i64, to: i64) -> Self {
        let parts = self
            .0
            .iter()
            .flat_map(|(begin, end)| [(*begin, *end.min(&from)), (*begin.max(&to), *end)]);
        Self(parts.filter(|(begin, end)| begin < end).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the working seconds of the day.
    pub(super) fn total(&self) -> i64 {
        self.before(DAY)
    }

    /// Returns the working seconds before `second` of the day.
    pub(super) fn before(&self, second: i64) -> i64 {
        let worked = self.0.iter().map(|(from, to)| second.min(*to) - from);
        worked.filter(|seconds| *seconds > 0).sum()
    }
}

impl fmt::Display for DayHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks: Vec<_> = self.0.iter().map(|hours| block(*hours)).collect();
        f.write_str(&blocks.join(" "))
    }
}

fn block((from, to): (i64, i64)) -> String {
    let clock = |seconds: i64| {
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        match seconds {
            0 => format!("{hours:02}:{minutes:02}"),
            _ => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        }
    };
    format!("{}-{}", clock(from), clock(to))
}

/// Reads a time of the wall clock such as `09:00`, up to `24:00`.
fn clock_seconds(text: &str) -> Option<i64> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let number = |text: &str| -> Option<i64> {
        let is_two_digits = text.len() == 2 && text.bytes().all(|digit| digit.is_ascii_digit());
        is_two_digits.then(|| text.parse().ok())?
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let seconds = hours * 3600 + minutes * 60;
    (minutes < 60 && seconds <= DAY).then_some(seconds)
}
