//! `tubox simulate`: the WeChat simulator by itself.

use super::args::SimulateArgs;
use super::{Ended, on_signal, say, start_log};
use crate::ground::clock::SystemClock;
use crate::ground::random::OsRandom;
use crate::ground::stop::Stop;
use crate::simulator::{Simulator, SimulatorOptions};

pub(super) fn run(args: &SimulateArgs) -> Result<(), Ended> {
    let clock = SystemClock::shared();
    start_log(&clock);
    let stop = Stop::new();
    on_signal(stop.clone())?;
    let options =
        SimulatorOptions { listen: args.listen, ..SimulatorOptions::loopback(clock, OsRandom::shared()) };
    let (app_id, app_secret) = (options.app_id.clone(), options.app_secret.clone());
    let simulator = Simulator::start(options)?;
    let url = simulator.base_url();
    say(&format!(
        "the simulator answers on {url}\n\nTUBOX_WECHAT_API_URLS={url}\n\
         TUBOX_WECHAT_JSSDK_URLS={url}/open/js/jweixin-1.6.0.js\n\
         TUBOX_WECHAT_APP_ID={app_id}\nTUBOX_WECHAT_APP_SECRET={app_secret}"
    ));
    stop.wait_for_ever();
    simulator.stop();
    Ok(())
}
