//! Where the tools lie that the tests share with others: real software to try ours against.

use std::path::{Path, PathBuf};

/// The tool `name` (a path under the folder of shared tools): none, and a word on stderr, if it is
/// not there.
///
/// The folder is `CHIVE_SHARED`, or `shared` beside the checkout.
pub fn tool(name: &str) -> Option<PathBuf> {
    let folder = match std::env::var_os("CHIVE_SHARED") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
    };
    let tool = folder.join(name);
    if tool.exists() {
        return Some(tool);
    }
    eprintln!(
        "SKIPPED: {} is not there (set CHIVE_SHARED)",
        tool.display()
    );
    None
}

/// The program `name` in `PATH` or where Debian has daemons: none, and a word on stderr, if it is
/// not there.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders
        .map(|folder| folder.join(name))
        .find(|program| program.exists());
    if found.is_none() {
        eprintln!("SKIPPED: the program {name} is not installed");
    }
    found
}
