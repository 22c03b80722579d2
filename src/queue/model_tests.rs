//! The queue beside a model of it, under any order of events: nothing is lost, nothing is handed out twice, and what
//! came first goes first.

use super::tests::{Bench, id, submission};
use super::*;
use crate::ground::clock::Clock;
use crate::ground::random::SeededRandom;
use std::collections::HashSet;

/// How many orders of events; `CAMPAIGN_SEEDS` asks for more.
const SEEDS: u64 = 20;
const EVENTS: usize = 150;
/// So few that ids come again.
const IDS: u64 = 60;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stand {
    Due,
    /// Until then, monotonic.
    Later(Duration),
    Claimed,
    Failed,
    Saved,
}

struct Model {
    bench: Bench,
    queue: Option<Queue>,
    random: SharedRandom,
    /// Where each id stands, and when it came.
    ids: HashMap<String, (Stand, i64)>,
}

impl Model {
    fn new(seed: u64) -> Model {
        let mut bench = Bench::new();
        bench.waiting_max = IDS;
        let queue = Some(bench.open());
        Model { bench, queue, random: SeededRandom::shared(seed), ids: HashMap::new() }
    }

    fn queue(&self) -> &Queue {
        self.queue.as_ref().unwrap()
    }

    fn below(&self, bound: u64) -> u64 {
        (self.random.fraction() * bound as f64) as u64
    }

    fn now(&self) -> Duration {
        self.bench.clock.monotonic()
    }

    fn due(&self) -> impl Iterator<Item = (&String, i64)> {
        let now = self.now();
        self.ids.iter().filter_map(move |(id, (stand, came_ms))| match stand {
            Stand::Due => Some((id, *came_ms)),
            Stand::Later(due) if *due <= now => Some((id, *came_ms)),
            _ => None,
        })
    }

    fn any(&self, of: impl Fn(Stand) -> bool) -> Option<String> {
        let mut all: Vec<&String> =
            self.ids.iter().filter(|(_, (stand, _))| of(*stand)).map(|(id, _)| id).collect();
        all.sort();
        let at = self.below(all.len() as u64) as usize;
        all.get(at).map(|id| id.to_string())
    }

    fn set(&mut self, id: &str, stand: Stand) {
        self.ids.get_mut(id).unwrap().0 = stand;
    }

    fn accept(&mut self) {
        let mut ids: Vec<String> = (0..=self.below(5)).map(|_| format!("id{}", self.below(IDS))).collect();
        let mut seen = HashSet::new();
        ids.retain(|id| seen.insert(id.clone()));
        self.queue().accept(submission(&ids.iter().map(String::as_str).collect::<Vec<_>>())).unwrap();
        let came_ms = self.bench.clock.wall_ms();
        for id in ids {
            self.ids.entry(id).or_insert((Stand::Due, came_ms));
        }
    }

    fn claim(&mut self) {
        let first_ms = self.due().map(|(_, came_ms)| came_ms).min();
        match self.queue().claim() {
            Some(claim) => {
                let id = claim.media_id.to_string();
                let (_, came_ms) =
                    self.due().find(|(due, _)| **due == id).unwrap_or_else(|| panic!("{id}: {:?}", self.ids));
                assert_eq!(Some(came_ms), first_ms, "{id}: {:?}", self.due().collect::<Vec<_>>());
                self.set(&id, Stand::Claimed);
            }
            None => assert_eq!(first_ms, None, "{:?}", self.ids),
        }
    }

    fn settle(&mut self) {
        let Some(text) = self.any(|stand| stand == Stand::Claimed) else { return };
        let media_id = id(&text);
        let stand = match self.below(5) {
            0 => {
                let wait = Duration::from_secs(self.below(20));
                self.queue().postpone(&media_id, wait, Some("40007"));
                Stand::Later(self.now() + wait)
            }
            1 => {
                self.queue().fail(&media_id, "fake-id", "");
                Stand::Failed
            }
            2 => {
                self.queue().release(&media_id);
                Stand::Due
            }
            _ => {
                self.queue().complete(&media_id, "ab");
                Stand::Saved
            }
        };
        self.set(&text, stand);
    }

    fn retry(&mut self) {
        let Some(text) = self.any(|stand| stand == Stand::Failed) else { return };
        assert_eq!(self.queue().retry(Some(&[id(&text)])), 1);
        self.set(&text, Stand::Due);
    }

    /// The clock goes on, and now and then back.
    fn let_time_pass(&mut self) {
        self.bench.clock.advance(Duration::from_millis(self.below(15_000)));
        if self.below(8) == 0 {
            self.bench.clock.set_wall_ms(self.bench.clock.wall_ms() - 10_000);
        }
    }

    /// Another run, after an orderly end or a sudden one.
    fn start_again(&mut self) {
        let is_orderly = self.below(2) == 0;
        self.queue.take().filter(|_| is_orderly).inspect(|queue| queue.close());
        self.queue = Some(self.bench.open());
        for (stand, _) in self.ids.values_mut() {
            if matches!(stand, Stand::Claimed | Stand::Later(_)) {
                *stand = Stand::Due;
            }
        }
    }

    /// sled fails and is opened again while workers hold claims.
    fn fall_sick(&mut self) {
        self.queue().lock().let_go();
        self.queue().tend(&|_| HashMap::new());
        for (stand, _) in self.ids.values_mut() {
            if matches!(stand, Stand::Later(_)) {
                *stand = Stand::Due;
            }
        }
    }

    fn check(&self) {
        let count = |of: fn(Stand) -> bool| self.ids.values().filter(|(stand, _)| of(*stand)).count() as u64;
        let counts = Counts {
            waiting: count(|stand| !matches!(stand, Stand::Failed | Stand::Saved)),
            claimed: count(|stand| stand == Stand::Claimed),
            saved: count(|stand| stand == Stand::Saved),
            failed: count(|stand| stand == Stand::Failed),
        };
        assert_eq!(self.queue().counts(), counts);
        // That nothing of a receipt waits any more may be noticed only when its turn comes.
        let (told_ms, oldest_ms) = (self.queue().oldest_deadline_ms(), self.oldest_deadline_ms());
        let is_early = told_ms.is_some_and(|told| oldest_ms.is_none_or(|oldest| told < oldest));
        assert!(told_ms == oldest_ms || is_early, "{told_ms:?} {oldest_ms:?} {:?}", self.ids);
    }

    fn oldest_deadline_ms(&self) -> Option<i64> {
        let owed = self.ids.values().filter(|(stand, _)| !matches!(stand, Stand::Failed | Stand::Saved));
        owed.map(|(_, came_ms)| came_ms + 72 * 3_600_000).min()
    }
}

#[test]
fn nothing_is_lost_and_nothing_is_handed_out_twice() {
    let seeds = std::env::var("CAMPAIGN_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    for seed in 0..seeds {
        let mut model = Model::new(seed);
        for _ in 0..EVENTS {
            match model.below(40) {
                0..=9 => model.accept(),
                10..=21 => model.claim(),
                22..=31 => model.settle(),
                32..=33 => model.retry(),
                34..=37 => model.let_time_pass(),
                38 => model.start_again(),
                _ => model.fall_sick(),
            }
            model.check();
        }
        while let Some(claimed) = model.any(|stand| stand == Stand::Claimed) {
            model.queue().release(&id(&claimed));
            model.set(&claimed, Stand::Due);
        }
        model.queue().hasten();
        model.bench.clock.advance(Duration::from_secs(60));
        while model.due().next().is_some() {
            model.claim();
        }
        model.claim();
        assert_eq!(model.queue().oldest_deadline_ms(), model.oldest_deadline_ms());
    }
}
