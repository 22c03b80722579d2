//! The watchdog: asks the box's own `/healthz` through its own door, as a client would. A box that does not
//! answer itself several times in a row is better started anew.

use anyhow::{Result, bail};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long one look may take.
const LOOK_WITHIN: Duration = Duration::from_secs(5);
/// Looks in a row that may fail.
const FAILURES_MAX: u32 = 5;

pub(super) struct Watchdog {
    address: SocketAddr,
    failures: AtomicU32,
}

impl Watchdog {
    pub(super) fn new(listening: SocketAddr) -> Watchdog {
        Watchdog { address: callable(listening), failures: AtomicU32::new(0) }
    }

    /// One look. `is_alive`: whether the web server's own threads are there.
    pub(super) fn look(&self, is_alive: bool) -> Result<()> {
        if !is_alive {
            bail!("could not go on: the web server has ended; start the box again");
        }
        match ask(self.address) {
            Ok(()) => self.failures.store(0, Ordering::SeqCst),
            Err(error) => {
                let failures = self.failures.fetch_add(1, Ordering::SeqCst) + 1;
                log::warn!(
                    "the box does not answer itself on {} ({failures} in a row): {error}",
                    self.address
                );
                if failures >= FAILURES_MAX {
                    bail!("could not go on: the box has not answered itself {failures} times in a row");
                }
            }
        }
        Ok(())
    }
}

fn ask(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, LOOK_WITHIN)?;
    stream.set_read_timeout(Some(LOOK_WITHIN))?;
    stream.write_all(
        format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    if &status == b"HTTP/1.1 200" { Ok(()) } else { Err(std::io::Error::other("another answer than 200")) }
}

/// A box that listens on all addresses is asked on loopback.
fn callable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}
