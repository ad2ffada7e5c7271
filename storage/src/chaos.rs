//! Failpoints: named places where a test may crash a thread, kill the process or make a thread hang.
//!
//! Without the feature `chaos` a point is nothing. With it, a point that is not armed only counts its passes.
//! No point lies where a lock is held, so that a crash leaves none poisoned or taken.

/// What a failpoint panics with: whoever supervises can tell such a crash from a real one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Injected {
    /// The point that crashed.
    pub point: &'static str,
}

/// All points of this package, in the order of a journal's life. A panic at `trees:rows` or
/// `trees:cursor` is taken for one of sled's.
pub const POINTS: &[&str] = &[
    "recover:inspected",
    "recover:set_aside",
    "recover:stillborn",
    "recover:marked",
    "recover:removed",
    "recover:rewritten",
    "recover:renamed",
    "recover:cut",
    "recover:done",
    "quarantine:written",
    "lock:head",
    "lock:indexed",
    "writer:rotate",
    "writer:segment_created",
    "writer:segment_synced",
    "writer:segment_named",
    "writer:before_write",
    "writer:after_write",
    "writer:before_sync",
    "writer:after_sync",
    "writer:before_publish",
    "writer:after_publish",
    "writer:close_marked",
    "writer:close_cut",
    "prealloc:fill",
    "prealloc:filled",
    "seal:begin",
    "seal:cut",
    "seal:written",
    "seal:synced",
    "seal:done",
    "blobs:begin",
    "blobs:written",
    "blobs:synced",
    "blobs:renamed",
    "blobs:done",
    "trees:open",
    "trees:set_aside",
    "trees:install",
    "trees:apply",
    "trees:rows",
    "trees:cursor",
];

/// Does nothing.
#[cfg(not(feature = "chaos"))]
#[inline(always)]
pub fn point(_: &str) {}

#[cfg(feature = "chaos")]
pub use armed::{Action, VARIABLE, arm, arm_from_env, disarm_all, hanging, on_pass, passes, point, release};

#[cfg(feature = "chaos")]
mod armed {
    use super::Injected;
    use parking_lot::{Condvar, Mutex};
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    type Hook = Rc<dyn Fn(&'static str)>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    /// Calls `hook` at every point that this thread passes, instead of everything else: a simulation decides there what
    /// happens, and may unwind. `None` ends that.
    pub fn on_pass(hook: Option<Hook>) {
        HOOK.set(hook);
    }

    /// The environment variable with points to arm from the start: `name=kill@3;name2=panic@1`.
    pub const VARIABLE: &str = "SEMJ_FAILPOINTS";

    /// What an armed point does.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Action {
        /// Panics with [`Injected`].
        Panic,
        /// Ends the own process with SIGKILL.
        Kill,
        /// Blocks the thread until [`release`] or [`disarm_all`].
        Hang,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Armed {
        /// Passes left before the action, its own included.
        left: u64,
        action: Action,
    }

    #[derive(Debug)]
    struct State {
        armed: BTreeMap<String, Armed>,
        passes: BTreeMap<&'static str, u64>,
        hanging: usize,
        /// Changes with each release: who hangs since before goes on.
        releases: u64,
        /// The environment was looked at.
        is_set_up: bool,
    }

    static STATE: Mutex<State> = Mutex::new(State {
        armed: BTreeMap::new(),
        passes: BTreeMap::new(),
        hanging: 0,
        releases: 0,
        is_set_up: false,
    });
    static RELEASED: Condvar = Condvar::new();

    /// Lets the `nth` pass from now (from 1) of this point do `action`, once. Arming it again replaces that.
    pub fn arm(name: &str, nth: u64, action: Action) {
        STATE.lock().armed.insert(name.to_owned(), Armed { left: nth.max(1), action });
    }

    /// Disarms all points and lets go who hangs. Passes stay counted.
    pub fn disarm_all() {
        STATE.lock().armed.clear();
        release();
    }

    /// Lets go who hangs; armed points stay armed.
    pub fn release() {
        STATE.lock().releases += 1;
        RELEASED.notify_all();
    }

    /// How often each point was passed since the process started.
    pub fn passes() -> BTreeMap<&'static str, u64> {
        STATE.lock().passes.clone()
    }

    /// How many threads hang in a point.
    pub fn hanging() -> usize {
        STATE.lock().hanging
    }

    /// Arms what [`VARIABLE`] says. The first pass of any point does it, so only a process that wants to know whether
    /// the variable is right has to call it.
    ///
    /// # Errors
    /// The part that cannot be read; nothing is armed then.
    pub fn arm_from_env() -> Result<(), String> {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        let parsed = parse(&text);
        let mut state = STATE.lock();
        state.is_set_up = true;
        state.armed.extend(parsed?);
        Ok(())
    }

    /// Reads `name=action@nth;...`; `@nth` may be left out and is 1 then.
    fn parse(text: &str) -> Result<Vec<(String, Armed)>, String> {
        let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
        parts
            .map(|part| {
                let wrong = || format!("{VARIABLE}: {part}, expected name=panic@1, =kill@1 or =hang@1");
                let (name, rest) = part.split_once('=').ok_or_else(wrong)?;
                let (action, nth) = rest.split_once('@').unwrap_or((rest, "1"));
                let action = match action {
                    "panic" => Action::Panic,
                    "kill" => Action::Kill,
                    "hang" => Action::Hang,
                    _ => return Err(wrong()),
                };
                let left = nth.parse().ok().filter(|nth| *nth > 0).ok_or_else(wrong)?;
                Ok((name.to_owned(), Armed { left, action }))
            })
            .collect()
    }

    /// Passes a point: counts, and does what it is armed with.
    pub fn point(name: &'static str) {
        let hook = HOOK.with_borrow(Clone::clone);
        if let Some(hook) = hook {
            return hook(name);
        }
        let mut state = STATE.lock();
        if !state.is_set_up {
            drop(state);
            if let Err(reason) = arm_from_env() {
                // A run in which nothing is armed by mistake would prove nothing.
                eprintln!("{reason}");
                std::process::abort();
            }
            state = STATE.lock();
        }
        *state.passes.entry(name).or_default() += 1;
        let Some(armed) = state.armed.get_mut(name) else { return };
        armed.left -= 1;
        if armed.left > 0 {
            return;
        }
        let action = armed.action;
        state.armed.remove(name);
        match action {
            Action::Panic => {
                drop(state);
                std::panic::panic_any(Injected { point: name });
            }
            Action::Kill => {
                drop(state);
                let _ =
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            }
            Action::Hang => {
                state.hanging += 1;
                let since = state.releases;
                while state.releases == since {
                    RELEASED.wait(&mut state);
                }
                state.hanging -= 1;
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn what_the_variable_says_is_understood_or_refused() {
            assert_eq!(parse(""), Ok(vec![]));
            assert_eq!(
                parse("a:b=kill@3; c=panic;d=hang@2;"),
                Ok(vec![
                    ("a:b".into(), Armed { left: 3, action: Action::Kill }),
                    ("c".into(), Armed { left: 1, action: Action::Panic }),
                    ("d".into(), Armed { left: 2, action: Action::Hang }),
                ])
            );
            for wrong in ["a", "a=", "a=kil@1", "a=kill@0", "a=kill@x", "a=kill@"] {
                assert!(parse(wrong).is_err(), "{wrong}");
            }
        }

        #[test]
        fn the_nth_pass_panics_once_with_its_name() {
            arm("test:panic", 2, Action::Panic);
            point("test:panic");
            let caught = std::panic::catch_unwind(|| point("test:panic")).unwrap_err();
            assert_eq!(caught.downcast_ref::<Injected>(), Some(&Injected { point: "test:panic" }));
            point("test:panic");
            assert_eq!(passes().get("test:panic"), Some(&3));
        }

        #[test]
        fn a_hanging_thread_goes_on_when_it_is_released() {
            arm("test:hang", 1, Action::Hang);
            std::thread::scope(|scope| {
                let hangs = scope.spawn(|| point("test:hang"));
                while hanging() == 0 {
                    std::thread::yield_now();
                }
                assert!(!hangs.is_finished());
                release();
            });
            assert_eq!(hanging(), 0);
        }

        #[test]
        fn a_hook_sees_every_pass_of_its_thread() {
            let seen = Rc::new(RefCell::new(Vec::new()));
            let sees = seen.clone();
            on_pass(Some(Rc::new(move |name| sees.borrow_mut().push(name))));
            point("test:hook");
            std::thread::scope(|scope| drop(scope.spawn(|| point("test:hook"))));
            on_pass(None);
            point("test:hook");
            assert_eq!(*seen.borrow(), ["test:hook"]);
        }

        #[test]
        fn a_kill_ends_the_process() {
            use std::os::unix::process::ExitStatusExt;
            const CHILD: &str = "SEMJ_TEST_KILL";
            if std::env::var_os(CHILD).is_some() {
                point("test:kill");
                point("test:kill");
                std::process::exit(0);
            }
            let run = |nth: u64| {
                std::process::Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "chaos::armed::tests::a_kill_ends_the_process"])
                    .env(CHILD, "1")
                    .env(VARIABLE, format!("test:kill=kill@{nth}"))
                    .stdout(std::process::Stdio::null())
                    .status()
                    .unwrap()
            };
            assert_eq!(run(2).signal(), Some(9));
            assert_eq!(run(3).code(), Some(0));
        }
    }
}
