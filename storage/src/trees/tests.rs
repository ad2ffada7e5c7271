//! The trees against crashes, damage and the largest values.

use super::rows::{self, RawRow};
use super::*;
use crate::event::{Event, Text};
use crate::limits::{CHUNK_EVENTS, TREE_KEY_BYTES_MAX, TREE_VALUE_BYTES_MAX};
use crate::query::mock::{MockSource, Rng};
use crate::query::{EventSource, Plan, Query, QueryRun};
use std::path::Path;
use std::sync::Arc;

fn source_of(len: u64) -> MockSource {
    let mut source = MockSource::new(len);
    source.extend((0..len).map(|i| {
        let event =
            Event::decision("x").agent(format!("agent-{}", i % 5)).path(format!("/dir-{}/{i}", i % 90));
        if i % 3 == 0 {
            event.tag(format!("tag-{}", i % 200)).parent(Uuid::from_u128(i.into()))
        } else {
            event
        }
    }));
    source
}

fn postings(source: &MockSource, chunk: u64) -> ChunkPostings {
    let mut postings = ChunkPostings::new(chunk);
    for sequence in chunk_first(chunk)..=source.last_sequence().min(chunk_first(chunk) + CHUNK_EVENTS - 1) {
        let entry = source.entry(sequence);
        postings.add(&entry, &entry.event().unwrap());
    }
    postings
}

fn cursor(sequence: u64) -> Cursor {
    Cursor { sequence, witness: 0, digest: [0; 32] }
}

fn catch_up(index: &Arc<Index>, source: &MockSource) -> Progress {
    let mut core = IndexCore::new(Arc::clone(index));
    loop {
        let progress = core.step(source, 1_000).unwrap();
        if progress.is_caught_up() {
            return progress;
        }
    }
}

/// An index of `source` with its trees in `folder`.
fn index_in(folder: &Path, source: &MockSource) -> Arc<Index> {
    let index = Arc::new(Index::new());
    index.install(Trees::open(folder).unwrap(), source).unwrap();
    catch_up(&index, source);
    index
}

fn check_sizes(rows: &[RawRow]) {
    for (key, value) in rows {
        assert!(key.len() <= TREE_KEY_BYTES_MAX && value.len() <= TREE_VALUE_BYTES_MAX);
    }
}

/// Compares look-ups in sled with look-ups in memory, for present, absent, partial and long values.
fn check_lookups(trees: &Trees, memory: &ChunkPostings, rng: &mut Rng) {
    for kind in Kind::ALL {
        let values: Vec<Vec<u8>> = memory.sorted(kind).iter().map(|(v, _)| v.to_vec()).collect();
        for _ in 0..40 {
            let mut value = match values.is_empty() {
                true => vec![7],
                false => values[rng.below(values.len() as u64) as usize].clone(),
            };
            match rng.below(4) {
                0 => value.truncate(rng.below(value.len() as u64 + 1) as usize),
                1 => value.push(rng.next() as u8),
                _ => {}
            }
            for wanted in [Wanted::Exact(value.clone()), Wanted::Prefix(value.clone())] {
                let mut expected = Bits::EMPTY;
                memory.lookup(kind, &wanted, &mut expected).unwrap();
                assert_eq!(
                    trees.lookup(kind, &wanted, memory.chunk()).unwrap(),
                    expected,
                    "{kind:?} {wanted:?}"
                );
            }
        }
    }
}

#[test]
fn sled_answers_like_memory() {
    let mut rng = Rng::from_env("sled_answers_like_memory");
    let source = source_of(2 * CHUNK_EVENTS);
    let folder = tempfile::tempdir().unwrap();
    let trees = Trees::open(folder.path()).unwrap();
    assert_eq!(trees.cursor().unwrap(), None);
    for chunk in 0..2 {
        let memory = postings(&source, chunk);
        let rows = rows::encode(chunk, &memory).unwrap();
        check_sizes(&rows);
        assert!(rows.len() < 100, "{} rows", rows.len());
        for _twice in 0..2 {
            trees.apply(&memory, cursor((chunk + 1) * CHUNK_EVENTS)).unwrap();
        }
        check_lookups(&trees, &memory, &mut rng);
    }
    assert_eq!(trees.cursor().unwrap(), Some(cursor(2 * CHUNK_EVENTS)));
    assert!(trees.apply(&ChunkPostings::new(2), cursor(3 * CHUNK_EVENTS)).is_err(), "not complete");
}

#[test]
fn unique_paths_of_4_kib_make_small_rows() {
    let mut rng = Rng::from_env("unique_paths_of_4_kib_make_small_rows");
    for shared_head in [true, false] {
        let mut source = MockSource::new(1);
        source.extend((0..CHUNK_EVENTS).map(|i| {
            let mut path = vec![b'/'];
            if !shared_head {
                (0..50).for_each(|_| path.extend(rng.next().to_le_bytes()));
            }
            path.resize(4_000, b'x');
            path.extend(format!("{i:096}").bytes());
            Event::decision("x").path(Text::from_bytes(path))
        }));
        let memory = postings(&source, 0);
        let rows = rows::encode(0, &memory).unwrap();
        check_sizes(&rows);
        println!("shared head {shared_head}: {} rows, {} bytes in memory", rows.len(), memory.cost());
        assert!(rows.len() < 250, "{} rows", rows.len());
        let folder = tempfile::tempdir().unwrap();
        let trees = Trees::open(folder.path()).unwrap();
        trees.apply(&memory, cursor(CHUNK_EVENTS)).unwrap();
        let path = source.entry(77).event().unwrap().path_text().unwrap().as_bytes().to_vec();
        let exact = trees.lookup(Kind::Path, &Wanted::Exact(path.clone()), 0).unwrap();
        assert!(exact.contains(76) && exact.count() < 3, "the rest of a long value counts");
        assert!(trees.lookup(Kind::Path, &Wanted::Prefix(path), 0).unwrap().contains(76));
        assert!(!folder.path().join("blobs").read_dir().is_ok_and(|mut d| d.next().is_some()));
    }
}

#[test]
fn memory_is_bounded_and_what_does_not_fit_is_still_found() {
    let mut source = MockSource::new(1);
    source.extend(
        (0..CHUNK_EVENTS).map(|i| {
            (0..64).fold(Event::decision("x"), |e, t| e.tag(format!("{i}-{t}-{}", "z".repeat(180))))
        }),
    );
    let memory = postings(&source, 0);
    assert!(memory.cost() < 4 << 20, "{} bytes", memory.cost());
    let rows = rows::encode(0, &memory).unwrap();
    check_sizes(&rows);
    let folder = tempfile::tempdir().unwrap();
    let trees = Trees::open(folder.path()).unwrap();
    trees.apply(&memory, cursor(CHUNK_EVENTS)).unwrap();
    for offset in [0, 50, 2_000, 4_095] {
        let tag = Wanted::Exact(format!("{offset}-3-{}", "z".repeat(180)).into_bytes());
        assert!(trees.lookup(Kind::Tag, &tag, 0).unwrap().contains(offset), "{offset}");
        let none = trees.lookup(Kind::Agent, &tag, 0).unwrap();
        assert!(none.is_empty(), "only the kind that overflowed says too much");
    }
}

#[test]
fn a_restart_goes_on_at_the_cursor() {
    let source = source_of(2 * CHUNK_EVENTS + 100);
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(index_in(folder.path(), &source).indexed_sequence(), 2 * CHUNK_EVENTS + 100);
    let index = Arc::new(Index::new());
    assert_eq!(index.install(Trees::open(folder.path()).unwrap(), &source).unwrap(), 2 * CHUNK_EVENTS);
    let progress = IndexCore::new(Arc::clone(&index)).step(&source, 1_000).unwrap();
    assert_eq!((progress.taken, progress.indexed, progress.has_trees), (100, 2 * CHUNK_EVENTS + 100, true));
}

#[test]
fn trees_of_another_record_are_stale() {
    let source = source_of(CHUNK_EVENTS + 10);
    let folder = tempfile::tempdir().unwrap();
    drop(index_in(folder.path(), &source));
    for other in [source_of(CHUNK_EVENTS + 11), source_of(100)] {
        let refused = Index::new().install(Trees::open(folder.path()).unwrap(), &other);
        assert!(matches!(refused, Err(TreeError::Stale { .. })), "{refused:?}");
    }
    let aside = folder.path().with_extension("aside");
    Trees::set_aside(folder.path(), &aside).unwrap();
    Trees::set_aside(folder.path(), &aside).unwrap();
    let index = index_in(folder.path(), &source_of(100));
    assert_eq!(index.indexed_sequence(), 100);
    std::fs::remove_dir_all(aside).unwrap();
}

/// How a tree is spoilt.
type Spoil = fn(&sled::Tree, &[u8]);

#[test]
fn spoilt_rows_never_change_an_answer() {
    let source = Arc::new(source_of(CHUNK_EVENTS + 10));
    let query = Query::new().path("/dir-7/").agent("agent-2");
    let expected = source.naive(&query);
    assert!(!expected.is_empty());
    let spoils: [Spoil; 4] = [
        |tree, key| drop(tree.remove(key).unwrap()),
        |tree, key| {
            let mut value = tree.get(key).unwrap().unwrap().to_vec();
            let at = value.len() / 2;
            value[at] ^= 1;
            tree.insert(key, value).unwrap();
        },
        |tree, key| drop(tree.insert(key, b"").unwrap()),
        |tree, _| tree.clear().unwrap(),
    ];
    for spoil in spoils {
        // Every row that this query reads, and the chunk's own.
        for kind in [0, Kind::Agent as u8, Kind::Path as u8] {
            let folder = tempfile::tempdir().unwrap();
            let index = index_in(folder.path(), &source);
            let trees = index.trees_for_test();
            let keys: Vec<_> = trees.tree_for_test().scan_prefix([kind]).keys().map(Result::unwrap).collect();
            keys.iter().for_each(|key| spoil(trees.tree_for_test(), key));
            let run = |index: &Arc<Index>| {
                let run = QueryRun::new(source.clone(), Some(Arc::clone(index)), query.clone());
                run.map(|e| e.unwrap().sequence).collect::<Vec<_>>()
            };
            assert_eq!(run(&index), expected);
            assert!(index.needs_rebuild(), "{:?}", index.failure());
            assert_eq!((index.has_trees(), index.indexed_sequence()), (false, 0));
            assert!(!IndexCore::new(Arc::clone(&index)).step(&*source, 10).unwrap().has_trees);
            drop((trees, index.take_failed()));
            let aside =
                folder.path().join("../aside-").with_file_name(format!("semj-aside-{}", Uuid::new_v4()));
            Trees::set_aside(folder.path(), &aside).unwrap();
            index.install(Trees::open(folder.path()).unwrap(), &*source).unwrap();
            catch_up(&index, &source);
            assert!(!index.needs_rebuild() && index.has_trees());
            assert_eq!(run(&index), expected);
            std::fs::remove_dir_all(aside).unwrap();
        }
    }
}

#[test]
fn queries_beside_the_indexer_and_beside_failures_are_right() {
    let source = Arc::new(source_of(3 * CHUNK_EVENTS + 500));
    let query = Query::new().path("/dir-7/").agent("agent-2").reverse(true);
    let mut expected = source.naive(&query);
    expected.reverse();
    let index = Arc::new(Index::new());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let run = QueryRun::new(source.clone(), Some(Arc::clone(&index)), query.clone());
                    assert_eq!(run.map(|e| e.unwrap().sequence).collect::<Vec<_>>(), expected);
                }
            });
        }
        for round in 0..4 {
            let folder = tempfile::tempdir().unwrap();
            index.install(Trees::open(folder.path()).unwrap(), &*source).unwrap();
            let mut core = IndexCore::new(Arc::clone(&index));
            for step in 0.. {
                let progress = core.step(&*source, 500).unwrap();
                if step == 10 && round % 2 == 0 {
                    // Rows vanish under the queries' feet.
                    let trees = index.trees_for_test();
                    trees
                        .tree_for_test()
                        .scan_prefix([Kind::Path as u8])
                        .keys()
                        .map(Result::unwrap)
                        .for_each(|key| {
                            trees.tree_for_test().remove(key).unwrap();
                        });
                }
                if progress.is_caught_up() {
                    break;
                }
            }
            index.fail(TreeError::Stale { reason: "the round is over" });
            drop(index.take_failed());
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn retention_leaves_no_gap_to_look_into() {
    let mut source = source_of(3 * CHUNK_EVENTS + 10);
    source.first = 2 * CHUNK_EVENTS + 7;
    let folder = tempfile::tempdir().unwrap();
    let index = index_in(folder.path(), &source);
    assert_eq!(index.indexed_sequence(), 3 * CHUNK_EVENTS + 10);
    let plan = Plan::of(&Query::new().agent("agent-1"));
    assert_eq!([0, 1].map(|chunk| plan.candidates(&index, chunk)), [None, None]);
    assert!(plan.candidates(&index, 2).is_some_and(|c| c.matching.count() > 800));
    drop(index);
    // More was removed since: the trees end before the record begins.
    let mut source = source_of(9 * CHUNK_EVENTS);
    source.first = 5 * CHUNK_EVENTS;
    let refused = Index::new().install(Trees::open(folder.path()).unwrap(), &source);
    assert!(matches!(refused, Err(TreeError::Stale { .. })), "{refused:?}");
}

#[test]
fn one_lost_row_of_many_is_noticed() {
    let source = source_of(CHUNK_EVENTS);
    let folder = tempfile::tempdir().unwrap();
    let trees = Trees::open(folder.path()).unwrap();
    let memory = postings(&source, 0);
    trees.apply(&memory, cursor(CHUNK_EVENTS)).unwrap();
    let keys: Vec<_> =
        trees.tree_for_test().scan_prefix([Kind::Path as u8]).keys().map(Result::unwrap).collect();
    assert!(keys.len() > 5, "{} rows", keys.len());
    let values: Vec<Vec<u8>> = memory.sorted(Kind::Path).iter().map(|(v, _)| v.to_vec()).collect();
    for key in keys {
        let value = trees.tree_for_test().remove(&key).unwrap().unwrap();
        let mut refused = 0;
        for wanted in &values {
            let wanted = Wanted::Exact(wanted.clone());
            match trees.lookup(Kind::Path, &wanted, 0) {
                Ok(found) => {
                    let mut expected = Bits::EMPTY;
                    memory.lookup(Kind::Path, &wanted, &mut expected).unwrap();
                    assert_eq!(found, expected);
                }
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 50, "{refused} values were in the lost row");
        trees.tree_for_test().insert(key, value).unwrap();
    }
}

#[test]
fn a_crash_between_rows_and_cursor_repeats_the_chunk() {
    let source = source_of(CHUNK_EVENTS + 10);
    let folder = tempfile::tempdir().unwrap();
    let trees = Trees::open(folder.path()).unwrap();
    // Rows of an attempt that saw other places, and no cursor.
    let mut other = ChunkPostings::new(0);
    other.skip_to(CHUNK_EVENTS + 1);
    trees.apply(&other, cursor(CHUNK_EVENTS)).unwrap();
    trees.tree_for_test().remove([0xFF]).unwrap();
    drop(trees);
    let index = index_in(folder.path(), &source);
    let plan = Plan::of(&Query::new().agent("agent-1"));
    let candidates = plan.candidates(&index, 0).unwrap();
    assert!(candidates.unread.is_empty());
    assert_eq!(candidates.matching.count(), 819);
    assert_eq!(plan.candidates(&index, 1).unwrap().through, CHUNK_EVENTS + 10);
    assert_eq!(plan.candidates(&index, 2), None);
}

#[test]
fn a_handle_dropped_a_moment_ago_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..20 {
        drop(Trees::open(folder.path()).unwrap());
    }
    let held = Trees::open(folder.path()).unwrap();
    assert!(Trees::open(folder.path()).is_err(), "one at a time");
    drop(held);
}

#[test]
fn files_of_large_values_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    drop(Trees::open(folder.path()).unwrap());
    let blobs = folder.path().join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join("1"), b"x").unwrap();
    assert!(matches!(Trees::open(folder.path()), Err(TreeError::Folder { .. })));
}

#[test]
fn rubbish_in_the_folder_is_an_error_or_empty_trees() {
    let mut rng = Rng::from_env("rubbish_in_the_folder_is_an_error_or_empty_trees");
    let source = source_of(CHUNK_EVENTS + 10);
    for file in ["db", "conf"] {
        let folder = tempfile::tempdir().unwrap();
        drop(index_in(folder.path(), &source));
        let mut bytes = std::fs::read(folder.path().join(file)).unwrap();
        (0..bytes.len() / 10).for_each(|_| {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = rng.next() as u8;
        });
        std::fs::write(folder.path().join(file), bytes).unwrap();
        let index = Index::new();
        match Trees::open(folder.path()).and_then(|trees| index.install(trees, &source)) {
            Ok(_) => println!("{file}: opened, index at {}", index.indexed_sequence()),
            Err(error) => println!("{file}: {error}"),
        }
    }
}
