//! What tells a tail that its file changed: the writer itself, where it wakes who sleeps, else inotify.
//!
//! One descriptor stands for all of it, whatever it is at the time. Neither is sure: whoever waits looks again by himself
//! now and then.

use super::head_page::{DATA_AT, SLEEPS_AT};
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::fs::{Mode, OFlags, inotify};
use rustix::io::Errno;
use rustix::thread::futex;
use semj_sys::page::Page;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// How long the sleeping thread may outlive its source, ns.
const LOOK_NS: i64 = 100_000_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Wakes {
    all: OwnedFd,
    notify: Option<OwnedFd>,
    sleeper: Option<Sleeper>,
    /// The writer was said to wake who sleeps.
    was_asked: bool,
}

impl Wakes {
    /// Nothing tells yet.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Wakes {
            all: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            notify: None,
            sleeper: None,
            was_asked: false,
        })
    }

    pub(super) fn pollable(&self) -> BorrowedFd<'_> {
        self.all.as_fd()
    }

    /// The writer of the file at `path` wakes who sleeps, or does not. Where it cannot be asked to, inotify tells; where
    /// that fails nothing does.
    pub(super) fn watch(&mut self, path: &Path, writer_wakes: bool) {
        (self.notify, self.sleeper, self.was_asked) = (None, None, writer_wakes);
        if writer_wakes && let Ok(sleeper) = Sleeper::start(path) {
            let _ = self.add(sleeper.woken.as_fd());
            self.sleeper = Some(sleeper);
        } else if let Ok(notify) = notify(path) {
            let _ = self.add(notify.as_fd());
            self.notify = Some(notify);
        }
    }

    fn add(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::add(&self.all, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?)
    }

    /// Whether the writer was said to wake who sleeps, be it that it can be asked to or not.
    pub(super) fn was_asked(&self) -> bool {
        self.was_asked
    }

    /// Takes notice of what was told.
    pub(super) fn heard(&self) {
        let mut buffer = [0u8; 4_096];
        if let Some(notify) = &self.notify {
            while rustix::io::read(notify, &mut buffer).is_ok_and(|n| n > 0) {}
        }
        if let Some(sleeper) = &self.sleeper {
            let _ = rustix::io::read(&sleeper.woken, buffer.get_mut(..8).unwrap_or_default());
        }
    }

    /// Asks the writer to wake from now on; `true` where it was asked, and what it wrote before that is to be looked for
    /// once more.
    pub(super) fn sleep(&mut self, sleeps_already: bool) -> bool {
        if self.sleeper.as_ref().is_some_and(|s| s.sleep(sleeps_already).is_err()) {
            self.sleeper = None;
        }
        self.sleeper.is_some()
    }
}

/// A thread that sleeps in the writer's page, and passes on that it was woken.
///
/// Invariant: the page is only ever given to the kernel. The file is the writer's, who may cut it off.
#[derive(Debug)]
struct Sleeper {
    file: File,
    woken: Arc<OwnedFd>,
    orders: SyncSender<()>,
    has_ended: Arc<AtomicBool>,
}

impl Sleeper {
    fn start(path: &Path) -> io::Result<Self> {
        let file = rustix::fs::open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        let page = Page::map(file.as_fd(), false)?;
        let woken = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let has_ended = Arc::new(AtomicBool::new(false));
        let (orders, taken) = sync_channel(1);
        let (tell, ended) = (woken.clone(), has_ended.clone());
        std::thread::Builder::new()
            .name("semj-sleep".into())
            .spawn(move || sleep(&page, &taken, &tell, &ended))?;
        Ok(Sleeper { file: File::from(file), woken, orders, has_ended })
    }

    fn sleep(&self, sleeps_already: bool) -> io::Result<()> {
        if !sleeps_already {
            // A file that was cut off is not made longer by its reader.
            if self.file.metadata()?.file_type().is_file() && self.file.metadata()?.len() < DATA_AT {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.file.write_all_at(&1u32.to_le_bytes(), SLEEPS_AT as u64)?;
            // The writer publishes its length, then looks who sleeps; we say that we sleep, then look at its length.
            fence(Ordering::SeqCst);
        }
        // One order is enough: the thread looks at the word itself.
        let _ = self.orders.try_send(());
        Ok(())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::SeqCst);
    }
}

fn sleep(page: &Page, orders: &Receiver<()>, woken: &OwnedFd, has_ended: &AtomicBool) {
    let Some(word) = page.word(SLEEPS_AT) else { return };
    let at_most = Timespec { tv_sec: 0, tv_nsec: LOOK_NS };
    while orders.recv().is_ok() {
        loop {
            match futex::wait(word, futex::Flags::empty(), 1u32.to_le(), Some(&at_most)) {
                Err(Errno::TIMEDOUT | Errno::INTR) if !has_ended.load(Ordering::SeqCst) => {}
                Err(Errno::TIMEDOUT | Errno::INTR) => return,
                // It was woken, nobody sleeps any more, or the page is gone: the source finds out.
                _ => break,
            }
        }
        let _ = rustix::io::write(woken, &1u64.to_le_bytes());
    }
}

fn notify(path: &Path) -> io::Result<OwnedFd> {
    let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    let what = inotify::WatchFlags::MODIFY
        | inotify::WatchFlags::ATTRIB
        | inotify::WatchFlags::MOVE_SELF
        | inotify::WatchFlags::DELETE_SELF;
    inotify::add_watch(&fd, path, what)?;
    Ok(fd)
}
