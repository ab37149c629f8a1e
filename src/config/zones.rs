//! Time zones by their IANA names.

use std::str::FromStr;

use jiff::tz::{self, TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Deserializer, de};

use super::nearest::nearest;

/// A time zone: of the system's files, or else of those that are compiled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedZone {
    /// The IANA name as the database spells it.
    pub name: String,
    pub time_zone: TimeZone,
}

/// An error for a text that is no [`NamedZone`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an IANA time zone such as Europe/Berlin or UTC{meant}")]
pub struct UnknownZone {
    meant: String,
}

impl FromStr for NamedZone {
    type Err = UnknownZone;

    fn from_str(text: &str) -> Result<Self, UnknownZone> {
        let text = text.trim();
        let found = tz::db().get(text);
        let found = found.or_else(|_| TimeZoneDatabase::bundled().get(text));
        let zone = found.ok().filter(|zone| !zone.is_unknown());
        let name = |zone: &TimeZone| zone.iana_name().map(str::to_owned);
        match zone.and_then(|zone| Some((name(&zone)?, zone))) {
            Some((name, time_zone)) => Ok(Self { name, time_zone }),
            None => Err(UnknownZone { meant: meant(text) }),
        }
    }
}

fn meant(text: &str) -> String {
    let names: Vec<_> = TimeZoneDatabase::bundled()
        .available()
        .map(|name| name.as_str().to_owned())
        .collect();
    let city = |name: &&String| {
        let (_, city) = name.rsplit_once('/').unwrap_or(("", name));
        city.eq_ignore_ascii_case(&text.replace(' ', "_"))
    };
    let found = names.iter().find(city).map(String::as_str);
    let found = found.or_else(|| nearest(text, names.iter().map(String::as_str)));
    found.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

impl<'de> Deserialize<'de> for NamedZone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_found_by_name_and_others_are_refused_with_the_one_that_was_meant() {
        for (text, name) in [
            ("Europe/Berlin", "Europe/Berlin"),
            ("europe/berlin", "Europe/Berlin"),
            ("UTC", "UTC"),
        ] {
            assert_eq!(text.parse::<NamedZone>().unwrap().name, name);
        }
        for (text, words) in [
            ("Europe/Berln", "; did you mean `Europe/Berlin`?"),
            ("berlin", "; did you mean `Europe/Berlin`?"),
            ("New York", "; did you mean `America/New_York`?"),
            ("+02:00", "expected an IANA time zone"),
            ("Etc/Unknown", "expected an IANA time zone"),
            ("", "expected an IANA time zone"),
            ("../../etc/passwd", "expected an IANA time zone"),
        ] {
            let error = text.parse::<NamedZone>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
