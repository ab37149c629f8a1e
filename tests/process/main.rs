//! Tests of the program as a process: its commands, its end by signals and at crash points, what it
//! writes.

mod backfill_killed;
mod cli;
mod descriptors;
mod doctor;
mod kill;
mod logging;
mod notifier_killed;
mod readme;
mod recover;
mod restart;
mod secrets;
