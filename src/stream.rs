//! Answers for async code: read on a thread of their own, handed over through a bounded channel.

use crate::view::Events;
use crate::{Error, Recorded};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Events read ahead of the consumer.
const AHEAD_MAX: usize = 256;

#[derive(Default)]
struct State {
    ready: VecDeque<Result<Recorded, Error>>,
    ended: bool,
    dropped: bool,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Channel {
    state: Mutex<State>,
    room: Condvar,
}

/// The events of an answer, for async code. It never blocks the executor; dropping it ends the reading.
pub struct EventStream(Arc<Channel>);

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EventStream")
    }
}

impl Channel {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (result, waker) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let result = change(&mut state);
            (result, state.waker.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    /// Hands one item over; `false` when nobody wants it any more.
    fn put(&self, item: Result<Recorded, Error>) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.ready.len() >= AHEAD_MAX && !state.dropped {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.dropped {
            return false;
        }
        drop(state);
        self.change(|state| state.ready.push_back(item));
        true
    }
}

impl EventStream {
    pub(crate) fn start(run: impl FnOnce() -> Result<Events, Error> + Send + 'static) -> Self {
        let channel = Arc::new(Channel::default());
        let sender = channel.clone();
        let read = move || {
            match run() {
                Ok(events) => {
                    for item in events {
                        if !sender.put(item) {
                            break;
                        }
                    }
                }
                Err(e) => {
                    sender.put(Err(e));
                }
            }
            sender.change(|state| state.ended = true);
        };
        if let Err(e) = std::thread::Builder::new().name("semj-query".into()).spawn(read) {
            channel.change(|state| {
                let source = semj_storage::error::ReadError::io("query".as_ref(), "start a thread", e);
                state.ready.push_back(Err(source.into()));
                state.ended = true;
            });
        }
        EventStream(channel)
    }

    /// The next event; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Recorded, Error>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Recorded, Error>>> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.ready.pop_front() {
            Some(item) => {
                self.0.room.notify_one();
                Poll::Ready(Some(item))
            }
            None if state.ended => Poll::Ready(None),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl futures_core::Stream for EventStream {
    type Item = Result<Recorded, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        EventStream::poll_next(&mut self, cx)
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).dropped = true;
        self.0.room.notify_one();
    }
}
