//! Tests of behaviour with PostgreSQL and RabbitMQ only, on the servers of `scripts/services`.

mod alerts;
mod backup;
mod boards;
mod clock;
mod rabbitmq;
mod store_plans;
