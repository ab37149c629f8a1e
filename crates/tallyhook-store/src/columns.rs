//! Types of columns that are stored differently by the two kinds of database.

use std::fmt;

use chrono::{DateTime, Utc};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde::{Deserialize, Serialize};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::types::Json;
use sqlx::{Database, Decode, Encode, Type};
use sqlx_postgres::Postgres;
use sqlx_sqlite::Sqlite;
use tallyhook_core::github::types::Timestamp;

use super::{Moment, Result};

/// Replaces U+0000, which PostgreSQL refuses, so that both kinds of database store the same text.
/// Facts are free of it already; texts of people and errors may have it.
pub(crate) fn storable_text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A count as a column has it.
pub(crate) fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A column of JSON; what is stored always has such a form.
pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()).into())
}

pub(crate) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()).into())
}

/// A timestamp of GitHub's: whole seconds since 1970 in SQLite, `timestamptz` in PostgreSQL, RFC
/// 3339 in JSON.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Seconds(pub(crate) Timestamp);

/// A timestamp by our own clock: milliseconds since 1970 in SQLite, `timestamptz` in PostgreSQL,
/// RFC 3339 in JSON.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Millis(pub(crate) Moment);

/// An enum by the name that serde gives it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Name<T>(pub(crate) T);

/// A list of texts: JSON in SQLite, `text[]` in PostgreSQL.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Words(pub(crate) Vec<String>);

impl<T: Serialize> fmt::Display for Name<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.serialize(f)
    }
}

/// Implements the storage of `$type` as `$stored`, which `$read` turns into it and `$write` makes
/// of it.
macro_rules! stored {
    ($database:ty: $type:ty as $stored:ty, $read:expr, $write:expr) => {
        impl Type<$database> for $type {
            fn type_info() -> <$database as Database>::TypeInfo {
                <$stored as Type<$database>>::type_info()
            }

            fn compatible(given: &<$database as Database>::TypeInfo) -> bool {
                <$stored as Type<$database>>::compatible(given)
            }
        }

        impl<'r> Decode<'r, $database> for $type {
            fn decode(value: <$database as Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
                let read: fn($stored) -> Self = $read;
                Ok(read(<$stored as Decode<'r, $database>>::decode(value)?))
            }
        }

        impl<'q> Encode<'q, $database> for $type {
            fn encode_by_ref(
                &self,
                buffer: &mut <$database as Database>::ArgumentBuffer,
            ) -> Result<IsNull, BoxDynError> {
                let write: fn(&Self) -> $stored = $write;
                <$stored as Encode<'_, $database>>::encode(write(self), buffer)
            }
        }
    };
}

stored!(Sqlite: Seconds as i64, |seconds| Self(Timestamp::clamped(seconds)), |Self(at)| at.epoch());
stored!(Postgres: Seconds as DateTime<Utc>, |at| Self(at.into()), |Self(at)| at.to_utc());
stored!(
    Sqlite: Millis as i64,
    |millis| Self(DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::UNIX_EPOCH)),
    |Self(at)| at.timestamp_millis()
);
stored!(Postgres: Millis as DateTime<Utc>, Self, |Self(at)| *at);
stored!(
    Sqlite: Words as Json<Vec<String>>,
    |Json(words)| Self(words),
    |Self(words)| Json(words.clone())
);
stored!(Postgres: Words as Vec<String>, Self, |Self(words)| words.clone());

impl FromSql for Seconds {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(|seconds| Self(Timestamp::clamped(seconds)))
    }
}

impl FromSql for Words {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map_err(FromSqlError::other)
    }
}

impl<T: DeserializeOwned> FromSql for Name<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let name: StrDeserializer<'_, serde::de::value::Error> =
            value.as_str()?.into_deserializer();
        T::deserialize(name).map(Self).map_err(FromSqlError::other)
    }
}

impl<DB: Database, T> Type<DB> for Name<T>
where
    String: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        String::type_info()
    }

    fn compatible(given: &DB::TypeInfo) -> bool {
        String::compatible(given)
    }
}

impl<'r, DB: Database, T: DeserializeOwned> Decode<'r, DB> for Name<T>
where
    &'r str: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
        let name: StrDeserializer<'_, serde::de::value::Error> =
            <&str>::decode(value)?.into_deserializer();
        Ok(Self(T::deserialize(name)?))
    }
}

impl<'q, DB: Database, T: Serialize> Encode<'q, DB> for Name<T>
where
    String: Encode<'q, DB>,
{
    fn encode_by_ref(&self, buffer: &mut DB::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
        self.to_string().encode(buffer)
    }
}
