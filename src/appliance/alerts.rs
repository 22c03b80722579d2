//! The alerts room, wired: settings to delivery, rooms to situation.

use super::Rooms;
use crate::alerts::{Alerts, Delivery, Situation, Webhook};
use crate::config::Config;
use crate::door::outbound::{OutboundDoor, OutboundOptions};
use crate::ground::clock::SharedClock;
use crate::ground::random::SharedRandom;
use crate::ground::stop::Stop;
use crate::wechat::fault::{Outcome, entry};
use anyhow::{Context, Result};
use std::time::Duration;

/// How often the situation is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// `None` when nobody is to be called.
pub(super) fn open(config: &Config, clock: &SharedClock, random: &SharedRandom) -> Result<Option<Alerts>> {
    if config.alerts.command.is_none() && config.alerts.webhook.is_none() {
        return Ok(None);
    }
    let webhook = match &config.alerts.webhook {
        None => None,
        Some((origin, target)) => {
            let options = OutboundOptions {
                extra_roots_pem: config.wechat.ca_pem.clone(),
                proxy: config.wechat.proxy.clone(),
                clock: clock.clone(),
                random: random.clone(),
                ..OutboundOptions::to(vec![origin.clone()])
            };
            let door = OutboundDoor::open(options).context("could not open the way to alerts.webhook")?;
            Some(Webhook { door, origin: origin.clone(), target: target.clone() })
        }
    };
    let delivery = Delivery { command: config.alerts.command.clone(), webhook };
    Ok(Some(Alerts::new(delivery, clock.clone())))
}

/// The work of the alerts thread.
pub(super) fn tell(
    mut alerts: Alerts,
    rooms: Rooms,
    free_bytes_min: u64,
    clock: SharedClock,
    stop: Stop,
) -> impl FnOnce() + Send + 'static {
    move || {
        while !stop.wait(LOOK_EVERY) {
            alerts.look(&situation(&rooms, free_bytes_min, &clock));
        }
    }
}

fn situation(rooms: &Rooms, free_bytes_min: u64, clock: &SharedClock) -> Situation {
    let paused = rooms.collector.paused().filter(|paused| entry(&paused.code).outcome == Outcome::Operator);
    Situation {
        paused: paused.map(|paused| (paused.code, format!("{} / {}", paused.remedy.zh, paused.remedy.en))),
        oldest_deadline_seconds: rooms.queue.oldest_deadline_ms().map(|ms| (ms - clock.wall_ms()) / 1000),
        disk: rooms.album.free_bytes().ok().map(|free| (free, free_bytes_min)),
        failed: rooms.queue.counts().failed,
    }
}
