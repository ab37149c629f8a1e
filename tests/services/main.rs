//! Tests of what only PostgreSQL and RabbitMQ have, on the servers of `scripts/services`.

mod backup;
mod rabbitmq;
mod store_plans;
