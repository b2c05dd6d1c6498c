//! Drivers that run real nodes against each other.
