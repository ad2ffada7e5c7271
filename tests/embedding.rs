//! The public face as a host uses it: threads, async runtimes, actix systems; closing, dropping, shedding.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{World, until};
use semj::event::{Cause, Payload, Text};
use semj::{
    CommitError, Committed, EmitError, Emitter, ErrorKind, Event, EventStream, Events, GroupTicket, Journal,
    OpenError, Priority, Query, Reader, Recorded, Ticket,
};
use serde_json::json;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use uuid::Uuid;

fn close(journal: &Journal) {
    journal.close(common::PATIENCE).unwrap();
}

fn numbers(events: Events) -> Vec<u64> {
    events.map(|e| e.unwrap().sequence).collect()
}

#[test]
fn handles_go_anywhere() {
    fn anywhere<T: Clone + Send + Sync + Unpin + 'static>() {}
    fn movable<T: Send + 'static>() {}
    anywhere::<Ticket>();
    anywhere::<GroupTicket>();
    anywhere::<Journal>();
    anywhere::<Emitter>();
    anywhere::<Reader>();
    anywhere::<Recorded>();
    anywhere::<Query>();
    movable::<Committed>();
    movable::<Events>();
    movable::<EventStream>();
    movable::<semj::Error>();
}

#[test]
fn threads_share_one_order() {
    let world = World::new();
    let journal = Journal::open(world.journal()).unwrap();
    let before = AtomicU64::new(0);
    let mut all: Vec<(u64, Uuid)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (journal, before) = (journal.clone(), &before);
                scope.spawn(move || {
                    let emitter = journal.emitter(&format!("thread{thread}"));
                    let mut tickets = Vec::new();
                    for number in 0..500 {
                        // Whatever was emitted before this began comes first.
                        let earlier = before.load(Ordering::SeqCst);
                        let ticket =
                            emitter.emit_blocking(Event::decision("go").payload(json!(number))).unwrap();
                        assert!(ticket.sequence() > earlier);
                        before.fetch_max(ticket.sequence(), Ordering::SeqCst);
                        tickets.push(ticket);
                    }
                    tickets.last().unwrap().wait().unwrap();
                    assert!(
                        tickets.iter().all(Ticket::is_durable),
                        "an earlier one is durable with a later one"
                    );
                    tickets.iter().map(|t| (t.sequence(), t.id())).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    all.sort_unstable();
    let found: Vec<Recorded> = journal.query().run().unwrap().map(|e| e.unwrap()).collect();
    assert_eq!(found.iter().map(|e| (e.sequence, e.id)).collect::<Vec<_>>(), all);
    assert_eq!(all.iter().map(|(n, _)| *n).collect::<Vec<_>>(), (1..=2_000).collect::<Vec<_>>());
    for thread in 0..4 {
        let own = found.iter().filter(|e| e.stream() == format!("thread{thread}"));
        let own: Vec<_> =
            own.map(|e| (e.local_sequence, e.event.payload_value().as_json().unwrap())).collect();
        assert_eq!(own, (0..500).map(|n| (n + 1, json!(n))).collect::<Vec<_>>());
    }
    close(&journal);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tickets_are_awaited_in_a_runtime() {
    let world = World::new();
    let journal = Journal::open(world.journal()).unwrap();
    let tasks: Vec<_> = (0..40)
        .map(|task| {
            let emitter = journal.emitter(&format!("task{task}"));
            tokio::spawn(async move {
                for _ in 0..10 {
                    let ticket = emitter.try_emit(Event::reasoning("hm")).unwrap();
                    ticket.written().await.unwrap();
                    ticket.clone().await.unwrap();
                    ticket.durable().await.unwrap();
                    assert!(ticket.is_durable());
                }
                let group = emitter.emit_all(vec![Event::decision("a"), Event::decision("b")]).unwrap();
                group.clone().await.unwrap();
                assert_eq!(group.sequences().count(), 2);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    // A future that is dropped cancels nothing, and leaves nothing behind.
    let ticket = journal.emitter("a").try_emit(Event::decision("dropped")).unwrap();
    let mut waiting = Box::pin(ticket.durable());
    let _ = std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx))).await;
    drop(waiting);
    ticket.await.unwrap();
    assert_eq!(journal.status().engine.unwrap().waiting, 0);
    // The answer comes as a stream, too, and may be left half read.
    let mut stream = journal.query().agent("task7").stream();
    let mut found = 0;
    while let Some(event) = stream.next().await {
        assert_eq!(event.unwrap().stream(), "task7");
        found += 1;
    }
    assert_eq!(found, 12);
    let mut half = journal.query().stream();
    assert_eq!(half.next().await.unwrap().unwrap().sequence, 1);
    drop(half);
    tokio::task::spawn_blocking(move || close(&journal)).await.unwrap();
}

/// Content so large that 64 events fill the ledger; as bytes, or looking at it would take longer than keeping it.
static LARGE: [u8; 1_000_000] = [b'x'; 1_000_000];

fn large() -> Event<'static> {
    Event::decision("large").payload(Payload::Bytes(Cow::Borrowed(&LARGE)))
}

/// Fills the ledger to the brim, from several threads; an event that had no room comes back.
fn fill(emitter: &Emitter) -> Box<Event<'static>> {
    let fill = || {
        (0..2_000).find_map(|_| match emitter.try_emit(large()) {
            Ok(_) => None,
            Err(EmitError::Full(event)) => Some(event),
            Err(e) => panic!("{e}"),
        })
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(fill), scope.spawn(fill)];
        let [one, two] = threads.map(|t| t.join().unwrap());
        one.or(two).expect("a full ledger")
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_ledger_gives_the_event_back_and_emit_async_waits_for_room() {
    let world = World::new();
    let journal = Journal::open(world.journal()).unwrap();
    let emitter = journal.emitter("a");
    let event = fill(&emitter);
    assert_eq!(event.intent_text().unwrap().as_str(), Some("large"), "it comes back");
    let first = emitter.emit_async(*event).await.unwrap();
    first.clone().await.unwrap();
    assert!(journal.get(first.sequence()).unwrap().is_some());
    // Several that wait at once all get through.
    fill(&emitter);
    let waiting: Vec<_> = (0..30)
        .map(|_| {
            let emitter = emitter.clone();
            tokio::spawn(async move { emitter.emit_async(large()).await.unwrap().await })
        })
        .collect();
    for task in waiting {
        tokio::time::timeout(common::PATIENCE, task).await.expect("in time").unwrap().unwrap();
    }
    tokio::task::spawn_blocking(move || close(&journal)).await.unwrap();
}

#[test]
fn what_is_shed_is_counted_and_the_count_becomes_an_event() {
    let world = World::new();
    let journal = Journal::open(world.journal()).unwrap();
    let emitter = journal.emitter("a");
    let background = || large().priority(Priority::BACKGROUND);
    until("something is shed", || {
        fill(&emitter);
        // Others may have been committed since, so it may take some.
        for _ in 0..5 {
            emitter.emit_unticketed(background()).unwrap();
        }
        journal.query().name("semj.shed").count().unwrap() > 0
    });
    // What may not be shed is refused instead.
    fill(&emitter);
    let kept = emitter.emit_unticketed(large()).map_err(|e| e.kind());
    let keyed = emitter.emit_unticketed(background().id(Uuid::from_u128(1))).map_err(|e| e.kind());
    assert!(matches!(kept, Ok(()) | Err(ErrorKind::Full)) && matches!(keyed, Ok(()) | Err(ErrorKind::Full)));
    let told = journal.query().name("semj.shed").run().unwrap().next().unwrap().unwrap();
    assert_eq!(told.stream(), "semj");
    assert!(told.event.payload_value().as_json().unwrap()["semj.shed_events"].as_u64() > Some(0));
    close(&journal);
    assert!(journal.verify().unwrap().record.intact);
}

#[test]
fn an_actix_host_gets_messages() {
    use actix::Actor;
    use semj::actix::{Ask, Emit, EmitDurable, Flush, JournalActor};
    let world = World::new();
    let journal = Journal::open(world.journal()).unwrap();
    let inner = journal.clone();
    actix::System::new().block_on(async move {
        let actor = JournalActor::new(inner.clone(), "host").start();
        let ticket = actor.send(Emit(Event::decision("one"))).await.unwrap().unwrap();
        ticket.await.unwrap();
        assert_eq!(actor.send(EmitDurable(Event::decision("two"))).await.unwrap().unwrap(), 2);
        for _ in 0..10 {
            actor.do_send(Emit(Event::decision("more")));
        }
        actor.send(Flush).await.unwrap().unwrap();
        assert_eq!(inner.status().durable_sequence, 12);
        let found = actor.send(Ask(Query::new().agent("host").limit(5))).await.unwrap().unwrap();
        assert_eq!(found.iter().map(|e| e.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        // An event that is refused is an answer, not a crash.
        let long = Event::decision("x".repeat(5_000));
        assert!(matches!(actor.send(Emit(long.clone())).await.unwrap(), Err(EmitError::Limit(_))));
        assert!(actor.send(EmitDurable(long)).await.unwrap().is_err());
        assert_eq!(actor.send(EmitDurable(Event::decision("last"))).await.unwrap().unwrap(), 13);
    });
    close(&journal);
}

#[test]
fn secrets_are_taken_out_before_admission() {
    let world = World::new();
    let journal = Journal::options()
        .scrub(|event| {
            if event.intent_text().and_then(Text::as_str).is_some_and(|t| t.contains("hunter2")) {
                *event = Event::new(event.event_type()).intent("[removed]");
            }
        })
        .open(world.journal())
        .unwrap();
    let emitter = journal.emitter("a");
    emitter.try_emit(Event::decision("the password is hunter2")).unwrap();
    emitter.emit_all(vec![Event::decision("hunter2 again"), Event::decision("fine")]).unwrap();
    emitter
        .emit_blocking(Event::decision("hunter2, too long: ").intent("hunter2".repeat(1_000)))
        .unwrap()
        .wait()
        .unwrap();
    let intents: Vec<String> = journal
        .query()
        .run()
        .unwrap()
        .map(|e| e.unwrap().event.intent_text().unwrap().as_str().unwrap().to_owned())
        .collect();
    assert_eq!(intents, ["[removed]", "[removed]", "fine", "[removed]"]);
    close(&journal);
    let bytes: Vec<u8> = world.segments().into_iter().flat_map(|(_, bytes)| bytes).collect();
    assert!(!bytes.windows(7).any(|w| w == b"hunter2"));
}

#[test]
fn ids_and_expected_positions_make_retries_safe() {
    let world = World::new();
    let id = Uuid::from_u128;
    let check = |journal: &Journal, is_new: bool| {
        let emitter = journal.emitter("a");
        let keyed = || Event::decision("once").id(id(7)).expect(0);
        let first = emitter.try_emit(keyed()).unwrap();
        assert_eq!((first.is_duplicate(), first.sequence(), first.id()), (!is_new, 1, id(7)));
        // The retry of an expectation that was met is answered, although it is met no more.
        let again = emitter.try_emit(keyed()).unwrap();
        assert!(again.is_duplicate() && again.sequence() == 1);
        again.wait().unwrap();
        match emitter.try_emit(Event::decision("other").id(id(7))) {
            Err(EmitError::Conflict { sequence: 1, .. }) => {}
            other => panic!("{other:?}"),
        }
        match emitter.try_emit(Event::decision("late").expect(0)) {
            Err(EmitError::Position { expected: 0, actual, .. }) => assert!(actual >= 1),
            other => panic!("{other:?}"),
        }
        let pair = || vec![Event::decision("x").id(id(8)), Event::decision("y").id(id(9))];
        let group = emitter.emit_all(pair()).unwrap();
        assert_eq!((group.is_duplicate(), group.sequences()), (!is_new, 2..=3));
        group.wait().unwrap();
        let halves = vec![Event::decision("x").id(id(8)), Event::decision("z").id(id(1_000))];
        assert_eq!(emitter.emit_all(halves).unwrap_err().kind(), ErrorKind::Conflict);
        let swapped = vec![Event::decision("y").id(id(9)), Event::decision("x").id(id(8))];
        assert_eq!(emitter.emit_all(swapped).unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(journal.status().engine.unwrap().admitted, 3, "a refusal changes nothing");
        // A cause must have been given before; an unknown id is foreign.
        assert_eq!(
            emitter.try_emit(Event::decision("c").parent(9_999)).unwrap_err().kind(),
            ErrorKind::Cycle
        );
        assert_eq!(journal.get(Cause::Id(id(9))).unwrap().unwrap().sequence, 3);
    };
    let journal = Journal::open(world.journal()).unwrap();
    check(&journal, true);
    close(&journal);
    let journal = Journal::open(world.journal()).unwrap();
    check(&journal, false);
    close(&journal);
}

#[test]
fn closing_ends_everything_for_every_handle() {
    let world = World::new();
    let journal = Journal::open(world.journal()).unwrap();
    let emitter = journal.emitter("a");
    let tickets: Vec<Ticket> = (0..1_000).map(|_| emitter.try_emit(Event::decision("x")).unwrap()).collect();
    let (other, clone) = (journal.emitter("b"), journal.clone());
    close(&journal);
    assert!(tickets.iter().all(|t| t.is_durable() && t.wait().is_ok()), "what was admitted was committed");
    for emitter in [&emitter, &other, &clone.emitter("c")] {
        assert!(matches!(emitter.try_emit(Event::decision("late")), Err(EmitError::Closed)));
        assert!(matches!(emitter.emit_blocking(Event::decision("late")), Err(EmitError::Closed)));
        assert!(matches!(emitter.emit_all(vec![Event::decision("late")]), Err(EmitError::Closed)));
        assert!(matches!(emitter.emit_unticketed(Event::decision("late")), Err(EmitError::Closed)));
    }
    close(&clone);
    // Another owner may have it while old handles live.
    let next = Journal::open(world.journal()).unwrap();
    assert_eq!(next.emitter("a").emit_blocking(Event::decision("next")).unwrap().sequence(), 1_001);
    assert!(matches!(emitter.try_emit(Event::decision("late")), Err(EmitError::Closed)));
    close(&next);
    drop((journal, clone, emitter, other));
    let again = Journal::open_read_only(world.journal()).unwrap();
    assert_eq!(again.count(Query::new()).unwrap(), 1_001);
}

#[test]
fn dropping_commits_what_was_admitted() {
    let world = World::new();
    for round in 1..=5 {
        let journal = Journal::open(world.journal()).unwrap();
        let ticket = {
            let emitter = journal.emitter("a");
            for _ in 0..99 {
                emitter.try_emit(Event::decision("x")).unwrap();
            }
            emitter.try_emit(Event::decision("last")).unwrap()
        };
        drop(journal);
        assert!(ticket.is_durable());
        let reader = Journal::open_read_only(world.journal()).unwrap();
        assert_eq!(reader.count(Query::new()).unwrap(), round * 100);
        assert_eq!(reader.status().unwrap().state, "idle");
    }
}

#[test]
fn one_owner_in_one_process_too() {
    let world = World::new();
    let journal = Journal::open(world.journal()).unwrap();
    match Journal::open(world.journal()) {
        Err(OpenError::Locked { pid, .. }) => assert_eq!(pid, std::process::id()),
        other => panic!("{other:?}"),
    }
    // Waiting for it works, wherever the other one is closed.
    let path = world.journal();
    let waiting = std::thread::spawn(move || Journal::options().lock_wait(common::PATIENCE).open(path));
    close(&journal);
    let next = waiting.join().unwrap().unwrap();
    close(&next);
    let gone = Journal::options().create(false).open(world.path("nowhere"));
    assert!(matches!(gone, Err(OpenError::Missing { .. })) && !world.path("nowhere").exists());
}

#[test]
fn two_journals_in_one_process_know_nothing_of_each_other() {
    let world = World::new();
    let journals: Vec<Journal> = ["one", "two"].map(|n| Journal::open(world.path(n)).unwrap()).to_vec();
    let mut ids = Vec::new();
    for round in 1..=50 {
        for (at, journal) in journals.iter().enumerate() {
            let ticket = journal.emitter("a").emit_blocking(Event::decision(format!("{at}"))).unwrap();
            ticket.wait().unwrap();
            assert_eq!(ticket.sequence(), round);
            ids.push((at, ticket.id()));
        }
    }
    for (at, id) in ids {
        assert!(journals[at].get(id).unwrap().is_some() && journals[1 - at].get(id).unwrap().is_none());
    }
    close(&journals[0]);
    journals[1].emitter("a").emit_blocking(Event::decision("alone")).unwrap().wait().unwrap();
    close(&journals[1]);
}

#[test]
fn a_query_covers_what_it_is_told_to() {
    let world = World::new();
    // Nothing is committed for want of age: only because somebody waits.
    let journal = Journal::options().max_age(Duration::from_secs(10)).open(world.journal()).unwrap();
    let emitter = journal.emitter("a");
    for round in 1..=50 {
        let ticket = emitter.try_emit(Event::decision("x")).unwrap();
        let found = numbers(journal.query().covering(&ticket).run().unwrap());
        assert_eq!(found, (1..=round).collect::<Vec<_>>());
    }
    close(&journal);
    let lost = journal.emitter("a").try_emit(Event::decision("x"));
    assert!(lost.is_err());
}

#[test]
fn the_record_is_verified_while_it_is_written() {
    let world = World::new();
    let journal = Journal::options().segment_bytes(1 << 20).open(world.journal()).unwrap();
    let stop = Arc::new(AtomicU64::new(0));
    let writer = {
        let (journal, stop) = (journal.clone(), stop.clone());
        std::thread::spawn(move || {
            let emitter = journal.emitter("a");
            let pad = "x".repeat(2_000);
            while stop.load(Ordering::SeqCst) == 0 {
                emitter.emit_blocking(Event::decision("grow").payload(json!({"pad": pad}))).unwrap();
            }
        })
    };
    let mut segments = 0;
    let mut checks = 0;
    while segments < 4 || checks < 8 {
        let before = journal.status().durable_sequence;
        let record = journal.verify().unwrap().record;
        assert!(record.intact && record.torn_tail.is_none(), "{record:?}");
        assert!(record.events >= before && record.events == record.head_sequence);
        segments = journal.status().segments;
        checks += 1;
    }
    stop.store(1, Ordering::SeqCst);
    writer.join().unwrap();
    close(&journal);
}

#[test]
fn a_wait_can_be_cut_short_and_taken_up_again() {
    let world = World::new();
    let journal = Journal::options().max_age(Duration::from_secs(10)).open(world.journal()).unwrap();
    let ticket = journal.emitter("a").try_emit(Event::decision("x")).unwrap();
    match ticket.wait_timeout(Duration::ZERO) {
        Ok(()) | Err(CommitError::Timeout) => {}
        other => panic!("{other:?}"),
    }
    ticket.wait().unwrap();
    ticket.wait_timeout(Duration::ZERO).unwrap();
    close(&journal);
}
