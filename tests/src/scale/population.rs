//! Who is in a simulated network: bridges, facilitators, and tabs that come and go.

use std::collections::BTreeSet;
use std::time::Duration;

use chive_node::ids::RsaId;
use chive_node::node::Node;
use chive_node::time::Instant;
use chive_node::wire::Roles;

use crate::sim::{Behaviour, LinkModel, Nat, NodeIndex, World};

/// Tabs a bridge, where it is not said otherwise.
const TABS_A_BRIDGE: u32 = 250;
/// Bridges that each tab knows.
const BRIDGES_OF_A_TAB: usize = 3;
/// How long the first tabs take to come.
pub const ARRIVAL: Duration = Duration::from_secs(600);
/// How often churn is decided.
const STEP: Duration = Duration::from_secs(5);

/// A tab that routes.
#[derive(Clone, Copy, Debug)]
pub struct Tab {
    /// Which node.
    pub node: NodeIndex,
    /// Its ID.
    pub rsa: RsaId,
    /// What is known of it as a router.
    pub member: Member,
    /// Since when.
    pub since: Instant,
}

/// A router of the network.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Its ID.
    pub rsa: RsaId,
    /// Whether it is in the adversary's hand.
    pub colludes: bool,
}

/// What a network is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Tabs.
    pub tabs: u32,
    /// Bridges, and as many facilitators.
    pub bridges: u32,
    /// In how long half of the tabs leave; others come for them.
    pub half_life: Option<Duration>,
    /// Percent of tabs in the adversary's hand.
    pub adversary: u32,
    /// The seed.
    pub seed: u64,
}

impl Plan {
    /// A network of so many tabs, with as many bridges as they need.
    pub fn new(tabs: u32, seed: u64) -> Plan {
        Plan {
            tabs,
            bridges: (tabs / TABS_A_BRIDGE).max(3),
            half_life: Some(Duration::from_secs(20 * 3600)),
            adversary: 0,
            seed,
        }
    }
}

/// A network and who is in it.
pub struct Population {
    /// The network.
    pub world: World,
    /// Its bridges.
    pub bridges: Vec<NodeIndex>,
    /// Its facilitators.
    pub facilitators: Vec<NodeIndex>,
    /// Both of them as routers.
    pub long_lived: Vec<Member>,
    /// The tabs that are there.
    pub tabs: Vec<Tab>,
    /// All IDs that were ever in the adversary's hand.
    bad: BTreeSet<RsaId>,
    plan: Plan,
}

impl Population {
    /// A network into which the tabs have come, one after another.
    pub fn come(plan: Plan) -> Population {
        let mut world = World::new(plan.seed, LinkModel::default());
        let bridge = Roles::BRIDGE.with(Roles::ROUTER).with(Roles::ORDB);
        let facilitator = Roles::ROUTER.with(Roles::ORDB).with(Roles::FACILITATOR);
        let bridges: Vec<NodeIndex> = (0..plan.bridges)
            .map(|_| world.add_router(bridge, &[], |_| {}))
            .collect();
        let facilitators: Vec<NodeIndex> = (0..plan.bridges)
            .map(|_| world.add_router(facilitator, &bridges, |_| {}))
            .collect();
        for node in bridges.iter().chain(&facilitators) {
            world.keep_events(*node, false);
        }
        let mut population = Population {
            world,
            bridges,
            facilitators,
            long_lived: Vec::new(),
            tabs: Vec::new(),
            bad: BTreeSet::new(),
            plan,
        };
        population.draw_long_lived();
        let between = ARRIVAL / plan.tabs.max(1);
        for _ in 0..plan.tabs {
            population.add_tab();
            population.world.run_for(between);
        }
        population
    }

    /// One more tab comes.
    pub fn add_tab(&mut self) -> Tab {
        let nat = self.draw_nat();
        let mut known = self.bridges.clone();
        let mut bridges = Vec::new();
        while bridges.len() < BRIDGES_OF_A_TAB && !known.is_empty() {
            let index = self.world.below(known.len() as u64) as usize;
            bridges.push(known.swap_remove(index));
        }
        let node = self.world.add_tab_router(&bridges, nat, |_| {});
        self.world.keep_events(node, false);
        let rsa = self.world.router(node).rsa;
        let colludes = self.world.below(100) < u64::from(self.plan.adversary);
        let tab = Tab {
            node,
            rsa,
            member: self.member(rsa, colludes),
            since: self.world.now(),
        };
        self.tabs.push(tab);
        tab
    }

    fn member(&mut self, rsa: RsaId, colludes: bool) -> Member {
        if colludes {
            self.bad.insert(rsa);
        }
        Member { rsa, colludes }
    }

    /// As many of the bridges and facilitators as of the tabs are in the adversary's hand; they are
    /// few, so not by chance.
    fn draw_long_lived(&mut self) {
        let all: Vec<NodeIndex> = self
            .bridges
            .iter()
            .chain(&self.facilitators)
            .copied()
            .collect();
        let bad = (all.len() * self.plan.adversary as usize).div_ceil(100);
        let step = all.len().checked_div(bad).unwrap_or(usize::MAX).max(1);
        for (place, node) in all.into_iter().enumerate() {
            let rsa = self.world.router(node).rsa;
            let colludes = place % step == 0 && place / step < bad;
            let member = self.member(rsa, colludes);
            self.long_lived.push(member);
        }
    }

    /// Whether an ID is, or was, in the adversary's hand.
    pub fn colludes(&self, rsa: RsaId) -> bool {
        self.bad.contains(&rsa)
    }

    /// The share of some routers that is in the adversary's hand.
    pub fn adversary_share<'a>(&self, members: impl Iterator<Item = &'a Member>) -> f64 {
        let (mut bad, mut all) = (0_u32, 0_u32);
        for member in members {
            all += 1;
            bad += u32::from(member.colludes);
        }
        f64::from(bad) / f64::from(all.max(1))
    }

    /// As hosts on the Internet are: most behind a NAT that can be punched, some behind one that
    /// cannot, a few without any, and a few without UDP.
    fn draw_nat(&mut self) -> Nat {
        match self.world.below(100) {
            0..10 => Nat::Open,
            10..75 => Nat::HOME,
            75..85 => Nat::Behind {
                mapping: Behaviour::EndpointIndependent,
                filtering: Behaviour::EndpointIndependent,
            },
            85..96 => Nat::SYMMETRIC,
            _ => Nat::Blocked,
        }
    }

    /// A tab leaves: its window is closed.
    pub fn leave(&mut self, index: usize) {
        let tab = self.tabs.swap_remove(index);
        self.world.bury(tab.node);
    }

    /// Lets the network run under churn.
    pub fn run(&mut self, time: Duration) {
        let end = self.world.now() + time;
        while self.world.now() < end {
            let step = STEP.min(end.saturating_since(self.world.now()));
            self.churn(step);
            self.world.run_for(step);
        }
    }

    /// Lets the network run under churn until `done`, at most for `limit`. How long it took.
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&mut Population) -> bool,
    ) -> Option<Duration> {
        let begin = self.world.now();
        loop {
            if done(self) {
                return Some(self.world.now().saturating_since(begin));
            }
            if self.world.now().saturating_since(begin) >= limit {
                return None;
            }
            self.run(Duration::from_secs(1));
        }
    }

    /// Some leave, and as many come.
    fn churn(&mut self, step: Duration) {
        let Some(half_life) = self.plan.half_life else {
            return;
        };
        // The chance to leave in this step, in parts of a thousand million.
        let chance = 1.0 - 0.5_f64.powf(step.as_secs_f64() / half_life.as_secs_f64());
        let chance = (chance * 1e9) as u64;
        let mut index = 0;
        while index < self.tabs.len() {
            if self.world.below(1_000_000_000) < chance {
                self.leave(index);
                self.add_tab();
            } else {
                index += 1;
            }
        }
    }

    /// A tab at random.
    pub fn any_tab(&mut self) -> Tab {
        let index = self.world.below(self.tabs.len() as u64) as usize;
        self.tabs[index]
    }

    /// Bytes that the tabs that are there have sent since they came.
    pub fn bytes_sent(&self) -> u64 {
        let sent = |tab: &Tab| self.node(*tab).counters().bytes_sent;
        self.tabs.iter().map(sent).sum()
    }

    /// Circuits that the tabs that are there began to build since they came, and those of them that
    /// failed.
    pub fn circuits(&self) -> (u64, u64) {
        let counters = self.tabs.iter().map(|tab| self.node(*tab).counters());
        counters.fold((0, 0), |(begun, failed), of| {
            (begun + of.circuits_begun, failed + of.circuits_failed)
        })
    }

    /// A tab's node.
    pub fn node(&self, tab: Tab) -> &Node {
        self.world.node(tab.node)
    }
}
