//! Puts the built page (`web/dist`) into the binary, each file plain and gzipped where that is
//! smaller (by who built it, if `NAME.gz` lies beside it), and the Content-Security-Policy of `web/csp.txt`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let web = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../web");
    let dist = web.join("dist");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    // A path that does not exist would make this run each time.
    let watched = if dist.exists() { &dist } else { &web };
    println!("cargo::rerun-if-changed={}", watched.display());

    let policy = web.join("csp.txt");
    println!("cargo::rerun-if-changed={}", policy.display());
    let policy = fs::read_to_string(policy)?;

    let mut files = Vec::new();
    if dist.is_dir() {
        collect(&dist, &mut files)?;
        files.sort();
    }
    let mut packed = BTreeMap::new();
    for file in files.extract_if(.., |file| file.extension().is_some_and(|end| end == "gz")) {
        let of = file.with_extension("");
        let name = of.strip_prefix(&dist)?.to_str().unwrap_or_default();
        packed.insert(name.to_owned(), file);
    }
    let mut code = String::new();
    writeln!(code, "const POLICY: &str = {:?};", policy.trim())?;
    writeln!(code, "const FILES: &[Embedded] = &[")?;
    for (number, path) in files.iter().enumerate() {
        let name = path
            .strip_prefix(&dist)?
            .to_str()
            .ok_or("a file name that is not UTF-8")?;
        let plain = fs::read(path)?;
        let gzipped = match packed.get(name) {
            Some(file) => fs::read(file)?,
            None => {
                let best = flate2::Compression::best();
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), best);
                encoder.write_all(&plain)?;
                encoder.finish()?
            }
        };
        write!(
            code,
            "    Embedded {{ name: {name:?}, plain: include_bytes!({:?}), gzipped: ",
            fs::canonicalize(path)?
        )?;
        if gzipped.len() < plain.len() {
            let file = out.join(format!("{number}.gz"));
            fs::write(&file, gzipped)?;
            writeln!(code, "Some(include_bytes!({file:?})) }},")?;
        } else {
            writeln!(code, "None }},")?;
        }
    }
    writeln!(code, "];")?;
    fs::write(out.join("page.rs"), code)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
