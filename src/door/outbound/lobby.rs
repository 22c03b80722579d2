//! The near end of a passage before anything is sent: a listener on loopback, and the question who may use it.
//! Only a request that carries the passage's secret gets through, once. Others are closed, and those who say
//! nothing are let wait beside the rest, so that no other local process can use or block the passage.

use super::fault::PassageFault;
use super::head;
use super::lever::Lever;
use super::wire::{Want, Woken, wait_for};
use crate::ground::clock::Deadline;
use std::io::{self, ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// The header that carries the passage's secret.
pub const SECRET_HEADER: &str = "tubox-passage";
/// The longest request head.
pub const REQUEST_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Connections that may wait with an unfinished head; the oldest goes first.
const VISITORS_MAX: usize = 8;
const READ_BYTES: usize = 4 * 1024;

/// The one who knew the secret.
pub struct Guest {
    /// The connection, non-blocking.
    pub stream: Arc<TcpStream>,
    /// The request's head and what came with it.
    pub bytes: Vec<u8>,
    /// How many of these bytes are the head.
    pub head_length: usize,
}

/// Someone who has not shown the secret yet.
pub struct Visitor {
    stream: TcpStream,
    bytes: Vec<u8>,
}

enum Verdict {
    Waits,
    Leaves,
    TooLong,
    Enters { head_length: usize },
}

/// Waits for the one who knows `secret`.
pub fn admit(
    listener: &TcpListener,
    secret: &str,
    within: Duration,
    lever: &Lever,
) -> Result<Guest, PassageFault> {
    let deadline = Deadline::after(within);
    let mut visitors: Vec<Visitor> = Vec::new();
    loop {
        lever.check()?;
        let left = deadline.remaining().ok_or(PassageFault::LocalPeerMissing)?;
        let mut sockets = vec![(listener.as_fd(), Want::Read)];
        sockets.extend(visitors.iter().map(|visitor| (visitor.stream.as_fd(), Want::Read)));
        match wait_for(&sockets, None, left) {
            Ok(Woken::TimeLimit | Woken::NearGone) => continue,
            Ok(Woken::Ready) => {}
            Err(error) => return Err(local_socket("wait for the request", &error)),
        }
        lever.check()?;
        accept_all(listener, lever, &mut visitors)?;
        if let Some(guest) = hear_all(&mut visitors, secret)? {
            return Ok(guest);
        }
    }
}

/// Takes in all who wait outside. The lever may be pulled at any moment, and a listener that was shut down refuses
/// with "invalid argument": what the lever says is then the fault, not the socket.
pub fn accept_all(
    listener: &TcpListener,
    lever: &Lever,
    visitors: &mut Vec<Visitor>,
) -> Result<(), PassageFault> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream
                    .set_nonblocking(true)
                    .map_err(|error| local_socket("set up the request's socket", &error))?;
                if visitors.len() == VISITORS_MAX {
                    visitors.remove(0);
                }
                visitors.push(Visitor { stream, bytes: Vec::new() });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if is_passing(&error) => continue,
            Err(error) => {
                lever.check()?;
                return Err(local_socket("accept the request", &error));
            }
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

fn hear_all(visitors: &mut Vec<Visitor>, secret: &str) -> Result<Option<Guest>, PassageFault> {
    let mut index = 0;
    while let Some(visitor) = visitors.get_mut(index) {
        match visitor.hear(secret) {
            Verdict::Waits => index += 1,
            Verdict::Leaves => drop(visitors.remove(index)),
            Verdict::TooLong => return Err(PassageFault::BadRequest { why: "its head is too long" }),
            Verdict::Enters { head_length } => {
                let Visitor { stream, bytes } = visitors.swap_remove(index);
                return Ok(Some(Guest { stream: Arc::new(stream), bytes, head_length }));
            }
        }
    }
    Ok(None)
}

impl Visitor {
    fn hear(&mut self, secret: &str) -> Verdict {
        let mut buffer = [0; READ_BYTES];
        loop {
            let count = match self.stream.read(&mut buffer) {
                Ok(0) => return Verdict::Leaves,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Verdict::Waits,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Verdict::Leaves,
            };
            let searched = self.bytes.len();
            self.bytes.extend(&buffer[..count]);
            if let Some(head_length) = head::head_length(&self.bytes, searched) {
                let knows = head::has_field(&self.bytes[..head_length], SECRET_HEADER, secret);
                return if knows { Verdict::Enters { head_length } } else { Verdict::Leaves };
            }
            if self.bytes.len() > REQUEST_HEAD_BYTES_MAX {
                let knows = head::has_field(&self.bytes, SECRET_HEADER, secret);
                return if knows { Verdict::TooLong } else { Verdict::Leaves };
            }
        }
    }
}

/// A fault of this machine.
pub fn local_socket(action: &'static str, error: &io::Error) -> PassageFault {
    PassageFault::LocalSocket { action, cause: error.to_string() }
}
