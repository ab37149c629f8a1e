//! The `tallyhook` command.

use std::process::ExitCode;

use mimalloc::MiMalloc;

// glibc's allocator keeps the memory of large bodies for good.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    tallyhook::cli::main()
}
