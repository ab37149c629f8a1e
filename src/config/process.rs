//! Variables of the process that are no settings: they are not in the file and not in `--help`.

/// Reads the log filter from `RUST_LOG`. An empty one counts as unset, as with every setting.
pub fn log_filter() -> Option<String> {
    std::env::var("RUST_LOG")
        .ok()
        .filter(|filter| !filter.trim().is_empty())
}

/// Reads the crash points of the kill tests: `TALLYHOOK_CRASH_AT=name:times` and
/// `TALLYHOOK_POISON_GUID`.
#[cfg(feature = "crash-points")]
pub fn crash_plan() -> tallyhook_core::crash_point::CrashPlan {
    let point = std::env::var("TALLYHOOK_CRASH_AT").ok().and_then(|text| {
        let (name, times) = text.split_once(':')?;
        Some((name.to_owned(), times.parse().ok()?))
    });
    tallyhook_core::crash_point::CrashPlan {
        point,
        poison: std::env::var("TALLYHOOK_POISON_GUID").ok(),
    }
}
