//! One thread for each connection: read a request, decide, deliver. The accept loop bounds the connections.

use super::delivery::{Delivery, reset_on_close};
use super::fault::Fault;
use super::route::Route;
use super::wire::{Answer, Framing, NoRequest, Request, close_politely, read_request};
use super::world::World;
use super::{api_routes, control_routes};
use crate::ground::packed::Packed;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The `wx` object for browsers.
const SCRIPT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/assets/simulator/jweixin.js"));
/// Debug builds parse JSON with deep frames; this is ample and only reserved, not used.
const STACK_BYTES: usize = 256 * 1024;

/// Starts the accept thread.
pub fn spawn_acceptor(
    listener: TcpListener,
    connections_max: usize,
    world: Arc<World>,
) -> std::io::Result<JoinHandle<()>> {
    let builder = std::thread::Builder::new().name("wechat-simulator".to_owned()).stack_size(STACK_BYTES);
    builder.spawn(move || accept_all(&listener, connections_max, &world))
}

/// Wakes an acceptor whose world was asked to stop.
pub fn wake(address: SocketAddr) {
    let _ = TcpStream::connect_timeout(&address, Duration::from_secs(1));
}

fn accept_all(listener: &TcpListener, connections_max: usize, world: &Arc<World>) {
    let open = Arc::new(AtomicUsize::new(0));
    while !world.stop.asked() {
        match listener.accept() {
            Ok(_) if world.stop.asked() => return,
            Ok((stream, _)) => admit(stream, &open, connections_max, world),
            Err(error) => {
                log::warn!("simulator: could not accept a connection: {error}");
                world.stop.wait(Duration::from_millis(50));
            }
        }
    }
}

/// Counts one open connection for as long as it lives.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn admit(mut stream: TcpStream, open: &Arc<AtomicUsize>, connections_max: usize, world: &Arc<World>) {
    let before = open.fetch_add(1, Ordering::SeqCst);
    let place = Place(open.clone());
    if before >= connections_max {
        log::warn!("simulator: {before} connections are open: one more was closed");
        return;
    }
    let world = world.clone();
    let builder = std::thread::Builder::new().name("wechat-sim-call".to_owned()).stack_size(STACK_BYTES);
    let spawned = builder.spawn(move || {
        let _place = place;
        serve(&mut stream, &world);
    });
    if let Err(error) = spawned {
        log::warn!("simulator: could not start a thread: {error}");
    }
}

fn serve(stream: &mut TcpStream, world: &World) {
    let _ = stream.set_nodelay(true);
    match read_request(stream, &world.limits) {
        Ok(request) => serve_request(stream, &request, world),
        Err(NoRequest::Silent) => {}
        Err(NoRequest::Broken(error)) => log::debug!("simulator: a request did not arrive: {error}"),
        Err(NoRequest::Refused(status, why)) => {
            world.violation(Route::Unknown, &why);
            let answer = Answer::new(status, "text/plain", why);
            send(stream, &answer, &Fault::Good, false, world);
            close_politely(stream);
        }
    }
}

fn serve_request(stream: &mut TcpStream, request: &Request, world: &World) {
    let route = match Route::of(&request.path) {
        // A browser's own question before a page's call is no call.
        route if route.is_for_pages() && request.method == "OPTIONS" => Route::Control,
        route => route,
    };
    let outage = {
        let mut state = world.state();
        *state.calls.entry(route).or_default() += 1;
        state.outage && route.is_api()
    };
    if outage {
        let _ = reset_on_close(stream);
        return;
    }
    let (mut answer, fault) = decide(request, route, world);
    fault.dress(&mut answer);
    if route.is_for_pages() {
        answer.set_header("Access-Control-Allow-Origin", "*");
    }
    log::debug!("simulator: {} {} {}", request.method, route.name(), answer.status);
    send(stream, &answer, &fault, request.method == "HEAD", world);
    if request.framing == Framing::Chunked {
        close_politely(stream);
    }
}

/// The answer, and what happens to it.
fn decide(request: &Request, route: Route, world: &World) -> (Answer, Fault) {
    if !route.is_api() {
        return decide_for_pages(request, route, world);
    }
    let parameters = match api_routes::check(request, route, world) {
        Ok(parameters) => parameters,
        Err(refusal) => return (refusal, Fault::Good),
    };
    let media_id = parameters.query("media_id").filter(|_| route == Route::MediaGet);
    let fault = world.next_fault(route, media_id);
    let answer = replacement(&fault, world).unwrap_or_else(|| api_routes::answer(route, &parameters, world));
    (answer, fault)
}

fn decide_for_pages(request: &Request, route: Route, world: &World) -> (Answer, Fault) {
    match route {
        Route::Unknown => {
            world.violation(route, &format!("{} {} is not known", request.method, request.path));
            (Answer::new(404, "text/plain", "WeChat has no such route\n"), Fault::Good)
        }
        Route::Control => (control_routes::answer(request, route, world), Fault::Good),
        _ => {
            let fault = world.next_fault(route, None);
            let answer = replacement(&fault, world).unwrap_or_else(|| match route {
                Route::Script => script(request, world),
                _ => control_routes::answer(request, route, world),
            });
            (answer, fault)
        }
    }
}

fn replacement(fault: &Fault, world: &World) -> Option<Answer> {
    let ip = world.state().egress_ip.to_string();
    fault.replacement(&ip, &world.rid())
}

fn script(request: &Request, world: &World) -> Answer {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        world.violation(Route::Script, &format!("method {} is not known", request.method));
        return Answer::empty(405);
    }
    let mut answer =
        Answer::new(200, "application/javascript; charset=utf-8", Packed(SCRIPT.into()).unpacked());
    answer.set_header("Cache-Control", "no-store");
    answer.set_header("X-Content-Type-Options", "nosniff");
    answer
}

fn send(stream: &mut TcpStream, answer: &Answer, fault: &Fault, head_only: bool, world: &World) {
    let date = world.date();
    let mut delivery = Delivery { stream, date: &date, head_only, stop: &world.stop, limits: &world.limits };
    if let Err(error) = delivery.send(answer, fault) {
        log::debug!("simulator: a client left its answer: {error}");
    }
}
