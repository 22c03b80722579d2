//! Asking an HTTP proxy for a tunnel (CONNECT). After that the socket is as good as one to the origin itself.

use super::fault::{PassageFault, ProxyFault};
use super::head;
use super::origin::{Origin, ProxyAddress};
use super::wire::{FarSocket, GaveUp};
use std::io::{Read, Write};

/// A proxy that says more than this before the tunnel is open is none.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Asks for a tunnel to `origin` as far as the socket's deadline allows.
pub fn open_tunnel(
    socket: &mut FarSocket,
    proxy: &ProxyAddress,
    origin: &Origin,
) -> Result<(), PassageFault> {
    match ask(socket, &origin.host_and_port()) {
        Ok(200..=299) => Ok(()),
        Ok(status) => Err(fault(proxy, ProxyFault::Status(status))),
        Err(why) => Err(match socket.gave_up() {
            Some(GaveUp::NearGone) => PassageFault::LocalPeerGone,
            Some(GaveUp::Stall | GaveUp::Deadline) => fault(proxy, ProxyFault::TimeLimit),
            None => fault(proxy, why),
        }),
    }
}

/// A fault of this proxy.
pub fn fault(proxy: &ProxyAddress, why: ProxyFault) -> PassageFault {
    PassageFault::Proxy { proxy: proxy.to_string(), why }
}

fn ask(socket: &mut FarSocket, target: &str) -> Result<u16, ProxyFault> {
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    socket.write_all(request.as_bytes()).map_err(|_| ProxyFault::Cut)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let count = match socket.read(&mut buffer) {
            Ok(0) | Err(_) => return Err(ProxyFault::Cut),
            Ok(count) => count,
        };
        let searched = answer.len();
        answer.extend(&buffer[..count]);
        if let Some(length) = head::head_length(&answer, searched) {
            return judge(&answer, length);
        }
        if answer.len() > HEAD_BYTES_MAX || head::check_unfinished(&answer).is_err() {
            return Err(ProxyFault::Garbage);
        }
    }
}

/// The proxy's status. In TLS we speak first, so anything behind an opened tunnel's head is not the origin's.
fn judge(answer: &[u8], head_length: usize) -> Result<u16, ProxyFault> {
    match head::status_of(answer) {
        Some(200..=299) if answer.len() > head_length => Err(ProxyFault::Garbage),
        Some(status) => Ok(status),
        None => Err(ProxyFault::Garbage),
    }
}
