//! When a fault strikes: by script (a queue or a standing order, for a route or for one media_id) or by chance
//! from a seed. The same plan and the same order of calls give the same faults.

use super::Route;
use super::fault::{ErrorReply, Fault, HostileName, STALL_HOLD};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// A plan of faults. A queue goes before a standing order, a media_id before its route, both before chance.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    route_queues: HashMap<Route, VecDeque<Fault>>,
    route_always: HashMap<Route, Fault>,
    media_queues: HashMap<String, VecDeque<Fault>>,
    media_always: HashMap<String, Fault>,
    chance: Option<Chance>,
}

#[derive(Clone, Debug)]
struct Chance {
    state: u64,
    rate: f64,
    menu: Vec<(Route, Fault)>,
}

impl FaultPlan {
    /// Nothing goes wrong.
    pub fn none() -> FaultPlan {
        FaultPlan::default()
    }

    /// Each call of WeChat's API fails with probability `rate` in one of the ways of [`passing_faults`], which
    /// all pass when the call is repeated.
    pub fn random(seed: u64, rate: f64) -> FaultPlan {
        FaultPlan::random_from(seed, rate, passing_faults(STALL_HOLD))
    }

    /// Each call of a route that is in `menu` fails with probability `rate` in one of that route's ways.
    pub fn random_from(seed: u64, rate: f64, menu: Vec<(Route, Fault)>) -> FaultPlan {
        FaultPlan { chance: Some(Chance { state: seed, rate, menu }), ..FaultPlan::default() }
    }

    /// The next call of `route` for which nothing is queued before suffers `fault`.
    pub fn queue(mut self, route: Route, fault: Fault) -> FaultPlan {
        self.push(route, fault);
        self
    }

    /// Every call of `route` suffers `fault`.
    pub fn always(mut self, route: Route, fault: Fault) -> FaultPlan {
        self.set_always(route, fault);
        self
    }

    /// As [`FaultPlan::queue`], in place.
    pub fn push(&mut self, route: Route, fault: Fault) {
        self.route_queues.entry(route).or_default().push_back(fault);
    }

    /// As [`FaultPlan::always`], in place.
    pub fn set_always(&mut self, route: Route, fault: Fault) {
        self.route_always.insert(route, fault);
    }

    /// The next fetch of `media_id` suffers `fault`.
    pub fn push_for_media(&mut self, media_id: &str, fault: Fault) {
        self.media_queues.entry(media_id.to_owned()).or_default().push_back(fault);
    }

    /// Every fetch of `media_id` suffers `fault`.
    pub fn set_always_for_media(&mut self, media_id: &str, fault: Fault) {
        self.media_always.insert(media_id.to_owned(), fault);
    }

    /// The fault that this call suffers.
    pub fn next(&mut self, route: Route, media_id: Option<&str>) -> Option<Fault> {
        if let Some(queue) = media_id.and_then(|id| self.media_queues.get_mut(id))
            && let Some(fault) = queue.pop_front()
        {
            return Some(fault);
        }
        if let Some(fault) = self.route_queues.get_mut(&route).and_then(VecDeque::pop_front) {
            return Some(fault);
        }
        let standing =
            media_id.and_then(|id| self.media_always.get(id)).or_else(|| self.route_always.get(&route));
        match standing {
            Some(fault) => Some(fault.clone()),
            None => self.chance.as_mut().and_then(|chance| chance.draw(route)),
        }
    }
}

impl Chance {
    fn draw(&mut self, route: Route) -> Option<Fault> {
        let ways = self.menu.iter().filter(|(of, _)| *of == route).count() as u64;
        if ways == 0 || self.fraction() >= self.rate {
            return None;
        }
        let pick = usize::try_from(self.step() % ways).unwrap_or(0);
        self.menu.iter().filter(|(of, _)| *of == route).nth(pick).map(|(_, fault)| fault.clone())
    }

    fn fraction(&mut self) -> f64 {
        (self.step() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A Weyl sequence through the mixer of MurmurHash3.
    fn step(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        mixed ^ (mixed >> 33)
    }
}

/// Faults that end by themselves: a client that tries again gets everything. Stalls hold for `hold`.
pub fn passing_faults(hold: Duration) -> Vec<(Route, Fault)> {
    let mut menu = Vec::new();
    for route in [Route::StableToken, Route::Token, Route::GetTicket] {
        menu.extend(network_faults(hold).into_iter().map(|fault| (route, fault)));
        menu.push((route, Fault::code(-1)));
    }
    menu.extend(network_faults(hold).into_iter().map(|fault| (Route::MediaGet, fault)));
    menu.extend(picture_faults(hold).into_iter().map(|fault| (Route::MediaGet, fault)));
    menu
}

/// What any call on a bad network meets.
fn network_faults(hold: Duration) -> Vec<Fault> {
    vec![
        Fault::CaptivePortal,
        Fault::EmptyBody,
        Fault::ShortBody { missing: 1 },
        Fault::Chunked,
        Fault::ChunkedCut,
        Fault::NoLength,
        Fault::Status(500),
        Fault::Status(502),
        Fault::Status(503),
        Fault::ResetBeforeAnswer,
        Fault::ResetMidBody,
        Fault::CloseBeforeAnswer,
        Fault::Stall { after_body_bytes: None, hold },
        Fault::Garbage,
        Fault::Interim(103),
        Fault::Redirect("http://203.0.113.99/elsewhere".to_owned()),
        Fault::LongHead { bytes: 10_000 },
        Fault::Delay(Duration::from_millis(200)),
    ]
}

/// What only a picture meets.
fn picture_faults(hold: Duration) -> Vec<Fault> {
    let mut faults = vec![
        Fault::code(-1),
        Fault::code(40007),
        Fault::code_as(40007, "text/plain"),
        Fault::code_as(40007, "image/jpeg"),
        Fault::Error(ErrorReply { code_as_string: true, ..ErrorReply::of(40007) }),
        Fault::Error(ErrorReply { control_characters: true, ..ErrorReply::of(-1) }),
        Fault::ShortBody { missing: 1000 },
        Fault::NoLengthCut { missing: 100 },
        Fault::ChunkedCutBetween,
        Fault::Stall { after_body_bytes: Some(700), hold },
        Fault::Trickle { bytes: 16 * 1024, pause: Duration::from_millis(20) },
        Fault::NoDisposition,
        Fault::ContentType("text/plain".to_owned()),
        Fault::ContentType(String::new()),
        Fault::FalseGzip,
    ];
    faults.extend(HostileName::ALL.map(Fault::hostile_name));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_particular_goes_first() {
        let mut plan =
            FaultPlan::none().queue(Route::MediaGet, Fault::Garbage).always(Route::MediaGet, Fault::Chunked);
        plan.push_for_media("a", Fault::EmptyBody);
        plan.set_always_for_media("b", Fault::NoLength);
        assert_eq!(plan.next(Route::MediaGet, Some("a")), Some(Fault::EmptyBody));
        assert_eq!(plan.next(Route::MediaGet, Some("a")), Some(Fault::Garbage));
        assert_eq!(plan.next(Route::MediaGet, Some("a")), Some(Fault::Chunked));
        assert_eq!(plan.next(Route::MediaGet, Some("b")), Some(Fault::NoLength));
        assert_eq!(plan.next(Route::Token, None), None);
    }

    #[test]
    fn chance_follows_from_the_seed() {
        let draw = |seed: u64| {
            let mut plan = FaultPlan::random(seed, 0.3);
            (0..400).map(|_| plan.next(Route::MediaGet, Some("a"))).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let struck = draw(7).iter().flatten().count();
        assert!((80..160).contains(&struck), "{struck} of 400 at a rate of 0.3");
        let mut never = FaultPlan::random(7, 0.0);
        assert!((0..400).all(|_| never.next(Route::MediaGet, None).is_none()));
        let mut each = FaultPlan::random(7, 1.0);
        assert!((0..400).all(|_| each.next(Route::GetTicket, None).is_some()));
        assert_eq!(each.next(Route::Script, None), None, "chance strikes only routes on its menu");
    }
}
