//! The chores that are mostly other programs' work.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Result, bail};

use crate::run::{cargo, find, program, root, run, say, target};
use crate::{packages, page};

/// Builds all of it and plays a torrent.
pub(crate) fn demo(with_browser: bool, arguments: &[OsString]) -> Result<()> {
    if with_browser {
        packages::for_check();
    }
    page::build(false)?;
    say("building the bridge, the facilitator and the demo");
    binaries(&["chive-bridge", "chive-facilitator", "chive-tests"])?;
    exec(program(target().join("release/chive-demo")).args(arguments))
}

/// Simulates a network.
pub(crate) fn sim(arguments: &[OsString]) -> Result<()> {
    say("building the simulation");
    binaries(&["chive-tests"])?;
    exec(program(target().join("release/chive-sim")).args(arguments))
}

/// Runs all tests.
pub(crate) fn test(filter: Option<&str>) -> Result<()> {
    packages::for_tests();
    page::build(false)?;
    say("building the bridge and the facilitator");
    binaries(&["chive-bridge", "chive-facilitator", "chive-tests"])?;
    say("running the tests");
    let mut tests = cargo();
    tests.args(["test", "--release", "--workspace", "--no-fail-fast"]);
    if let Some(filter) = filter {
        tests.args(["--", filter]);
    }
    run(&mut tests)?;
    if filter.is_none() {
        match find("node") {
            Some(node) => {
                say("running the page's tests");
                let tests = root().join("web/tests");
                let mut files: Vec<_> = std::fs::read_dir(tests)?
                    .map(|entry| Ok(entry?.path()))
                    .collect::<Result<_>>()?;
                files.retain(|file| file.to_string_lossy().ends_with(".test.js"));
                files.sort();
                run(program(node).arg("--test").args(files))?;
            }
            None => say("SKIPPED: the page's tests, for node is not installed"),
        }
    }
    say("all tests passed");
    Ok(())
}

/// Measures.
pub(crate) fn bench(arguments: &[OsString]) -> Result<()> {
    packages::for_tests();
    page::build(false)?;
    say("building the bridge, the facilitator and the benchmarks");
    binaries(&["chive-bridge", "chive-facilitator"])?;
    // Apart from the rest, which needs no peer's library built.
    let mut benchmarks = cargo();
    benchmarks.args([
        "build",
        "--release",
        "--quiet",
        "--package",
        "chive-benches",
    ]);
    run(benchmarks.args(["--features", "librqbit"]))?;
    exec(program(target().join("release/chive-bench")).args(arguments))
}

/// Formatting, lints, documentation.
pub(crate) fn tidy() -> Result<()> {
    say("formatting");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    say("lints");
    let clippy = [
        "clippy",
        "--release",
        "--workspace",
        "--all-targets",
        "--quiet",
    ];
    run(cargo().args(clippy).args(["--", "--deny", "warnings"]))?;
    say("documentation");
    let doc = [
        "doc",
        "--release",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--quiet",
    ];
    run(cargo().args(doc).env(
        "RUSTDOCFLAGS",
        "--deny warnings --allow rustdoc::private_intra_doc_links",
    ))?;
    say("tidy");
    Ok(())
}

fn binaries(packages: &[&str]) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--release", "--quiet", "--bins"]);
    for package in packages {
        build.args(["--package", package]);
    }
    run(&mut build)
}

/// Becomes another program, so that Ctrl-C and exit codes are its own.
fn exec(command: &mut Command) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        let why = command.exec();
        bail!(
            "cannot run {}: {why}",
            command.get_program().to_string_lossy()
        );
    }
    #[cfg(not(unix))]
    {
        run(command)
    }
}
