//! The locks and atomics between threads, exchangeable so that a model checker can drive every interleaving.
//!
//! The checker takes every atomic access for sequentially consistent: what it shows is about the order of steps, and
//! says nothing about `Ordering`.

#[cfg(not(feature = "model"))]
mod real {
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
}

#[cfg(feature = "model")]
#[allow(unreachable_pub, reason = "they show in signatures where the real ones are public types")]
mod model {
    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
    use std::ops::{Deref, DerefMut};
    use std::sync::{Arc, PoisonError, TryLockError};
    use std::time::Instant;

    /// The checker's mutex with the face of the real one.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Mutex(shuttle::sync::Mutex::new(value))
        }
        pub fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard { mutex: &self.0, held: Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)) }
        }
        pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            let held = match self.0.try_lock() {
                Ok(held) => held,
                Err(TryLockError::Poisoned(held)) => held.into_inner(),
                Err(TryLockError::WouldBlock) => return None,
            };
            Some(MutexGuard { mutex: &self.0, held: Some(held) })
        }
        /// Without patience: the checker has no clock.
        pub fn try_lock_for(&self, _: std::time::Duration) -> Option<MutexGuard<'_, T>> {
            self.try_lock()
        }
    }

    /// Holds a [`Mutex`]; empty only while its owner sleeps on a [`Condvar`].
    #[derive(Debug)]
    pub struct MutexGuard<'a, T> {
        mutex: &'a shuttle::sync::Mutex<T>,
        held: Option<shuttle::sync::MutexGuard<'a, T>>,
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            let Some(held) = &self.held else { unreachable!("its owner sleeps") };
            held
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            let Some(held) = &mut self.held else { unreachable!("its owner sleeps") };
            held
        }
    }

    const ASLEEP: usize = 0;
    const NOTIFIED: usize = 1;
    const LATE: usize = 2;

    #[derive(Debug)]
    struct Sleeper {
        thread: shuttle::thread::Thread,
        state: AtomicUsize,
    }

    impl Sleeper {
        fn wake(&self, with: usize) {
            let _ = self.state.compare_exchange(ASLEEP, with, Ordering::SeqCst, Ordering::SeqCst);
            self.thread.unpark();
        }
    }

    /// Like the real one, but a deadline may be over at any moment: the checker has no clock and the one it brings
    /// along never times out. Nobody wakes without a reason.
    #[derive(Debug, Default)]
    pub struct Condvar(shuttle::sync::Mutex<Vec<Arc<Sleeper>>>);

    /// Whether a wait ended with its deadline.
    #[derive(Debug)]
    pub struct WaitTimeoutResult(bool);

    impl WaitTimeoutResult {
        pub fn timed_out(&self) -> bool {
            self.0
        }
    }

    impl Condvar {
        pub fn new() -> Self {
            Self::default()
        }

        fn enlist(&self) -> Arc<Sleeper> {
            let thread = shuttle::thread::current();
            let sleeper = Arc::new(Sleeper { thread, state: AtomicUsize::new(ASLEEP) });
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sleeper.clone());
            sleeper
        }

        fn sleep<T>(sleeper: &Sleeper, guard: &mut MutexGuard<'_, T>) {
            drop(guard.held.take());
            while sleeper.state.load(Ordering::SeqCst) == ASLEEP {
                shuttle::thread::park();
            }
            guard.held = Some(guard.mutex.lock().unwrap_or_else(PoisonError::into_inner));
        }

        pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let sleeper = self.enlist();
            Self::sleep(&sleeper, guard);
        }

        pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: Instant) -> WaitTimeoutResult {
            let sleeper = self.enlist();
            let clock = sleeper.clone();
            shuttle::thread::spawn(move || clock.wake(LATE));
            Self::sleep(&sleeper, guard);
            WaitTimeoutResult(sleeper.state.load(Ordering::SeqCst) == LATE)
        }

        pub fn notify_all(&self) {
            let sleepers = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
            sleepers.iter().for_each(|sleeper| sleeper.wake(NOTIFIED));
        }
    }

    /// The checker's read-write lock with the face of the real one.
    #[derive(Debug, Default)]
    pub struct RwLock<T>(shuttle::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub fn new(value: T) -> Self {
            RwLock(shuttle::sync::RwLock::new(value))
        }
        pub fn read(&self) -> shuttle::sync::RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(PoisonError::into_inner)
        }
        pub fn write(&self) -> shuttle::sync::RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

#[cfg(feature = "model")]
pub(crate) use model::{AtomicBool, AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, RwLock};
#[cfg(not(feature = "model"))]
pub(crate) use real::{AtomicBool, AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, RwLock};
