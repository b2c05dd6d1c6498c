//! What a log must not keep: addresses, names of content, destinations.
//!
//! [`Sensitive`] stands between such a value and `format!`. It prints `[hidden]` until the
//! operator asks for the plain text, once, at the start of the process.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the operator asked for addresses and names in the logs.
static REVEALED: AtomicBool = AtomicBool::new(false);

/// What stands in a log in a hidden value's place.
pub const HIDDEN: &str = "[hidden]";

/// From here on every [`Sensitive`] in this process prints what it holds, or hides it again.
pub fn reveal(revealed: bool) {
    REVEALED.store(revealed, Ordering::Relaxed);
}

/// A value that is printed only where the operator asked for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sensitive<T>(pub T);

impl<T> Sensitive<T> {
    /// The value itself, for use rather than for print.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> From<T> for Sensitive<T> {
    fn from(value: T) -> Self {
        Sensitive(value)
    }
}

impl<T: fmt::Display> fmt::Display for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if REVEALED.load(Ordering::Relaxed) {
            self.0.fmt(f)
        } else {
            f.write_str(HIDDEN)
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if REVEALED.load(Ordering::Relaxed) {
            self.0.fmt(f)
        } else {
            f.write_str(HIDDEN)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_until_asked() {
        // One test for both states: they share the process's one switch.
        let address: std::net::IpAddr = [192, 0, 2, 7].into();
        assert_eq!(
            format!("{} {:?}", Sensitive(address), Sensitive(Some(address))),
            "[hidden] [hidden]"
        );
        reveal(true);
        assert_eq!(format!("{}", Sensitive(address)), "192.0.2.7");
        reveal(false);
        assert_eq!(format!("{:>10}", Sensitive("x")), "[hidden]");
    }
}
