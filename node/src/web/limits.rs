//! What the page allows: how fast, and what for others.

use wasm_bindgen::prelude::*;

use super::Host;
use crate::node::{Carry, Limits, Rates};

#[wasm_bindgen]
impl Host {
    /// Bytes a second of content that are served and fetched, whether anything is carried for
    /// others, and how many bytes a second of that; 0 is no limit.
    pub fn set_limits(&self, up: f64, down: f64, carry: bool, carry_rate: f64) {
        let rate = |rate: f64| (rate > 0.0).then_some(rate as u64);
        let rates = Rates {
            up: rate(up),
            down: rate(down),
        };
        let carried = Carry {
            on: carry,
            bytes_per_second: rate(carry_rate),
            ..Limits::default().carry
        };
        self.with(|node, now| {
            node.set_rates(now, rates);
            node.set_limits(now, carried);
        });
    }
}
