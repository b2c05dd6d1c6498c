//! The facilitator: always on, a router and an ORDB that takes content out of BitTorrent swarms.

pub mod swarm;
