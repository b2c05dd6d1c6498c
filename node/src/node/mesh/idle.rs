//! What links carry for others, and those that nothing is done over: who makes room for a new peer,
//! and what is closed.

use std::time::Duration;

use crate::ids::LinkId;
use crate::link::Side;
use crate::node::Node;
use crate::node::io::LinkTransport;
use crate::node::links::{Link, Owner};
use crate::node::origin::Purpose;

/// Links that are kept though nothing is done over them: of those to peers, and of those over TLS
/// that were dialled from here.
const KEEP_LINKS: usize = 8;
/// How long a link has nothing to do before it is closed.
const IDLE: Duration = Duration::from_secs(300);

/// What a node carries for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Circuits now.
    pub circuits: usize,
    /// Bytes of cells since it began.
    pub bytes: u64,
}

impl Node {
    /// What this node carries for others.
    pub fn carried(&self) -> Carried {
        let circuits = self.routed.values().filter(|routed| routed.is_carried());
        Carried {
            circuits: circuits.count(),
            bytes: self.counters.cells_relayed * crate::wire::CELL_LEN as u64,
        }
    }

    /// Whether one more peer may be linked to; an idle one makes room.
    pub(crate) fn has_room_for_peer(&mut self) -> bool {
        let most = self.config.limits.peers;
        if self.peer_links() < most {
            return true;
        }
        if let Some(idle) = self.idlest_link(Duration::from_secs(30), Link::is_to_peer) {
            self.hang_up(idle, "a new peer takes the place of an idle one");
        }
        self.peer_links() < most
    }

    /// Closes links that have had nothing to do for long, but for a few that keep this node in the
    /// mesh. Whoever wants one again makes it again.
    pub(crate) fn close_idle_links(&mut self) {
        self.close_empty_links();
        // What others dialled over TLS and has circuits is theirs to close: a router that waits is
        // asked over it.
        let dialled = |link: &Link| {
            link.side == Side::Initiator && link.transport == LinkTransport::Tls && link.is_open()
        };
        for of_kind in [Link::is_to_peer as fn(&Link) -> bool, dialled] {
            while self.links.values().filter(|link| of_kind(link)).count() > KEEP_LINKS
                && let Some(idle) = self.idlest_link(IDLE, of_kind)
            {
                self.hang_up(idle, "nothing was done over it for long");
            }
        }
    }

    /// Closes links that somebody opened to us and has no circuit on: each holds one of the places
    /// that there are for links.
    fn close_empty_links(&mut self) {
        let empty = |link: &Link| {
            link.side == Side::Responder
                && link.is_open()
                && link.circuits.is_empty()
                && self.now.saturating_since(link.used) >= IDLE
        };
        let links = self.links.iter().filter(|(_, link)| empty(link));
        let links: Vec<LinkId> = links.map(|(id, _)| *id).collect();
        for link in links {
            self.hang_up(link, "no circuit was on it for long");
        }
    }

    fn peer_links(&self) -> usize {
        let links = self.links.values();
        links.filter(|link| link.is_to_peer()).count()
    }

    /// The link of a kind that has had nothing to do for the longest time, and for as long as
    /// `idle` at least.
    fn idlest_link(&self, idle: Duration, of_kind: fn(&Link) -> bool) -> Option<LinkId> {
        let for_questions = |owner: &Owner| match owner {
            Owner::Own(circuit) => self
                .circuits
                .get(circuit)
                .is_none_or(|own| matches!(own.purpose, Purpose::Neighbour(_))),
            Owner::RoutedPrevious(key) => {
                let routed = self.routed.get(key);
                routed.is_none_or(|routed| !routed.is_carried())
            }
            Owner::RoutedNext(_) => false,
        };
        self.links
            .iter()
            .filter(|(id, link)| {
                link.is_open()
                    && of_kind(link)
                    && self.now.saturating_since(link.used) >= idle
                    && !self.bridges.iter().any(|bridge| bridge.link == Some(**id))
                    && link.circuits.values().all(for_questions)
            })
            .min_by_key(|(_, link)| link.used)
            .map(|(id, _)| *id)
    }
}
