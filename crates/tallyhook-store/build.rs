//! Cargo does not see by itself that a migration was added: the macro that embeds them names a
//! folder.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations");
}
