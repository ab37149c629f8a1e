//! Failures of the database, during which webhooks are answered with 503, so that they are sent
//! again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::broker::{EVERYONE, RATE};
use crate::cluster::Cluster;
use crate::load::Load;
use crate::services::Services;
use crate::table::Row;
use crate::traffic::Traffic;
use crate::{Form, PATIENCE};

/// The limit of the long form from the return of the database to the first applied delivery.
const HEALED: Duration = Duration::from_secs(15);

/// PostgreSQL's immediate mode: connections end without notice, and the next start is a recovery.
pub(crate) fn stopped(services: &Services, form: Form) -> Row {
    let rounds = form.of(2, 5);
    let cluster = Cluster::start(services, &EVERYONE);
    let traffic = Arc::new(Traffic::new(9, 12_000));
    cluster.connected();
    let load = Load::start(
        &traffic,
        &cluster.targets,
        (0, traffic.len()),
        Some(RATE as f64),
    );
    let (mut slowest, mut refused) = (None, 0);
    for _ in 0..rounds {
        cluster.finishes_more_than(cluster.finished() + RATE as u64);
        let already = load.refused();
        services.verb("stop postgres");
        crate::until("deliveries are refused", PATIENCE, || {
            load.refused() > already + 10
        });
        services.verb("start postgres");
        let back = cluster.finishes_more_than(cluster.finished_when_it_answers());
        assert!(
            form == Form::Short || back < HEALED,
            "it took {back:?} to heal"
        );
        slowest = slowest.max(Some(back));
        refused = load.refused();
    }
    let returned = Instant::now();
    let posted = load.stop();
    cluster.drained_within(PATIENCE);
    let outcome = cluster.check(&traffic.expected(posted.requests, &Default::default()));
    assert_eq!(outcome.counts.dead, 0);
    let note = format!("{rounds} times; {refused} answers were not 2xx and sent again");
    Row {
        posted,
        outcome,
        back: slowest,
        all: Some(returned.elapsed()),
        note,
    }
}
