//! The `tallyhook` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    tallyhook::cli::main()
}
