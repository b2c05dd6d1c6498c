//! Nanoseconds that a cell costs: forwarded, originated for three hops, taken at its end.
//!
//! Natively this prints a table. Compiled for wasm32 it is a module that `benches/cells.mjs` runs:
//! `node benches/cells.mjs PATH/cells.wasm`.

#[cfg(target_arch = "wasm32")]
fn main() {}

#[cfg(target_arch = "wasm32")]
pub mod exports {
    //! What `benches/cells.mjs` calls.

    use std::cell::RefCell;

    use chive_benches::cells::{Crates, Ours, work};

    thread_local! {
        static LAYERS: RefCell<(Ours, Crates)> = RefCell::default();
    }

    /// Works on `count` cells by our code.
    #[unsafe(no_mangle)]
    pub extern "C" fn ours(case: u32, count: u32) -> u32 {
        LAYERS.with_borrow_mut(|(ours, _)| work(ours, case, count))
    }

    /// Works on `count` cells by the crates.
    #[unsafe(no_mangle)]
    pub extern "C" fn crates(case: u32, count: u32) -> u32 {
        LAYERS.with_borrow_mut(|(_, crates)| work(crates, case, count))
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn main() {
    use std::time::Instant;

    use chive_benches::cells::{CASES, Crates, Layers, Ours, work};

    // Short runs and many: few of them are cut by the scheduler.
    const COUNT: u32 = 64;
    const ROUNDS: usize = 1001;

    fn nanos(layers: &mut impl Layers, case: u32) -> f64 {
        #[allow(clippy::disallowed_methods, reason = "a benchmark's clock")]
        let begin = Instant::now();
        std::hint::black_box(work(layers, case, COUNT));
        begin.elapsed().as_nanos() as f64 / f64::from(COUNT)
    }
    fn median(mut of: Vec<f64>) -> f64 {
        of.sort_by(f64::total_cmp);
        of[of.len() / 2]
    }

    println!(
        "{:22}{:>10}{:>10}{:>8}",
        "ns a cell, natively", "ours", "crates", "ratio"
    );
    for (case, name) in CASES.iter().enumerate() {
        let (mut ours, mut crates) = (Ours::default(), Crates::default());
        let (mut of_ours, mut of_crates) = (Vec::new(), Vec::new());
        // Turn about, so that what else the machine does falls on both.
        for _ in 0..ROUNDS {
            of_ours.push(nanos(&mut ours, case as u32));
            of_crates.push(nanos(&mut crates, case as u32));
        }
        let (ours, crates) = (median(of_ours), median(of_crates));
        println!("{name:22}{ours:>10.0}{crates:>10.0}{:>8.2}", ours / crates);
    }
}
