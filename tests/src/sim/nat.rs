//! What stands between a host and the Internet, by RFC 4787's kinds.

/// How a NAT maps, or filters, by the other side (RFC 4787, sections 4.1 and 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// The same for all.
    EndpointIndependent,
    /// By the other side's address.
    AddressDependent,
    /// By the other side's address and port.
    AddressAndPortDependent,
}

use Behaviour::{AddressAndPortDependent, EndpointIndependent};

/// A host's way to UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// None: an address of its own.
    Open,
    /// A NAT of this mapping and this filtering.
    Behind {
        /// Which port the other side sees.
        mapping: Behaviour,
        /// Whose packets come in.
        filtering: Behaviour,
    },
    /// No UDP at all.
    Blocked,
}

impl Nat {
    /// None.
    pub const NONE: Nat = Nat::Open;
    /// What most homes have: one port for all, packets only from whom was sent to.
    pub const HOME: Nat = Nat::Behind {
        mapping: EndpointIndependent,
        filtering: AddressAndPortDependent,
    };
    /// "Symmetric": what many mobile networks and offices have.
    pub const SYMMETRIC: Nat = Nat::Behind {
        mapping: AddressAndPortDependent,
        filtering: AddressAndPortDependent,
    };

    /// Whether ICE finds a way between two hosts that know their server-reflexive addresses and
    /// have no TURN server.
    pub fn reaches(self, other: Nat) -> bool {
        match (self, other) {
            (Nat::Blocked, _) | (_, Nat::Blocked) => false,
            (Nat::Open, _) | (_, Nat::Open) => true,
            (
                Nat::Behind { mapping, filtering },
                Nat::Behind {
                    mapping: other_mapping,
                    filtering: other_filtering,
                },
            ) => {
                let punches = |mapping, filtering, other_mapping| match (mapping, other_mapping) {
                    // Each knows where the other's packets come from.
                    (EndpointIndependent, EndpointIndependent) => true,
                    // The other's port is not the one that it was told of: the filter must not
                    // ask for it.
                    (EndpointIndependent, _) => filtering != AddressAndPortDependent,
                    _ => false,
                };
                punches(mapping, filtering, other_mapping)
                    || punches(other_mapping, other_filtering, mapping)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Behaviour::AddressDependent;

    #[test]
    fn holes_are_punched_where_they_can_be() {
        let kinds = [
            EndpointIndependent,
            AddressDependent,
            AddressAndPortDependent,
        ];
        let behind = |mapping, filtering| Nat::Behind { mapping, filtering };
        for mapping in kinds {
            for filtering in kinds {
                let nat = behind(mapping, filtering);
                assert!(nat.reaches(Nat::Open) && Nat::Open.reaches(nat));
                assert!(!nat.reaches(Nat::Blocked));
                // One port for all on both sides is enough, whatever the filters.
                assert_eq!(
                    nat.reaches(Nat::HOME),
                    mapping == EndpointIndependent,
                    "{nat:?}"
                );
                for other_mapping in kinds {
                    for other_filtering in kinds {
                        let other = behind(other_mapping, other_filtering);
                        assert_eq!(nat.reaches(other), other.reaches(nat));
                    }
                }
            }
        }
        assert!(!Nat::SYMMETRIC.reaches(Nat::SYMMETRIC));
        assert!(!Nat::SYMMETRIC.reaches(Nat::HOME));
        let full_cone = behind(EndpointIndependent, EndpointIndependent);
        assert!(Nat::SYMMETRIC.reaches(full_cone));
        let restricted = behind(EndpointIndependent, AddressDependent);
        assert!(Nat::SYMMETRIC.reaches(restricted));
    }
}
