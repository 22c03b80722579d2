//! What systemd wants to know of a service (sd_notify(3)): ready, how it goes, still alive, stopping.

use crate::config::{self, Environment};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The way to systemd; silent when there is none.
pub(super) struct Notifier {
    way: Option<(UnixDatagram, SocketAddr)>,
}

impl Notifier {
    /// By `NOTIFY_SOCKET`: a path, or an abstract name that begins with `@`.
    pub(super) fn new(environment: &Environment) -> Notifier {
        let way = config::variable(environment, "NOTIFY_SOCKET").and_then(|name| {
            let address = match name.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name).ok()?,
                None => SocketAddr::from_pathname(name).ok()?,
            };
            Some((UnixDatagram::unbound().ok()?, address))
        });
        Notifier { way }
    }

    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Alive, and one line for `systemctl status`.
    pub(super) fn alive(&self, status: &str) {
        self.tell(&format!("WATCHDOG=1\nSTATUS={status}"));
    }

    /// systemd may be restarting itself; the next message gets through.
    fn tell(&self, message: &str) {
        if let Some((socket, address)) = &self.way {
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = format!("tubox-test-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap();
        for (socket, name) in [(by_path, path.display().to_string()), (by_name, format!("@{abstract_name}"))]
        {
            let notifier = Notifier::new(&vec![("NOTIFY_SOCKET".to_owned(), name)]);
            notifier.alive("3 waiting");
            let mut buffer = [0; 64];
            let count = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..count], b"WATCHDOG=1\nSTATUS=3 waiting");
        }
        Notifier::new(&Vec::new()).ready();
    }
}
