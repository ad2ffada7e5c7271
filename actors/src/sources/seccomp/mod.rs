//! seccomp user notification: calls of a tool that was started under a filter wait until they have been looked at. It needs
//! no privileges, and nothing gets lost: a call whose record is not taken is not made yet. Only where this process hangs for more
//! than a second with a call in hand, calls go on unlooked at, and are counted.
//!
//! The filter is handed down to all that comes from the tool. A call is told when it is entered; what it came to is found out
//! by looking at its places before and after. So a record is there only for what had an effect, and says `intent` where that
//! could not be found out. Records come in the order in which the calls were entered.
//!
//! Not seen: calls of 32-bit programs and through io_uring, sockets that `bind` makes, stores through mappings, and
//! writing itself: a file that was opened to be written is told as written when its size or its time has changed.

mod aim;
mod answer;
mod caller;
mod calls;
mod desk;
mod filter;
mod follow;
mod handover;
mod keeper;
mod line;
mod place;
mod plan;
mod shared;

pub use handover::{Listener, come_under, ends, take_over};
pub use keeper::keep;

use super::{
    Barrier, Caps, Item, KernelSource, Loss, NotSupported, Pid, Progress, Resume, ResumeKind, Sequencing,
    Unavailable, mounts,
};
use answer::Answer;
use desk::Desk;
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, Mode, fchmod, fstat, memfd_create};
use semj_sys::seccomp::take_turns;
use shared::Shared;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How often whoever takes records has to look for some.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The source.
#[derive(Debug)]
pub struct Seccomp(Arc<Ends>);

/// The other end of the source: what is to be watched comes in here.
#[derive(Clone, Debug)]
pub struct Watch(Arc<Ends>);

#[derive(Debug)]
struct Ends {
    shared: Arc<Shared>,
    bell: Arc<OwnedFd>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn unavailable(need: &str, remedy: &str) -> Unavailable {
    Unavailable::new(need, remedy).or_else("fanotify or inotify: what is changed, without calls")
}

impl Seccomp {
    /// Tries whether a tool can be put under a filter. There is nothing to see before [`Watch::begin`].
    ///
    /// # Errors
    /// [`Unavailable`], found by trying.
    pub fn open() -> Result<Self, Unavailable> {
        handover::probe()?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let bell = bell.map_err(|e| {
            unavailable("one more open file", "raise the limit of open files (ulimit -n)").because(&e.into())
        })?;
        let shared = Arc::new(Shared::new());
        Ok(Seccomp(Arc::new(Ends { shared, bell: Arc::new(bell), thread: Mutex::new(None) })))
    }

    /// The other end.
    pub fn watch(&self) -> Watch {
        Watch(self.0.clone())
    }

    /// How many calls had no effect: they failed, or left everything as it was.
    pub fn without_effect(&self) -> u64 {
        self.0.shared.without_effect()
    }

    fn ring(&self) {
        let _ = rustix::io::write(&*self.0.bell, &[1, 0, 0, 0, 0, 0, 0, 0]);
    }
}

impl Watch {
    /// Records of this tool carry the tag.
    pub fn adopt(&self, tag: u64) {
        self.0.shared.set_tag(tag);
    }

    /// Looks at the calls that wait at this listener from now on, and lets them go. The keeper at the other end of `keeper`
    /// does so when this source is closed or this process is gone; without one, the tool's calls fail then.
    ///
    /// # Errors
    /// When the operating system refuses memory, a descriptor or a thread, or the keeper does not answer.
    pub fn begin(&self, listener: Listener, keeper: Option<OwnedFd>) -> io::Result<()> {
        let (file, hand) = keeper::new_hand()?;
        if let Some(keeper) = &keeper {
            keeper::employ(keeper, listener.fd.as_fd(), file.as_fd())?;
        }
        // Kernels before 6.6 do without.
        let _ = take_turns(listener.fd.as_fd());
        let shared = self.0.shared.clone();
        shared.set_forbids_privileges(listener.forbids_privileges);
        shared.begin();
        let desk = Desk::new(shared.clone(), mounts::without_files(), has_fine_times());
        let answer = Answer {
            listener: listener.fd,
            hand,
            keeper,
            bell: self.0.bell.clone(),
            shared,
            desk,
            passed: 0,
            looked_ns: super::boot_ns().cast_signed(),
            is_over: false,
        };
        let thread = std::thread::Builder::new().name("semj-answer".into()).spawn(move || answer.run())?;
        *self.0.thread.lock() = Some(thread);
        Ok(())
    }
}

/// Whether two changes of a file in a row, each of them looked at, have different times.
fn has_fine_times() -> bool {
    let tried = || {
        let file = memfd_create("semj-times", MemfdFlags::CLOEXEC)?;
        let mut times = Vec::new();
        for mode in [0o600, 0o700, 0o600, 0o700] {
            fchmod(&file, Mode::from_raw_mode(mode))?;
            let stat = fstat(&file)?;
            times.push((stat.st_ctime, stat.st_ctime_nsec));
        }
        Ok::<bool, rustix::io::Errno>(times.windows(2).all(|w| matches!(w, [a, b] if a != b)))
    };
    tried().unwrap_or(false)
}

impl KernelSource for Seccomp {
    fn caps(&self) -> Caps {
        Caps {
            sequence: Sequencing::BySynchrony,
            // Only what the keeper had to let go because this process hung.
            loss: Loss::Counted,
            pid: Pid::Thread,
            result: false,
            kernel_time: false,
            merges: true,
            gates: true,
            resume: ResumeKind::None,
        }
    }

    fn pollable(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn poll_every(&self) -> Duration {
        LOOK_EVERY
    }

    fn next_batch(&mut self, max: usize, out: &mut Vec<Item>) -> io::Result<Progress> {
        Ok(self.0.shared.take(max, out))
    }

    fn barrier(&mut self) -> Result<Barrier, NotSupported> {
        let point = self.0.shared.ask();
        self.ring();
        Ok(Barrier(point))
    }

    fn resume_point(&self) -> Resume {
        Resume::default()
    }

    fn remarks(&self) -> Vec<String> {
        let programs = self.0.shared.privileged();
        let each = programs.iter().map(|p| {
            format!(
                "{} ran without the privileges it gives: nothing under a seccomp filter of an ordinary user gains any; --source inotify leaves them",
                String::from_utf8_lossy(p)
            )
        });
        each.collect()
    }
}

impl Drop for Seccomp {
    fn drop(&mut self) {
        self.0.shared.stop();
        self.ring();
        // From here on it is the keeper's turn; before, it would be both's.
        if let Some(thread) = self.0.thread.lock().take() {
            let _ = thread.join();
        }
    }
}
