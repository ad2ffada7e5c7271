//! Failpoints: named places where a test may make an actor crash. Without the feature `chaos` they are nothing.

#[cfg(feature = "chaos")]
mod points {
    use parking_lot::Mutex;
    use std::collections::HashMap;

    static ARMED: Mutex<Option<HashMap<String, u64>>> = Mutex::new(None);

    /// Lets the `nth` pass (from 1) of this point panic.
    pub fn arm(point: &str, nth: u64) {
        ARMED.lock().get_or_insert_default().insert(point.to_owned(), nth);
    }

    /// Takes all failpoints away.
    pub fn disarm_all() {
        *ARMED.lock() = None;
    }

    pub(crate) fn point(name: &str) {
        let mut armed = ARMED.lock();
        let Some(left) = armed.as_mut().and_then(|a| a.get_mut(name)) else { return };
        *left -= 1;
        if *left == 0 {
            armed.as_mut().and_then(|a| a.remove(name));
            drop(armed);
            panic!("failpoint {name}");
        }
    }
}

#[cfg(feature = "chaos")]
pub(crate) use points::point;
#[cfg(feature = "chaos")]
pub use points::{arm, disarm_all};

/// Does nothing.
#[cfg(not(feature = "chaos"))]
#[inline(always)]
pub(crate) fn point(_: &str) {}
