//! The page: the core compiled for the tab, its JavaScript glue, and what lies in `web/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};
use wasm_bindgen_cli_support::Bindgen;
use zopfli::Format;

use crate::run::{root, run, say, target};
use crate::wasm;

/// What the page's module may weigh on its way to a slow line: with Kademlia, WebRTC and the store.
const MAX_GZIPPED_BYTES: u64 = 500_000;
const MODULE: &str = "chive_node";

/// Builds the page into `web/dist`; touches there only what changed.
pub(crate) fn build(clean: bool) -> Result<()> {
    let dist = root().join("web/dist");
    let glue = target().join("web/glue");
    if clean {
        say("page: forgetting what was built");
        let compiled = target().join("web").join(wasm::TARGET);
        for folder in [&dist, &glue, &compiled] {
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
        }
    }
    let toolchain = wasm::toolchain()?;
    say("page: compiling the core for the tab");
    let mut cargo = toolchain.cargo("rustc");
    cargo.args([
        "--quiet",
        "--package",
        "chive-node",
        "--lib",
        "--crate-type",
        "cdylib",
    ]);
    run(cargo.args(["--features", "web", "--profile", "wasm"]))?;
    let compiled = target()
        .join("web")
        .join(wasm::TARGET)
        .join("wasm")
        .join(format!("{MODULE}.wasm"));
    make_glue(&compiled, &glue)?;
    weigh(&glue)?;

    let mut files = BTreeMap::new();
    collect(&glue, &glue, &mut files)?;
    collect(&root().join("web"), &root().join("web"), &mut files)?;
    lay_out(&files, &dist)
}

/// Makes the JavaScript glue, unless it was made of this very module.
fn make_glue(compiled: &Path, glue: &Path) -> Result<()> {
    let facts = fs::metadata(compiled).with_context(|| format!("no {}", compiled.display()))?;
    let age = facts.modified()?.duration_since(UNIX_EPOCH)?.as_nanos();
    let stamp = format!("{} {age} {}\n", facts.len(), wasm_bindgen_shared_version());
    let stamp_file = glue.join(".stamp");
    if fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
        return Ok(());
    }
    say("page: making the glue");
    if glue.exists() {
        fs::remove_dir_all(glue)?;
    }
    Bindgen::new()
        .input_path(compiled)
        .web(true)?
        .typescript(false)
        .remove_name_section(true)
        .remove_producers_section(true)
        .out_name(MODULE)
        .generate(glue)
        .context("the glue (is wasm-bindgen of one version throughout Cargo.lock?)")?;
    say("page: packing the module");
    let module = glue.join(format!("{MODULE}_bg.wasm"));
    let mut packed = Vec::new();
    // It is packed once and sent often: seconds of zopfli are worth a twentieth of it.
    zopfli::compress(
        zopfli::Options::default(),
        Format::Gzip,
        fs::File::open(&module)?,
        &mut packed,
    )?;
    fs::write(module.with_extension("wasm.gz"), packed)?;
    fs::write(stamp_file, stamp)?;
    Ok(())
}

fn wasm_bindgen_shared_version() -> String {
    // Both halves of wasm-bindgen are in one lock file; when it changes, so may the glue.
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap_or_default();
    let mut lines = lock
        .lines()
        .skip_while(|line| *line != "name = \"wasm-bindgen-cli-support\"");
    lines.nth(1).unwrap_or_default().to_owned()
}

/// Says what the module weighs; fails above the limit.
fn weigh(glue: &Path) -> Result<()> {
    let plain = fs::metadata(glue.join(format!("{MODULE}_bg.wasm")))?.len();
    let gzipped = fs::metadata(glue.join(format!("{MODULE}_bg.wasm.gz")))?.len();
    let kb = |bytes: u64| bytes.div_ceil(1000);
    say(format!(
        "page: the module weighs {} KB, {} KB gzipped",
        kb(plain),
        kb(gzipped)
    ));
    if gzipped > MAX_GZIPPED_BYTES {
        bail!("that is more than {} KB gzipped", kb(MAX_GZIPPED_BYTES));
    }
    Ok(())
}

/// Files of a folder by the names they have in the page. What begins with a dot, what is for
/// developers and what is built are no part of it.
fn collect(base: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let is_developers = name.ends_with(".md")
            || name.ends_with(".d.ts")
            || [
                "package.json",
                "package-lock.json",
                "tsconfig.json",
                "jsconfig.json",
            ]
            .contains(&&*name);
        if name.starts_with('.')
            || ["dist", "node_modules", "tests"].contains(&&*name)
            || is_developers
        {
            continue;
        }
        if path.is_dir() {
            collect(base, &path, files)?;
        } else {
            files.insert(path.strip_prefix(base)?.to_owned(), path);
        }
    }
    Ok(())
}

/// Makes `dist` have these files and no others, writing only what differs: the bridge, which
/// embeds it, is compiled again for each file that was written.
fn lay_out(files: &BTreeMap<PathBuf, PathBuf>, dist: &Path) -> Result<()> {
    fs::create_dir_all(dist)?;
    let mut present = BTreeMap::new();
    collect(dist, dist, &mut present)?;
    for (name, path) in &present {
        if !files.contains_key(name) {
            fs::remove_file(path)?;
        }
    }
    let mut written = 0;
    for (name, source) in files {
        let bytes = fs::read(source)?;
        let destination = dist.join(name);
        if fs::read(&destination).is_ok_and(|old| old == bytes) {
            continue;
        }
        if let Some(folder) = destination.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&destination, bytes)?;
        written += 1;
    }
    say(format!(
        "page: {} files in web/dist, {written} of them new",
        files.len()
    ));
    Ok(())
}
