//! Tests of the program as a process: its commands, its end by signals and at crash points, what it
//! writes.

mod backfill_killed;
mod cli;
mod connections;
mod doctor;
mod kill;
#[cfg(target_os = "linux")]
mod memory;
mod notifier_killed;
mod readme;
mod recover;
mod secrets;
mod weak_secrets;
