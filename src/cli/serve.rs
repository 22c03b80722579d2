//! `tubox serve`: the box, for real.

use super::args::ServeArgs;
use super::notify::Notifier;
use super::{Ended, on_signal, start_log};
use crate::appliance::Appliance;
use crate::config;
use crate::ground::clock::SystemClock;
use crate::ground::random::OsRandom;
use crate::ground::stop::Stop;
use std::time::Duration;

/// How often the box looks at itself.
const LOOK_EVERY: Duration = Duration::from_secs(5);

pub(super) fn run(args: &ServeArgs) -> Result<(), Ended> {
    let clock = SystemClock::shared();
    start_log(&clock);
    let environment = config::process_environment();
    let config = config::load(args.config.as_deref(), &environment)?;
    let notifier = Notifier::new(&environment);
    let stop = Stop::new();
    on_signal(stop.clone())?;
    let appliance = Appliance::start(&config, false, clock, OsRandom::shared())?;
    notifier.ready();
    while !stop.wait(LOOK_EVERY) {
        appliance.look()?;
        notifier.alive(&appliance.in_one_line());
    }
    notifier.stopping();
    appliance.stop();
    Ok(())
}
