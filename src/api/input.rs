//! Query strings and JSON bodies as types, with errors in our own words.
//!
//! serde's derived code reports errors through [`de::Error`]; [`InputError`] implements it, so that
//! no parser's text reaches a client: an error names the parameter, its value and the forms that
//! work.

use std::fmt;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, IntoDeserializer, Visitor};
use serde_json::Value;
use tallyhook_core::text::one_line;

use super::error::ApiError;

/// Characters of a wrong value that an error repeats.
const MAX_VALUE: usize = 60;
/// The similarity from which on a known name is suggested for an unknown one.
const SIMILAR: f64 = 0.7;

/// The query string of a request. Unknown and repeated parameters are refused by
/// [`super::routes`], which knows those of the documented call.
pub(super) struct QueryInput<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest for QueryInput<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(parse_query(request.query_string()).map(Self))
    }
}

/// Reads a query string.
///
/// # Errors
/// The parameter, its value and the forms that work.
pub(super) fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, ApiError> {
    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let fields = pairs
        .iter()
        .map(|(name, text)| (name.as_ref(), Field::new(name, FieldValue::Text(text))));
    let read = T::deserialize(MapDeserializer::new(fields));
    read.map_err(|error: InputError| ApiError::BadRequest(error.message))
}

/// A JSON body.
pub(super) struct JsonInput<T>(pub(super) T);

/// A JSON body that may be left out or null, and then is read as `{}`.
pub(super) struct OptionalJsonInput<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest for JsonInput<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = read_body(request, payload);
        async move { parse_object(&body.await?).map(Self) }.boxed_local()
    }
}

impl<T: DeserializeOwned> FromRequest for OptionalJsonInput<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = read_body(request, payload);
        async move {
            match body.await?.as_ref() {
                b"" | b"null" => parse_object(b"{}"),
                body => parse_object(body),
            }
            .map(Self)
        }
        .boxed_local()
    }
}

/// Returns the body of a request, which is JSON unless it is empty.
fn read_body(
    request: &HttpRequest,
    payload: &mut Payload,
) -> impl Future<Output = Result<Bytes, ApiError>> + use<> {
    let is_json = is_json(request);
    let body = Bytes::from_request(request, payload);
    async move {
        let unread = |_| ApiError::BadRequest("the body of the request cannot be read".to_owned());
        let body = body.await.map_err(unread)?;
        if is_json || body.is_empty() {
            Ok(body)
        } else {
            Err(ApiError::MediaType("application/json"))
        }
    }
}

/// Returns true unless the request says that its body is something else than JSON.
fn is_json(request: &HttpRequest) -> bool {
    let Some(value) = request.headers().get(CONTENT_TYPE) else {
        return true;
    };
    let value = value.to_str().unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json")
}

fn parse_object<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() {
        let message = "the body is missing: send a JSON object as `Content-Type: application/json`";
        return Err(ApiError::BadRequest(message.to_owned()));
    }
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        let place = format!("line {} column {}", error.line(), error.column());
        ApiError::BadRequest(format!("the body is not JSON: see {place}"))
    })?;
    let Value::Object(fields) = &value else {
        let message = "the body must be a JSON object, such as {\"name\": \"value\"}";
        return Err(ApiError::BadRequest(message.to_owned()));
    };
    let fields = fields
        .iter()
        .map(|(name, value)| (name.as_str(), Field::new(name, FieldValue::Json(value))));
    let read = T::deserialize(MapDeserializer::new(fields));
    read.map_err(|error: InputError| ApiError::BadRequest(error.message))
}

/// Returns ` (did you mean NAME?)` if a known name is close to `name`, and nothing otherwise.
pub(super) fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let similar = |one: &&str| strsim::jaro_winkler(name, one);
    let nearest = known
        .into_iter()
        .max_by(|one, two| similar(one).total_cmp(&similar(two)));
    match nearest.filter(|nearest| similar(nearest) > SIMILAR) {
        Some(nearest) => format!(" (did you mean `{nearest}`?)"),
        None => String::new(),
    }
}

/// Returns names as `a, b and c`, with `last` before the last one.
pub(super) fn enumerated(names: &[&str], last: &str) -> String {
    match names {
        [] => "nothing".to_owned(),
        [name] => (*name).to_owned(),
        [names @ .., end] => format!("{} {last} {end}", names.join(", ")),
    }
}

/// An error of a field, as the client reads it.
#[derive(Debug)]
struct InputError {
    message: String,
    /// The message names the field.
    is_complete: bool,
}

impl InputError {
    fn complete(message: String) -> Self {
        let is_complete = true;
        Self {
            message,
            is_complete,
        }
    }

    fn expected(what: &str) -> Self {
        let (message, is_complete) = (format!("expected {what}"), false);
        Self {
            message,
            is_complete,
        }
    }

    fn about(self, name: &str, found: &str) -> Self {
        if self.is_complete {
            return self;
        }
        let found = if found.is_empty() { "empty" } else { found };
        Self::complete(format!("`{name}` is {found}: {}", self.message))
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InputError {}

impl de::Error for InputError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let (message, is_complete) = (message.to_string(), false);
        Self {
            message,
            is_complete,
        }
    }

    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = expected.to_string();
        Self::expected(match expected.as_str() {
            "a string" => "a text",
            "a boolean" => "true or false",
            "u8" | "u16" | "u32" | "u64" | "usize" | "i64" => "a whole number",
            other => other,
        })
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let suggestion = suggestion(variant, expected.iter().copied());
        Self::expected(&format!("{}{suggestion}", enumerated(expected, "or")))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let (field, names) = (one_line(field, MAX_VALUE), enumerated(expected, "and"));
        let suggestion = suggestion(&field, expected.iter().copied());
        Self::complete(format!(
            "the body has an unknown field `{field}`{suggestion}; known are {names}"
        ))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::complete(format!("`{field}` is missing"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::complete(format!("`{field}` is given more than once"))
    }
}

/// A named value of a query or of a body.
#[derive(Clone, Copy)]
struct Field<'a> {
    name: &'a str,
    value: FieldValue<'a>,
}

#[derive(Clone, Copy)]
enum FieldValue<'a> {
    /// Of a query, where numbers are texts.
    Text(&'a str),
    Json(&'a Value),
}

impl<'a> Field<'a> {
    fn new(name: &'a str, value: FieldValue<'a>) -> Self {
        Self { name, value }
    }

    /// Returns the value as errors show it.
    fn found(self) -> String {
        match self.value {
            FieldValue::Text("") => String::new(),
            FieldValue::Text(text) => format!("`{}`", one_line(text, MAX_VALUE)),
            FieldValue::Json(value) => one_line(&value.to_string(), MAX_VALUE),
        }
    }

    /// Visits the value, as a number or a Boolean value where the parser of texts finds one.
    fn visit<'de, V: Visitor<'de>, N: IntoDeserializer<'de, InputError>>(
        self,
        visitor: V,
        parse: impl Fn(&str) -> Option<N>,
    ) -> Result<V::Value, InputError> {
        let read = match self.value {
            FieldValue::Text(text) => match parse(text) {
                Some(value) => {
                    de::Deserializer::deserialize_any(value.into_deserializer(), visitor)
                }
                None => visitor.visit_str(text),
            },
            FieldValue::Json(Value::Null) => visitor.visit_unit(),
            FieldValue::Json(Value::Bool(value)) => visitor.visit_bool(*value),
            FieldValue::Json(Value::String(text)) => visitor.visit_str(text),
            FieldValue::Json(Value::Number(number)) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => visitor.visit_i64(number),
                (None, Some(number)) => visitor.visit_u64(number),
                (None, None) => match number.as_f64().unwrap_or(f64::NAN) {
                    // `7.0` is a whole number, too.
                    #[allow(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
                    whole if whole.fract() == 0.0 && whole.abs() < 9e15 => {
                        visitor.visit_i64(whole as i64)
                    }
                    number => visitor.visit_f64(number),
                },
            },
            FieldValue::Json(Value::Array(items)) => {
                let items = items
                    .iter()
                    .map(|item| Self::new(self.name, FieldValue::Json(item)));
                visitor.visit_seq(SeqDeserializer::new(items))
            }
            FieldValue::Json(Value::Object(fields)) => {
                let fields = fields
                    .iter()
                    .map(|(name, value)| (name.as_str(), Self::new(name, FieldValue::Json(value))));
                visitor.visit_map(MapDeserializer::new(fields))
            }
        };
        read.map_err(|error| error.about(self.name, &self.found()))
    }
}

fn no_number(_: &str) -> Option<bool> {
    None
}

fn whole_number(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn truth(text: &str) -> Option<bool> {
    text.parse().ok()
}

impl<'de> IntoDeserializer<'de, InputError> for Field<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> de::Deserializer<'de> for Field<'_> {
    type Error = InputError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, InputError> {
        self.visit(visitor, no_number)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, InputError> {
        self.visit(visitor, truth)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, InputError> {
        self.visit(visitor, whole_number)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, InputError> {
        self.visit(visitor, whole_number)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, InputError> {
        match self.value {
            FieldValue::Json(Value::Null) => visitor.visit_none(),
            _ => {
                let read = visitor.visit_some(self);
                // Types that check a range report it themselves, without the name.
                read.map_err(|error: InputError| error.about(self.name, &self.found()))
            }
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, InputError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, InputError> {
        let text = match self.value {
            FieldValue::Text(text) => Some(text),
            FieldValue::Json(value) => value.as_str(),
        };
        let Some(text) = text else {
            let forms = enumerated(variants, "or");
            return Err(InputError::expected(&forms).about(self.name, &self.found()));
        };
        let variant: de::value::StrDeserializer<'_, InputError> = text.into_deserializer();
        let read = visitor.visit_enum(variant);
        read.map_err(|error| error.about(self.name, &self.found()))
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Colour {
        Red,
        DarkGreen,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        text: Option<String>,
        number: Option<i64>,
        small: Option<u32>,
        #[serde(default)]
        truth: bool,
        colour: Option<Colour>,
    }

    fn error<T>(read: Result<T, ApiError>) -> String {
        read.err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn query_errors_name_parameter_value_and_forms() {
        let query = "text=7&number=-7&small=7&truth=true&colour=dark_green";
        let read: Wanted = parse_query(query).unwrap();
        let text = Some("7".to_owned());
        assert_eq!(
            (read.text, read.number, read.small),
            (text, Some(-7), Some(7))
        );
        assert_eq!((read.truth, read.colour), (true, Some(Colour::DarkGreen)));
        for (query, expected) in [
            (
                "number=seven",
                "`number` is `seven`: expected a whole number",
            ),
            ("number=", "`number` is empty: expected a whole number"),
            (
                "number=99999999999999999999",
                "`number` is `99999999999999999999`: expected a whole number",
            ),
            ("small=-1", "`small` is `-1`: expected a whole number"),
            ("truth=1", "`truth` is `1`: expected true or false"),
            (
                "colour=dark_gren",
                "`colour` is `dark_gren`: expected red or dark_green (did you mean `dark_green`?)",
            ),
            ("text=a&text=b", "`text` is given more than once"),
        ] {
            assert_eq!(error(parse_query::<Wanted>(query)), expected, "{query}");
        }
    }

    #[test]
    fn body_errors_name_field_value_and_forms() {
        for (body, expected) in [
            (
                r#"{"number": "7"}"#,
                "`number` is \"7\": expected a whole number",
            ),
            (
                r#"{"number": 7.5}"#,
                "`number` is 7.5: expected a whole number",
            ),
            (
                r#"{"small": 4294967296}"#,
                "`small` is 4294967296: expected a whole number",
            ),
            (
                r#"{"text": {"a": 1}}"#,
                "`text` is {\"a\":1}: expected a text",
            ),
            (
                r#"{"truth": null}"#,
                "`truth` is null: expected true or false",
            ),
            (
                r#"{"colour": 1}"#,
                "`colour` is 1: expected red or dark_green",
            ),
            (
                r#"{"txet": "a"}"#,
                "the body has an unknown field `txet` (did you mean `text`?); known are text, number, small, truth and colour",
            ),
            (
                "",
                "the body is missing: send a JSON object as `Content-Type: application/json`",
            ),
            (
                "[]",
                "the body must be a JSON object, such as {\"name\": \"value\"}",
            ),
            (
                "{\n\"text\": }",
                "the body is not JSON: see line 2 column 9",
            ),
        ] {
            assert_eq!(
                error(parse_object::<Wanted>(body.as_bytes())),
                expected,
                "{body}"
            );
        }
    }
}
