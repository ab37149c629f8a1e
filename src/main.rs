//! The `tallyhook` command.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

// glibc's allocator keeps the memory of large bodies for good.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    tallyhook::cli::main()
}
