//! What ends a passage from outside. Pulling it shuts the near sockets down; everything that a passage waits for
//! also watches these, so the passage is over at once.

use super::fault::PassageFault;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

/// Why the lever was pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// The holder of the passage needs it no more: nobody will come who has not come yet.
    NoMoreGuests,
    /// The holder of the passage threw it away.
    Dropped,
    /// The door is closed.
    DoorClosed,
}

/// The lever of one passage.
pub struct Lever {
    state: Mutex<State>,
}

struct State {
    pulled: Option<Pull>,
    listener: Option<Arc<TcpListener>>,
    near: Option<Arc<TcpStream>>,
}

impl Lever {
    /// The lever of a passage that listens.
    pub fn new(listener: Arc<TcpListener>) -> Lever {
        Lever { state: Mutex::new(State { pulled: None, listener: Some(listener), near: None }) }
    }

    /// Ends the passage, as far as `why` demands it.
    pub fn pull(&self, why: Pull) {
        let mut state = self.lock();
        if state.pulled != Some(Pull::DoorClosed) {
            state.pulled = Some(why);
        }
        if let Some(listener) = &state.listener {
            let _ = socket2::SockRef::from(&**listener).shutdown(Shutdown::Both);
        }
        if let (Pull::Dropped | Pull::DoorClosed, Some(near)) = (why, &state.near) {
            let _ = near.shutdown(Shutdown::Both);
        }
    }

    /// The fault that follows for a passage that nobody uses yet.
    pub fn check(&self) -> Result<(), PassageFault> {
        match self.lock().pulled {
            None => Ok(()),
            Some(Pull::NoMoreGuests | Pull::Dropped) => Err(PassageFault::LocalPeerMissing),
            Some(Pull::DoorClosed) => Err(PassageFault::DoorClosed),
        }
    }

    /// The passage is used from now on: the listener goes, `near` can be shut.
    pub fn occupy(&self, near: Arc<TcpStream>) {
        let mut state = self.lock();
        state.listener = None;
        if matches!(state.pulled, Some(Pull::Dropped | Pull::DoorClosed)) {
            let _ = near.shutdown(Shutdown::Both);
        }
        state.near = Some(near);
    }

    /// The passage is over: lets go of all sockets.
    pub fn release(&self) {
        let mut state = self.lock();
        state.listener = None;
        state.near = None;
    }

    /// What a vanished near side means.
    pub fn explain_near_gone(&self) -> PassageFault {
        match self.lock().pulled {
            Some(Pull::DoorClosed) => PassageFault::DoorClosed,
            _ => PassageFault::LocalPeerGone,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
