//! Tests of the program as a process: its commands, its end by signals and at crash points, what it
//! writes.

mod backfill_killed;
mod cli;
mod doctor;
mod kill;
mod notifier_killed;
mod odd_bodies;
mod readme;
mod recover;
mod secrets;
