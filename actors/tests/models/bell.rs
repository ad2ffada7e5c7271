//! Doorbells: no ring is swallowed that comes after the receiver has heard the one before.

use crate::common::check;
use semj_actors::model::Bell;
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::sync::mpsc::channel;
use shuttle::thread::spawn;
use std::sync::Arc;

/// Two emitters, two pieces of work each.
const WORK: usize = 4;

fn emitters(bell: &Arc<Bell>, work: &Arc<AtomicUsize>) -> Vec<shuttle::thread::JoinHandle<()>> {
    (0..2)
        .map(|_| {
            let (bell, work) = (bell.clone(), work.clone());
            spawn(move || {
                for _ in 0..WORK / 2 {
                    work.fetch_add(1, Ordering::SeqCst);
                    bell.ring();
                }
            })
        })
        .collect()
}

#[test]
fn a_ring_after_heard_is_never_swallowed_and_one_at_most_is_under_way() {
    check(|| {
        let (bell, work) = (Arc::new(Bell::default()), Arc::new(AtomicUsize::new(0)));
        let under_way = Arc::new(AtomicUsize::new(0));
        let (tell, told) = channel();
        let ringing = under_way.clone();
        bell.connect(move || {
            assert_eq!(ringing.fetch_add(1, Ordering::SeqCst), 0, "a ring is under way already");
            let _ = tell.send(());
        });
        let emitters = emitters(&bell, &work);
        let mut seen = 0;
        while seen < WORK {
            // A swallowed ring would leave this receiver waiting for ever.
            told.recv().unwrap();
            under_way.fetch_sub(1, Ordering::SeqCst);
            bell.heard();
            seen = work.load(Ordering::SeqCst);
        }
        for emitter in emitters {
            emitter.join().unwrap();
        }
    });
}

#[test]
fn what_rang_before_the_bell_was_connected_is_heard() {
    check(|| {
        let (bell, work) = (Arc::new(Bell::default()), Arc::new(AtomicUsize::new(0)));
        let emitters = emitters(&bell, &work);
        let (tell, told) = channel();
        // As the lanes do when they start.
        bell.connect(move || {
            let _ = tell.send(());
        });
        bell.heard();
        bell.ring();
        let mut seen = 0;
        while seen < WORK {
            told.recv().unwrap();
            bell.heard();
            seen = work.load(Ordering::SeqCst);
        }
        for emitter in emitters {
            emitter.join().unwrap();
        }
    });
}
