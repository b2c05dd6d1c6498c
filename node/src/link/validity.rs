//! For how long certificates are good.

/// For how long the certificates that we make are good.
pub const CERT_LIFETIME_SECONDS: u64 = 30 * DAY_SECONDS;
/// How far a clock may be wrong before certificates are refused for it: people's clocks are.
pub(super) const CLOCK_TOLERANCE_SECONDS: u64 = DAY_SECONDS;
/// One day.
pub(super) const DAY_SECONDS: u64 = 24 * 60 * 60;

/// When what is made now expires, in hours since 1970.
pub(super) fn expiry_hours(unix_now: u64) -> u32 {
    u32::try_from(
        unix_now
            .saturating_add(CERT_LIFETIME_SECONDS)
            .div_ceil(3_600),
    )
    .unwrap_or(u32::MAX)
}

/// Whether what expires at this hour has expired, be the clock a little wrong.
pub(super) fn expired(expiry_hours: u32, unix_now: u64) -> bool {
    u64::from(expiry_hours) * 3_600 + CLOCK_TOLERANCE_SECONDS <= unix_now
}
