//! Tests of the program as a process: its commands, its end by signals and at crash points, what it
//! writes.

mod backfill_killed;
mod cli;
<<<<<<< HEAD
mod connections;
mod descriptors;
||||||| a35224b
=======
mod descriptors;
>>>>>>> harden/process
mod doctor;
mod kill;
mod logging;
mod notifier_killed;
mod odd_bodies;
mod readme;
mod recover;
mod restart;
mod secrets;
mod storage;
mod terminal;
mod weak_secrets;
