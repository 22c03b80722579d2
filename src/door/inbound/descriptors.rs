//! How much the door may take on with the file descriptors that the process may have. tiny_http's accept loop
//! dies for ever of the first descriptor that it does not get, so the door, which is the only one whom strangers
//! can make use up descriptors, stays far below the limit: half of it is left to everybody else.

use super::InboundLimits;
use rustix::process::{Resource, getrlimit};

/// Descriptors that a request inside costs beside its client's socket: our end, and tiny_http's, which it
/// duplicates.
const PER_WAY_INSIDE: u64 = 3;

/// Of both kinds of leavers (see `RosterLimits`), when descriptors are plenty.
const LEAVING_MAX: u64 = 64;

/// What the door may take on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) connections_max: usize,
    pub(super) inside_max: usize,
    pub(super) leaving_max: usize,
    /// The kernel gives the lowest free number, so a number from here on says that hardly any is left.
    pub(super) short_from: u64,
}

impl Budget {
    pub(super) fn of_process(asked: &InboundLimits) -> Budget {
        let in_use = std::fs::read_dir("/proc/self/fd").map_or(32, |numbers| numbers.count() as u64);
        Budget::within(getrlimit(Resource::Nofile).current, in_use, asked)
    }

    /// What a limit of open files allows of what is `asked`; at least one of each, since none would be no door.
    pub(super) fn within(open_files_max: Option<u64>, in_use: u64, asked: &InboundLimits) -> Budget {
        let (connections, inside) = (asked.connections_max as u64, asked.inside_max as u64);
        let limit = open_files_max.unwrap_or(u64::MAX);
        let left = (limit / 2).saturating_sub(in_use);
        let cost = |connections: u64, inside: u64, leaving: u64| {
            // One more is being accepted.
            connections + PER_WAY_INSIDE * inside + 2 * leaving + 1
        };
        let (inside, leaving) = if left >= cost(connections, inside, LEAVING_MAX) {
            (inside, LEAVING_MAX)
        } else {
            (inside.min(left / 7), (left / 10).min(LEAVING_MAX))
        };
        let (inside, leaving) = (inside.max(1), leaving.max(1));
        let connections = connections.min(left.saturating_sub(cost(0, inside, leaving)));
        let number = |count: u64| usize::try_from(count.max(1)).unwrap_or(usize::MAX);
        Budget {
            connections_max: number(connections),
            inside_max: number(inside),
            leaving_max: number(leaving),
            short_from: limit.saturating_sub(PER_WAY_INSIDE * inside),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_bound_what_the_door_takes_on() {
        let asked = InboundLimits { connections_max: 512, inside_max: 32, ..InboundLimits::default() };
        for (limit, in_use, expected) in [
            (None, 12, (512, 32, 64)),
            (Some(4096), 12, (512, 32, 64)),
            (Some(1024), 12, (303, 32, 50)),
            (Some(256), 12, (45, 16, 11)),
            (Some(64), 12, (9, 2, 2)),
            (Some(16), 12, (1, 1, 1)),
        ] {
            let budget = Budget::within(limit, in_use, &asked);
            assert_eq!(
                (budget.connections_max, budget.inside_max, budget.leaving_max),
                expected,
                "{limit:?}"
            );
            let cost = budget.connections_max + 3 * budget.inside_max + 2 * budget.leaving_max + 1;
            assert!(limit.is_none_or(|limit| limit == 16 || cost as u64 + in_use <= limit / 2), "{limit:?}");
        }
        let few = InboundLimits { connections_max: 2, ..asked };
        assert_eq!(Budget::within(Some(64), 12, &few).connections_max, 2);
        assert_eq!(Budget::within(Some(64), 12, &asked).short_from, 58);
    }
}
