//! The compiler for the page: rustup's where it has the WASM target or can get it, else Debian's.
//!
//! Debian has no standard library for `wasm32-unknown-unknown`, but it has the source: it is built
//! once, from an empty crate, and laid out as a sysroot of its own in the target folder, so that
//! nothing of the system's is changed and nobody need be root for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::packages;
use crate::run::{cargo, find, output, program, run, say, succeeds, target};

pub(crate) const TARGET: &str = "wasm32-unknown-unknown";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// What compiles for the page.
pub(crate) struct Toolchain {
    compiler: Compiler,
}

enum Compiler {
    /// The toolchain that runs us has the target.
    Own,
    /// Debian's, with the linker it lacks, and the standard library that we built unless the
    /// system has one.
    Debian {
        linker: PathBuf,
        sysroot: Option<PathBuf>,
    },
}

impl Toolchain {
    /// `cargo` for the page, up to its subcommand's arguments.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = match &self.compiler {
            Compiler::Own => cargo(),
            Compiler::Debian { linker, .. } => {
                let mut command = program(DEBIAN_CARGO);
                debian_environment(&mut command);
                command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
                command
            }
        };
        command.arg(subcommand).args(["--target", TARGET]);
        // Another compiler than that of the native builds: in one folder each would undo the
        // other's work.
        command.arg("--target-dir").arg(target().join("web"));
        if let Compiler::Debian {
            sysroot: Some(sysroot),
            ..
        } = &self.compiler
        {
            // Given so, it joins the flags of .cargo/config.toml; by RUSTFLAGS it would replace
            // them.
            let flag = format!(
                "target.{TARGET}.rustflags=[\"--sysroot={}\"]",
                sysroot.display()
            );
            command.args(["--config", &flag]);
        }
        command
    }
}

/// The compiler for the page; installed or built first where it is missing.
pub(crate) fn toolchain() -> Result<Toolchain> {
    fs::create_dir_all(target().join("web"))?;
    let own = Toolchain {
        compiler: Compiler::Own,
    };
    if compiles("rustc", None) {
        say("WASM: the toolchain has the target");
        return Ok(own);
    }
    let debian_only = std::env::var_os("CHIVE_WASM_STD").is_some_and(|std| std == "debian");
    if !debian_only && find("rustup").is_some() {
        say(format!("WASM: rustup target add {TARGET}"));
        let added = run(program("rustup").args(["target", "add", TARGET]));
        match added {
            Ok(()) if compiles("rustc", None) => return Ok(own),
            Ok(()) => say("WASM: it still does not compile"),
            Err(why) => say(format!("WASM: {why}")),
        }
    }
    debian()
}

/// Debian's compiler, its linker and its standard library.
fn debian() -> Result<Toolchain> {
    packages::for_wasm().context("the WASM target cannot be had from rustup, nor from Debian")?;
    let linker = match linker() {
        Some(linker) => linker,
        None => {
            packages::wasm_linker().context("no linker for WASM")?;
            linker().context("no linker for WASM")?
        }
    };
    let sysroot = if compiles(DEBIAN_RUSTC, None) {
        None
    } else {
        let sysroot = target().join("wasm-std").join("sysroot");
        if !compiles(DEBIAN_RUSTC, Some(&sysroot)) {
            build_std(&sysroot)?;
            if !compiles(DEBIAN_RUSTC, Some(&sysroot)) {
                bail!("the standard library was built, but {DEBIAN_RUSTC} does not accept it");
            }
        }
        Some(sysroot)
    };
    say(format!(
        "WASM: Debian's compiler, linked by {}",
        linker.display()
    ));
    Ok(Toolchain {
        compiler: Compiler::Debian { linker, sysroot },
    })
}

/// Whether a compiler has a standard library for WASM that it accepts: it compiles nothing with
/// it. That also tells a library that another version of the compiler left behind.
fn compiles(rustc: &str, sysroot: Option<&Path>) -> bool {
    let mut command = program(rustc);
    command.args([
        "--target",
        TARGET,
        "--crate-type",
        "lib",
        "--emit",
        "metadata",
        "-o",
    ]);
    command.arg(target().join("web").join("probe.rmeta"));
    if let Some(sysroot) = sysroot {
        command.arg("--sysroot").arg(sysroot);
    }
    if rustc == DEBIAN_RUSTC {
        debian_environment(&mut command);
    }
    // Its standard input, which is empty, is the source.
    succeeds(command.arg("-"))
}

/// Builds the standard library from Debian's source.
fn build_std(sysroot: &Path) -> Result<()> {
    say("WASM: building the standard library from Debian's source (a minute, once)");
    let folder = target().join("wasm-std");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(folder.join("src"))?;
    fs::write(folder.join("src/lib.rs"), "")?;
    let manifest = "[package]\nname = \"nothing\"\nedition = \"2024\"\n[workspace]\n";
    fs::write(folder.join("Cargo.toml"), manifest)?;
    let mut command = Command::new(DEBIAN_CARGO);
    debian_environment(&mut command);
    command
        .current_dir(&folder)
        // -Zbuild-std is not for a stable compiler otherwise.
        .env("RUSTC_BOOTSTRAP", "1")
        // The page is optimised as one with it, for which it must keep its bitcode.
        .env("RUSTFLAGS", "-Cembed-bitcode=yes -Ctarget-feature=+simd128")
        .args(["build", "--quiet", "--release", "--target", TARGET])
        // The source brings its own dependencies along.
        .args([
            "-Zbuild-std=std,panic_abort",
            "-Zbuild-std-features=",
            "--target-dir",
            "build",
        ]);
    run(&mut command)?;
    let libraries = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    fs::create_dir_all(&libraries)?;
    for entry in fs::read_dir(folder.join("build").join(TARGET).join("release/deps"))? {
        let file = entry?.path();
        let is_nothing = file
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("libnothing"));
        if file
            .extension()
            .is_some_and(|extension| extension == "rlib")
            && !is_nothing
        {
            fs::copy(&file, libraries.join(file.file_name().unwrap_or_default()))?;
        }
    }
    fs::remove_dir_all(folder.join("build"))?;
    Ok(())
}

/// Debian's compiler is run as itself, whatever the toolchain that runs us told its children.
fn debian_environment(command: &mut Command) {
    for name in [
        "CARGO",
        "RUSTUP_TOOLCHAIN",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
    ] {
        command.env_remove(name);
    }
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
    ] {
        command.env_remove(name);
    }
    command.env("RUSTC", DEBIAN_RUSTC).stdin(Stdio::null());
}

/// A linker for WASM: rustup's, else one on the path.
fn linker() -> Option<PathBuf> {
    let sysroots = ["rustc", DEBIAN_RUSTC].into_iter().filter_map(|rustc| {
        let sysroot = output(program(rustc).args(["--print", "sysroot"])).ok()?;
        let host = output(program(rustc).arg("-vV")).ok()?;
        let host = host
            .lines()
            .find_map(|line| line.strip_prefix("host: "))?
            .to_owned();
        Some(
            Path::new(&sysroot)
                .join("lib/rustlib")
                .join(host)
                .join("bin/rust-lld"),
        )
    });
    let named = ["rust-lld", "wasm-ld"].into_iter().filter_map(find);
    // A versioned one must be about as new as the compiler's LLVM.
    let versioned = (19..40)
        .rev()
        .filter_map(|version| find(&format!("wasm-ld-{version}")));
    sysroots
        .filter(|file| file.is_file())
        .chain(named)
        .chain(versioned)
        .next()
}
