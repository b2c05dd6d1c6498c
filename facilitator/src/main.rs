//! The facilitator.
fn main() {}
