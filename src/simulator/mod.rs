//! The simulator: WeChat's server side on loopback, and the `wx` object for a page in any browser. `tubox demo`
//! and `tubox simulate` run it, and so do the tests.
//!
//! It is written from WeChat's documentation alone and shares no code with the room that it imitates, so that one
//! mistake cannot hide in both. It knows neither the queue nor the album nor any setting of the box; from the
//! ground floor it takes time, randomness and the stop signal.
//!
//! - [`wire`], [`server`]: a small HTTP/1.1 server of its own, bounded in connections, sizes and times
//! - [`route`], [`strict`]: what may be called, and with what; everything else is a violation and an HTTP 4xx
//! - [`api_routes`], [`credentials`], [`pictures`], [`quota`], [`codes`]: WeChat's behaviour, with a state
//! - [`fault`], [`plan`], [`delivery`], [`fault_json`]: what goes wrong, when, and how it looks on the socket
//! - [`control_routes`]: `/sim/…`, the phone's part and the levers of a drill
//! - [`samples`]: pictures to send through
//!
//! Ages follow the monotonic reading of the clock it is given, names of moments (`Date`, `rid`, the quota's day)
//! its wall reading. Waits on sockets happen in real time.

mod api_routes;
mod codes;
mod control_routes;
mod credentials;
mod delivery;
pub mod fault;
mod fault_json;
mod pictures;
pub mod plan;
mod quota;
mod route;
pub mod samples;
mod server;
mod strict;
mod wire;
mod world;

#[cfg(test)]
mod tests;

pub use fault::{ErrorReply, Fault, HostileName};
pub use pictures::{DEVTOOLS_MEDIA_ID, PICTURE_LIFE};
pub use plan::FaultPlan;
pub use quota::Quota;
pub use route::Route;
pub use wire::WireLimits;
pub use world::SignatureChecks;

use crate::ground::clock::SharedClock;
use crate::ground::random::SharedRandom;
use crate::ground::stop::Stop;
use anyhow::{Context, bail};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use world::World;

/// How a simulator is to be.
pub struct SimulatorOptions {
    /// Where it listens; loopback only. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The one account that it knows.
    pub app_id: String,
    /// The account's secret.
    pub app_secret: String,
    /// Time.
    pub clock: SharedClock,
    /// Chance, for tokens, tickets and media ids.
    pub random: SharedRandom,
    /// What goes wrong.
    pub plan: FaultPlan,
    /// Origins whose pages may have a valid signature (the account's JS domains); empty: every origin.
    pub allowed_page_origins: Vec<String>,
    /// Bytes of uploaded pictures that are kept; beyond it the oldest go.
    pub picture_bytes_max: usize,
    /// Connections at a time; beyond it new ones are closed without an answer.
    pub connections_max: usize,
    /// Bounds of a single request.
    pub limits: WireLimits,
}

impl SimulatorOptions {
    /// On a free loopback port, without faults.
    pub fn loopback(clock: SharedClock, random: SharedRandom) -> SimulatorOptions {
        SimulatorOptions {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            app_id: "wx0123456789abcdef".to_owned(),
            app_secret: "5ec2e70f5ec2e70f5ec2e70f5ec2e70f".to_owned(),
            clock,
            random,
            plan: FaultPlan::none(),
            allowed_page_origins: Vec::new(),
            picture_bytes_max: 256 * 1024 * 1024,
            connections_max: 1024,
            limits: WireLimits::default(),
        }
    }
}

/// A running simulator. Dropping it stops it.
pub struct Simulator {
    world: Arc<World>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

impl Simulator {
    /// Listens and serves until it is stopped or dropped.
    pub fn start(options: SimulatorOptions) -> anyhow::Result<Simulator> {
        let listen = options.listen;
        if !listen.ip().is_loopback() {
            bail!(
                "could not start the simulator on {listen}: it listens on loopback only (127.0.0.1 or ::1)"
            );
        }
        let listener = TcpListener::bind(listen).with_context(|| format!("could not listen on {listen}"))?;
        let address = listener.local_addr().context("could not read the simulator's own address")?;
        let connections_max = options.connections_max;
        let world = Arc::new(World::new(options));
        let acceptor = server::spawn_acceptor(listener, connections_max, world.clone())
            .context("could not start the simulator's accept thread")?;
        Ok(Simulator { world, address, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a phone does: leaves a picture with WeChat and gets its media_id, 64 characters long.
    pub fn upload(&self, bytes: impl Into<Vec<u8>>, content_type: &str) -> String {
        let media_id = self.world.fresh_media_id();
        self.upload_as(&media_id, bytes, content_type);
        media_id
    }

    /// As [`Simulator::upload`], under a chosen id.
    pub fn upload_as(&self, media_id: &str, bytes: impl Into<Vec<u8>>, content_type: &str) {
        let now = self.world.now();
        self.world.state().pictures.insert(media_id, Arc::new(bytes.into()), content_type, now);
    }

    /// The bytes that were uploaded under `media_id`, also when WeChat would have deleted them.
    pub fn uploaded(&self, media_id: &str) -> Option<Vec<u8>> {
        self.world.state().pictures.uploaded(media_id).map(|picture| picture.bytes.to_vec())
    }

    /// All media ids that were uploaded, oldest first.
    pub fn uploaded_ids(&self) -> Vec<String> {
        self.world.state().pictures.media_ids()
    }

    /// From now on every well-formed id that nobody uploaded is answered with this picture, for drills with more
    /// ids than memory; `None` ends it.
    pub fn answer_any_id(&self, picture: Option<(Vec<u8>, &str)>) {
        let picture = picture.map(|(bytes, content_type)| (bytes, content_type.to_owned()));
        self.world.state().pictures.answer_any_id(picture);
    }

    /// Calls of a route so far, failed ones included.
    pub fn calls(&self, route: Route) -> u64 {
        self.world.state().calls.get(&route).copied().unwrap_or(0)
    }

    /// Calls of all routes so far.
    pub fn calls_total(&self) -> u64 {
        self.world.state().calls.values().sum()
    }

    /// What clients did that WeChat does not know. Tests hold this to be empty.
    pub fn violations(&self) -> Vec<String> {
        self.world.state().violations.clone()
    }

    /// How pages fared with their signatures.
    pub fn signature_checks(&self) -> SignatureChecks {
        self.world.state().signatures
    }

    /// Puts a new plan of faults in place of the old one.
    pub fn set_plan(&self, plan: FaultPlan) {
        self.world.state().plan = plan;
    }

    /// The next call of `route` for which nothing is queued before suffers `fault`.
    pub fn queue_fault(&self, route: Route, fault: Fault) {
        self.world.state().plan.push(route, fault);
    }

    /// The next fetch of `media_id` suffers `fault`.
    pub fn queue_media_fault(&self, media_id: &str, fault: Fault) {
        self.world.state().plan.push_for_media(media_id, fault);
    }

    /// Every call of `route` suffers `fault`.
    pub fn always(&self, route: Route, fault: Fault) {
        self.world.state().plan.set_always(route, fault);
    }

    /// Every fetch of `media_id` suffers `fault`.
    pub fn always_for_media(&self, media_id: &str, fault: Fault) {
        self.world.state().plan.set_always_for_media(media_id, fault);
    }

    /// Nothing goes wrong any more.
    pub fn clear_faults(&self) {
        self.set_plan(FaultPlan::none());
    }

    /// The current tokens of both calls die (40001); the next normal call issues new ones.
    pub fn expire_token(&self) {
        let mut state = self.world.state();
        state.stable.kill(false);
        state.classic.kill(false);
    }

    /// The current stable token is dead (40001), yet `stable_token` goes on handing it out until a forced
    /// refresh.
    pub fn wedge_token(&self) {
        self.world.state().stable.kill(true);
    }

    /// Somebody else refreshes both tokens by force: the ones that the client holds are dead (40001).
    pub fn steal_token(&self) {
        let now = self.world.now();
        let mut state = self.world.state();
        state.stable.steal(now, &self.world.random);
        state.classic.steal(now, &self.world.random);
    }

    /// The ticket dies: signatures made with it are wrong, the next getticket issues another.
    pub fn expire_ticket(&self) {
        self.world.state().ticket.expire();
    }

    /// Makes `ticket` the current one, as if issued now.
    pub fn set_ticket(&self, ticket: &str) {
        let now = self.world.now();
        self.world.state().ticket.set(ticket, now);
    }

    /// Sets the quota of a route. There is none at first.
    pub fn set_quota(&self, route: Route, quota: Quota) {
        self.world.state().quotas.set(route, quota);
    }

    /// The account's IP list; `None`: no list. A caller that is not on it gets 40164.
    pub fn allow_ips(&self, ips: Option<Vec<IpAddr>>) {
        self.world.state().allowed_ips = ips;
    }

    /// The address that WeChat sees its caller come from (203.0.113.7 at first).
    pub fn set_egress_ip(&self, ip: IpAddr) {
        self.world.state().egress_ip = ip;
    }

    /// While true every call of the server API ends in a reset; script and `/sim/` go on.
    pub fn set_outage(&self, outage: bool) {
        self.world.state().outage = outage;
    }

    /// Stops listening. Answers under way that wait (stalls, trickles) end at once.
    pub fn stop(mut self) {
        self.halt();
    }

    fn halt(&mut self) {
        self.world.stop.ask();
        if let Some(acceptor) = self.acceptor.take() {
            // Once may not be enough: a machine out of sockets refuses the call that is to wake the thread.
            while !acceptor.is_finished() {
                server::wake(self.address);
                Stop::new().wait(Duration::from_millis(1));
            }
            if acceptor.join().is_err() {
                log::warn!("simulator: the accept thread had panicked");
            }
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.halt();
    }
}
