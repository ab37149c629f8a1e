//! Tests of the program as a process: its commands, its end by signals and at crash points, what it
//! writes.

mod backfill_killed;
mod business_time;
mod cli;
mod connections;
mod descriptors;
mod doctor;
mod init;
mod kill;
mod logging;
#[cfg(target_os = "linux")]
mod memory;
mod notifier_killed;
mod odd_bodies;
mod reading;
mod readme;
mod recover;
mod renumbering_killed;
mod replay;
mod restart;
mod secrets;
mod secrets_keys;
mod signals;
mod storage;
mod tables;
mod teams;
mod terminal;
mod weak_secrets;
mod wrong_uses;
