//! Evidence: what the engine knows of one call when detectors judge it. Computed once, shared by all of them.

/// Whose history may raise an alert about an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// The agent has sessions and days enough to be judged by its own.
    Own,
    /// It has not, but its cohort has.
    Cohort,
    /// Neither: nothing can be said yet.
    None,
}

const SURE_ACTION_BITS: f64 = 4.0;
const SURE_RESOURCE_BITS: f64 = 10.0;

/// One call against the history of its agent, cohort and tenant. Surprise is at most 16 bits a kind.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    /// Impact of the action, 0 to 1.
    pub impact: f64,
    /// Impact weighed by outcome: what surprise is multiplied with.
    pub weight: f64,
    pub history: History,
    /// The agent never did this action (and all it ever did is remembered).
    pub action_is_new: bool,
    /// Other agents of its cohort that did this action.
    pub cohort_agents_with: u32,
    /// Surprise of the action in a session of this agent, in bits.
    pub action_bits: f64,
    /// Surprise of the action after the calls before it, in bits.
    pub order_bits: f64,
    /// Surprise of the resource for the action, in bits; 0 without a resource.
    pub resource_bits: f64,
    /// Surprise of the action in a session of cohort and tenant, in bits.
    pub peers_action_bits: f64,
    /// Others (jobs, else agents) for whom the same call was odd lately; 0 where it is not odd here.
    pub elsewhere: u32,
}

impl Evidence {
    /// Sure enough to stop an agent unattended: the gravest impact, done, and new in action as well as resource. On hijacked
    /// agents it sees four in ten and is wrong about one clean run in 4,000 (`docs/benchmarks.md`).
    pub fn is_sure(&self) -> bool {
        self.weight == 1.0 && self.action_bits >= SURE_ACTION_BITS && self.resource_bits >= SURE_RESOURCE_BITS
    }

    /// All surprise, weighed: the score of a combination.
    pub fn weighed_bits(&self) -> f64 {
        self.weight * (self.action_bits + self.order_bits + self.resource_bits)
    }
}
