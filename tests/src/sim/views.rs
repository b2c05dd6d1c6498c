//! What each router could have said of who asked for what: to hold that no role knows both.

use std::collections::{BTreeMap, BTreeSet};

use chive_node::torrent::Infohash;

use super::{NodeIndex, World};

/// What was seen so far, by whom.
#[derive(Debug, Default)]
pub struct Views {
    /// The names that each router was asked for or told of.
    pub names: BTreeMap<NodeIndex, BTreeSet<Infohash>>,
    /// Who asked or told and was next to the router: the other end of the link over which the
    /// circuit came, where that circuit is its own. What is passed on for others does not count:
    /// their names it does not bear.
    pub linked: BTreeSet<(NodeIndex, NodeIndex, Infohash)>,
}

impl Views {
    /// Looks at every router now. To be called often: what came and went between is not seen.
    pub fn look(&mut self, world: &World) {
        for (index, simulated) in world.nodes.iter().enumerate() {
            for (link, circ, name) in simulated.node.views() {
                let router = NodeIndex(index);
                self.names.entry(router).or_default().insert(name);
                let Some(wire) = simulated.links.get(&link) else {
                    continue;
                };
                let wire = &world.wires[*wire];
                let (other, their_link) = match wire.dialler == (index, link) {
                    true => wire.acceptor,
                    false => (wire.dialler.0, Some(wire.dialler.1)),
                };
                let asks = |link| world.nodes[other].node.asks_over(link, circ);
                if their_link.is_some_and(asks) {
                    self.linked.insert((router, NodeIndex(other), name));
                }
            }
        }
    }

    /// Whether some router could link `node` to a name.
    pub fn knows(&self, node: NodeIndex) -> bool {
        self.linked.iter().any(|(_, other, _)| *other == node)
    }
}
