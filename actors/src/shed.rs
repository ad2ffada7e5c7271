//! Events that were shed for want of room, until their count has become an event.

use parking_lot::Mutex;
use semj_storage::event::{Event, EventType, Timestamp};

/// `observability.alert_triggered`.
const ALERT: EventType = EventType::from_code(0x0805);

/// How many were shed, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shedding {
    /// How many.
    pub events: u64,
    /// The first one, ns since 1970.
    pub from_ns: i64,
    /// The last one, ns since 1970.
    pub to_ns: i64,
}

impl Shedding {
    /// The event that tells of it.
    pub fn event(&self) -> Event<'static> {
        Event::new(ALERT)
            .stream("semj")
            .name("semj.shed")
            .intent(format!("{} events were shed for want of room", self.events))
            .payload(serde_json::json!({
                "semj.shed_events": self.events,
                "semj.shed_from": Timestamp(self.from_ns).to_string(),
                "semj.shed_to": Timestamp(self.to_ns).to_string(),
            }))
    }
}

/// The count.
#[derive(Debug, Default)]
pub struct Shed(Mutex<Shedding>);

impl Shed {
    /// One more was shed.
    pub fn count(&self, now_ns: i64) {
        crate::metrics::shed(1);
        let mut shed = self.0.lock();
        if shed.events == 0 {
            shed.from_ns = now_ns;
        }
        shed.events += 1;
        shed.to_ns = now_ns;
    }

    /// Takes the count, if there is one.
    pub fn take(&self) -> Option<Shedding> {
        let mut shed = self.0.lock();
        (shed.events > 0).then(|| std::mem::take(&mut *shed))
    }

    /// Puts a count back that could not be told.
    pub fn put_back(&self, earlier: Shedding) {
        let mut shed = self.0.lock();
        if shed.events == 0 {
            *shed = earlier;
        } else {
            shed.events += earlier.events;
            shed.from_ns = earlier.from_ns;
        }
    }
}
