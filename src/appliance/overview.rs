//! All rooms and both doors at a glance, handed to the web room for the operator's routes.

use super::Rooms;
use super::status::{metrics, status};
use crate::door::inbound::{InboundCounters, InboundDoor};
use crate::door::outbound::OutboundDoor;
use crate::ground::clock::SharedClock;
use crate::ground::language::Language;
use crate::web::Overview;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

pub(super) struct BoxOverview {
    rooms: Rooms,
    outbound: Arc<OutboundDoor>,
    /// The door opens last and closes first, so it is only looked at while it is there.
    inbound: OnceLock<Weak<InboundDoor>>,
    runtime_dir: PathBuf,
    clock: SharedClock,
}

impl BoxOverview {
    pub(super) fn new(
        rooms: Rooms,
        outbound: Arc<OutboundDoor>,
        runtime_dir: &Path,
        clock: SharedClock,
    ) -> BoxOverview {
        BoxOverview { rooms, outbound, inbound: OnceLock::new(), runtime_dir: runtime_dir.to_owned(), clock }
    }

    pub(super) fn watch_door(&self, door: &Arc<InboundDoor>) {
        let _ = self.inbound.set(Arc::downgrade(door));
    }

    fn inbound_counters(&self) -> InboundCounters {
        let door = self.inbound.get().and_then(Weak::upgrade);
        door.map_or_else(InboundCounters::default, |door| door.counters())
    }
}

impl Overview for BoxOverview {
    fn status(&self, language: Language) -> Value {
        status(&self.rooms, &self.runtime_dir, &self.clock, language)
    }

    fn metrics(&self) -> String {
        metrics(&self.rooms, &self.clock, &self.inbound_counters(), &self.outbound.counters())
    }

    fn resume(&self) {
        self.rooms.collector.resume();
    }
}
