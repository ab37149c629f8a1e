//! The observations of repositories as rows.

use std::collections::BTreeMap;

use sqlx::types::Json;

use super::row::RepositoryColumns;
use crate::columns::{Millis, Name, Seconds};
use crate::{Moment, RepositoryObservation};

impl RepositoryColumns {
    /// The columns of a repository that is seen at `now`.
    pub(crate) fn of(sighting: &RepositoryObservation, now: Moment) -> Self {
        let repository = &sighting.repository;
        Self {
            id: repository.id.0,
            name: repository.seen.value.name.clone(),
            private: repository.seen.value.private,
            seen_at: Seconds(repository.seen.at),
            installation_id: repository.installation.map(|id| id.0),
            access: Name(repository.access.value),
            access_at: Seconds(repository.access.at),
            tracked_since: Millis(sighting.tracks.unwrap_or(now)),
            tracked: sighting.tracks.is_some(),
            last_delivery_at: sighting.last_delivery.map(Millis),
            former_names: Json(former_names(sighting)),
        }
    }
}

/// The other names of a repository, in lower case.
fn former_names(sighting: &RepositoryObservation) -> BTreeMap<String, i64> {
    let present = &sighting.repository.seen.value.name;
    let names = sighting.former_names.iter();
    names
        .filter(|(name, _)| !name.eq_ignore_ascii_case(present))
        .map(|(name, at)| (name.to_ascii_lowercase(), at.epoch()))
        .collect()
}
