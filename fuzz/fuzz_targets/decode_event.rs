//! Any body as any event: nothing panics, and what decodes keeps the laws. The first byte chooses the event.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target, fuzzer_mutate};
use serde_json::Value;
use tallyhook_core::event::NAMES;

#[path = "../../tests/support/laws.rs"]
mod laws;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((first, body)) = data.split_first() else {
        return Corpus::Reject;
    };
    laws::check(NAMES[usize::from(*first) % NAMES.len()], body);
    Corpus::Keep
});

// Half of the mutations change a value and leave the JSON whole, so that the laws behind the parser are reached.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed % 2 == 0
        && let Some((first, body)) = data[..size].split_first()
        && let Ok(mut payload) = serde_json::from_slice::<Value>(body)
    {
        let mut place = seed as usize / 2 % count(&payload).max(1);
        change(&mut payload, &mut place, seed);
        let text = payload.to_string();
        if text.len() < max_size {
            let first = *first;
            data[0] = first;
            data[1..=text.len()].copy_from_slice(text.as_bytes());
            return text.len() + 1;
        }
    }
    fuzzer_mutate(data, size, max_size)
});

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// Changes the value that is `place` values further on.
fn change(value: &mut Value, place: &mut usize, seed: u32) {
    if *place == 0 {
        *place = usize::MAX;
        *value = changed(value, seed / 64);
        return;
    }
    *place -= 1;
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| step(item, place, seed)),
        Value::Object(fields) => fields.values_mut().for_each(|field| step(field, place, seed)),
        _ => {}
    }
}

fn step(value: &mut Value, place: &mut usize, seed: u32) {
    if *place != usize::MAX {
        change(value, place, seed);
    }
}

fn changed(value: &Value, seed: u32) -> Value {
    let moment = 1_772_000_000 + i64::from(seed % 4_000_000);
    match seed % 11 {
        0 => Value::Null,
        1 => i64::MAX.into(),
        2 => (-1).into(),
        3 => moment.into(),
        4 => "9999-12-31T23:59:59Z".into(),
        5 => "open".into(),
        6 => "closed".into(),
        7 => Value::Array(vec![value.clone()]),
        8 => Value::Object(serde_json::Map::new()),
        9 => Value::Bool(seed % 2 == 0),
        _ => i64::from(seed % 64).into(),
    }
}
