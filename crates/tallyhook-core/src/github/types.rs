//! GitHub's basic types, which all other modules share: timestamps, ids, accounts.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

/// A timestamp in whole seconds since 1970-01-01T00:00:00Z, the precision of GitHub's times of pull requests.
///
/// Read from RFC 3339 with any offset (fractions are cut off) or from an integer, since `push` and `installation`
/// payloads carry epoch seconds; written as RFC 3339 UTC with `Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Years 0001 to 9999, outside of which RFC 3339 has no form.
    const RANGE: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

    /// From seconds since the epoch; `None` outside the years 1 to 9999.
    pub fn from_epoch(seconds: i64) -> Option<Self> {
        Self::RANGE.contains(&seconds).then_some(Self(seconds))
    }

    /// From a date that is known to be in range; others are brought to the nearest end of it.
    pub const fn clamped(seconds: i64) -> Self {
        let (low, high) = (*Self::RANGE.start(), *Self::RANGE.end());
        Self(if seconds < low {
            low
        } else if seconds > high {
            high
        } else {
            seconds
        })
    }

    /// Reads RFC 3339, with any offset.
    pub fn parse(text: &str) -> Option<Self> {
        let moment = DateTime::parse_from_rfc3339(text).ok()?;
        Self::from_epoch(moment.timestamp())
    }

    /// Seconds since the epoch.
    pub const fn epoch(self) -> i64 {
        self.0
    }

    /// Returns the same time as a calendar date.
    pub fn to_utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.0, 0).unwrap_or(DateTime::UNIX_EPOCH)
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(moment: DateTime<Utc>) -> Self {
        Self::clamped(moment.timestamp())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_utc().to_rfc3339_opts(SecondsFormat::Secs, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimestampVisitor)
    }
}

struct TimestampVisitor;

impl de::Visitor<'_> for TimestampVisitor {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an RFC 3339 date or seconds since 1970")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
        Timestamp::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Timestamp, E> {
        Timestamp::from_epoch(seconds)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Signed(seconds), &self))
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Timestamp, E> {
        i64::try_from(seconds)
            .ok()
            .and_then(Timestamp::from_epoch)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(seconds), &self))
    }
}

macro_rules! github_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

github_id!(
    /// A repository's numeric id: stays through renames and transfers.
    RepoId
);
github_id!(
    /// A person's, bot's or organisation's numeric id: stays when the login changes.
    AccountId
);
github_id!(
    /// A review's numeric id. Not ordered by time of submission.
    ReviewId
);
github_id!(
    /// A GitHub App installation's numeric id.
    InstallationId
);
github_id!(
    /// A pull request's number within its repository.
    PrNumber
);

/// The key of a pull request: its repository's id and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrKey {
    pub repo: RepoId,
    pub number: PrNumber,
}

impl fmt::Display for PrKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.repo, self.number)
    }
}

/// The kind of an account.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
pub enum AccountKind {
    User,
    Bot,
    /// Whatever else GitHub names or will name: `Organization`, `Mannequin`, ...
    #[serde(other)]
    Other,
}

impl AccountKind {
    /// As it is stored and written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Bot => "Bot",
            Self::Other => "Other",
        }
    }
}

/// An account as a payload shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct Account {
    pub id: AccountId,
    pub login: String,
    #[serde(rename = "type")]
    pub kind: AccountKind,
}

impl Account {
    /// The one account that stands for every deleted one, as on GitHub itself.
    pub const GHOST: AccountId = AccountId(10_137);

    /// Returns the actor that stands for every deleted account.
    pub fn ghost() -> Self {
        Self {
            id: Self::GHOST,
            login: "ghost".to_owned(),
            kind: AccountKind::User,
        }
    }

    pub fn is_ghost(&self) -> bool {
        self.id == Self::GHOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_every_form_github_sends() {
        for text in [
            r#""2026-03-02T10:00:00Z""#,
            r#""2026-03-02T11:00:00.730+01:00""#,
            "1772445600",
        ] {
            let read: Timestamp = serde_json::from_str(text).unwrap();
            assert_eq!(read.to_string(), "2026-03-02T10:00:00Z", "{text}");
        }
        for text in [
            r#""yesterday""#,
            "1e300",
            "99999999999999",
            "-99999999999999",
            "[]",
        ] {
            assert!(serde_json::from_str::<Timestamp>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_unknown_kind_of_account_is_no_error() {
        let account: Account =
            serde_json::from_str(r#"{"id":1,"login":"m","type":"Mannequin"}"#).unwrap();
        assert_eq!(account.kind, AccountKind::Other);
    }
}
