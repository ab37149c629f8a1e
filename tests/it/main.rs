//! Tests from outside on servers within this process: on the embedded store and queue, or on
//! PostgreSQL and RabbitMQ with `TALLYHOOK_TEST_ON=services`. The suites of store and queue choose
//! each kind by themselves.

mod access;
mod api;
mod api_sync;
mod architecture;
mod audit;
mod backfill;
mod backfill_faults;
mod bad_input;
mod bodies;
mod fake_github;
mod fixtures;
mod github_calls;
mod github_client;
mod hints;
mod hostile;
mod hot;
mod http;
mod impossible_facts;
mod inbox;
mod ingest;
mod isolation;
mod leader;
mod lossy_world;
mod notifier;
mod openapi;
mod order;
mod outage;
mod pages;
mod poller;
mod poller_idle;
mod queue;
#[cfg(feature = "recorded")]
mod recorded;
mod refetch;
mod report;
mod repositories;
mod secrets;
mod sessions;
mod statistics;
mod store;
mod strangers;
mod task_prs;
mod task_worktrees;
mod tasks;
mod team_sessions;
mod teams;
mod waiting;
mod worker_log;
mod worktree;
mod ws;
