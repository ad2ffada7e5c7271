use super::*;
use crate::sources::{GapCause, Lost};
use std::collections::BTreeMap;

const SECOND: i64 = 1_000_000_000;
const TOOL: u32 = 10;
const OTHER: u32 = 20;

fn view(op: Op, process: u32, path: &str, at_ns: i64) -> Box<KernelRecord> {
    let mut record = KernelRecord::new(op, Phase::Observed, at_ns);
    record.who.process = process;
    let (path, target) = path.split_once(" -> ").unwrap_or((path, ""));
    (record.path.path, record.path.target) = (path.into(), target.into());
    Box::new(record)
}

fn gap(from_ns: i64, to_ns: i64) -> Gap {
    Gap { after: None, lost: Lost::Exactly(1), from_ns, to_ns, cause: GapCause::Overflow }
}

/// As the judge would say, if everything is watched.
fn verdict(record: &KernelRecord) -> Verdict {
    match record.who.process {
        TOOL => Verdict::Call(Evidence::Tree),
        OTHER => Verdict::External,
        _ => Verdict::Call(Evidence::PlaceAndTime),
    }
}

#[derive(Default)]
struct Trial {
    joiner: Joiner,
    settled: Vec<Settled>,
    /// Where folders really are; others are gone.
    folders: Vec<(&'static str, &'static str)>,
}

impl Trial {
    fn told(&mut self, op: Op, path: &str, at_ns: i64) {
        self.joiner.told(&view(op, TOOL, path, at_ns));
    }

    fn seen(&mut self, op: Op, process: u32, path: &str, at_ns: i64) {
        self.joiner.hold(view(op, process, path, at_ns), at_ns);
    }

    fn ask(&mut self, act: impl FnOnce(&mut Joiner, &mut Ask<'_, '_>, &mut Vec<Settled>)) {
        let folders = self.folders.clone();
        let mut resolve = |folder: &[u8]| {
            folders.iter().find(|(f, _)| f.as_bytes() == folder).map(|(_, to)| to.as_bytes().to_vec())
        };
        let mut verdict = verdict;
        let mut ask = Ask { verdict: &mut verdict, resolve: &mut resolve };
        act(&mut self.joiner, &mut ask, &mut self.settled);
    }

    fn settle(&mut self, complete_ns: i64) {
        self.ask(|joiner, ask, out| joiner.settle(complete_ns, ask, out));
    }

    fn finish(&mut self, is_over: bool) {
        self.ask(|joiner, ask, out| joiner.finish(is_over, ask, out));
    }

    /// What was settled since.
    fn verdicts(&mut self) -> Vec<Verdict> {
        self.settled.drain(..).map(|(_, verdict)| verdict).collect()
    }
}

#[test]
fn what_both_saw_is_told_once_whoever_comes_first() {
    for process in [TOOL, 0] {
        let mut trial = Trial::default();
        trial.told(Op::Create, "/w/a", 100);
        trial.seen(Op::Create, process, "/w/a", 150);
        trial.seen(Op::Mkdir, process, "/w/d", 200);
        trial.settle(200);
        assert!(trial.joiner.fresh.is_empty() && trial.joiner.waiting.len() == 1, "it may still be told");
        trial.told(Op::Mkdir, "/w/d", 300);
        trial.settle(3 * SECOND);
        trial.finish(true);
        assert_eq!(trial.verdicts(), []);
    }
}

#[test]
fn a_later_view_does_not_take_what_explains_an_earlier_one() {
    let mut trial = Trial::default();
    trial.seen(Op::Create, 0, "/w/a", 1_000);
    trial.settle(1_000);
    trial.told(Op::Create, "/w/a", SECOND / 10);
    trial.seen(Op::Create, 0, "/w/a", SECOND + SECOND / 20);
    trial.settle(SECOND + SECOND / 20);
    trial.told(Op::Create, "/w/a", SECOND + SECOND / 10);
    trial.settle(3 * SECOND);
    assert_eq!(trial.verdicts(), []);
}

#[test]
fn a_known_stranger_is_told_as_soon_as_all_forks_are_known_and_an_unknown_one_when_time_is_up() {
    let mut trial = Trial::default();
    trial.seen(Op::Write, OTHER, "/w/a", 100);
    trial.seen(Op::Write, 0, "/w/b", 100);
    trial.settle(99);
    assert_eq!(trial.verdicts(), [], "its fork may not have been told");
    trial.settle(100);
    assert_eq!(trial.verdicts(), [Verdict::External]);
    trial.settle(99 + HOLD_BACK_NS);
    assert_eq!(trial.verdicts(), []);
    trial.settle(100 + HOLD_BACK_NS);
    assert_eq!(trial.verdicts(), [Verdict::Unexplained]);
}

#[test]
fn what_the_primary_does_not_tell_is_told_with_the_witness_evidence() {
    let mut trial = Trial::default();
    trial.seen(Op::Create, TOOL, "/w/socket", 100);
    trial.settle(3 * SECOND);
    assert_eq!(trial.verdicts(), [Verdict::Call(Evidence::Tree)]);
    // There are more ways to change an attribute than a source of calls tells.
    trial.seen(Op::Attribute, 0, "/w/a", 100);
    trial.settle(3 * SECOND);
    assert_eq!(trial.verdicts(), [Verdict::Call(Evidence::PlaceAndTime)]);
}

#[test]
fn nothing_is_called_external_that_the_primary_may_have_lost() {
    let mut trial = Trial::default();
    trial.joiner.lost(&gap(5 * SECOND, 6 * SECOND));
    for at in [5, 6] {
        trial.seen(Op::Create, 0, "/w/a", at * SECOND);
    }
    // A file that was opened while things were lost may be written at any time after.
    trial.seen(Op::Write, 0, "/w/b", 20 * SECOND);
    trial.seen(Op::Delete, 0, "/w/c", 20 * SECOND);
    trial.seen(Op::Create, OTHER, "/w/d", 5 * SECOND);
    trial.settle(60 * SECOND);
    let weak = Verdict::Call(Evidence::PlaceAndTime);
    assert_eq!(trial.verdicts(), [Verdict::External, weak, weak, weak, Verdict::Unexplained]);
}

#[test]
fn a_call_that_was_under_way_at_the_end_may_explain_what_was_just_seen() {
    for (is_over, expected) in [(true, Verdict::Unexplained), (false, Verdict::Call(Evidence::PlaceAndTime))]
    {
        let mut trial = Trial::default();
        trial.seen(Op::Create, 0, "/w/a", 100);
        trial.finish(is_over);
        assert_eq!(trial.verdicts(), [expected]);
    }
}

#[test]
fn the_same_change_once_more_is_somebody_elses() {
    let mut trial = Trial { folders: vec![("/w", "/w")], ..Trial::default() };
    trial.told(Op::Create, "/w/a", 100);
    trial.told(Op::Rename, "/w/x -> /w/y", 100);
    for _ in 0..2 {
        trial.seen(Op::Create, 0, "/w/a", 100);
    }
    // Two names exchanged in one call are two renames for whoever looks.
    trial.seen(Op::Rename, 0, "/w/x -> /w/y", 100);
    trial.seen(Op::Rename, 0, "/w/y -> /w/x", 100);
    trial.seen(Op::Rename, 0, "/w/y -> /w/x", 100);
    trial.settle(3 * SECOND);
    assert_eq!(trial.verdicts(), [Verdict::Unexplained; 2]);
}

#[test]
fn a_path_that_is_cut_or_leads_through_a_link_is_the_same_place() {
    let mut trial = Trial { folders: vec![("/w/link", "/w/d"), ("/w/e", "/w/e")], ..Trial::default() };
    let mut cut = view(Op::Create, TOOL, "/d/a", 100);
    cut.path.is_cut = true;
    trial.joiner.told(&cut);
    trial.told(Op::Create, "/w/link/b", 100);
    trial.told(Op::Create, "/w/e/c", 100);
    trial.told(Op::Create, "/w/gone/g", 100);
    trial.told(Op::Delete, "/w/link/b", 100);
    trial.seen(Op::Create, 0, "/w/c/d/a", 100);
    trial.seen(Op::Create, 0, "/w/d/b", 100);
    trial.seen(Op::Delete, TOOL, "/w/d/b", 100);
    trial.seen(Op::Create, 0, "/w/d/c", 100);
    trial.seen(Op::Create, 0, "/w/d/g", 100);
    trial.settle(3 * SECOND);
    assert_eq!(trial.verdicts(), [Verdict::Unexplained, Verdict::Call(Evidence::PlaceAndTime)]);
}

#[test]
fn later_writes_to_a_file_that_the_call_opened_are_perhaps_its_own() {
    let mut trial = Trial::default();
    trial.told(Op::Write, "/w/log", 100);
    trial.seen(Op::Write, 0, "/w/log", 200);
    trial.seen(Op::Write, TOOL, "/w/log", 10 * SECOND);
    trial.seen(Op::Write, 0, "/w/log", 10 * SECOND);
    trial.seen(Op::Write, 0, "/w/other", 10 * SECOND);
    trial.settle(60 * SECOND);
    assert_eq!(trial.verdicts(), [Verdict::Call(Evidence::Opened), Verdict::Unexplained]);
}

#[test]
fn what_was_found_by_comparing_is_explained_by_whatever_touched_it_or_moved_it_there() {
    let mut trial = Trial::default();
    trial.told(Op::Create, "/w/a/f", 100);
    trial.told(Op::Rename, "/w/a -> /w/z", 200);
    for (op, path) in [
        (Op::Write, "/w/a/f"),
        (Op::Delete, "/w/a/g"),
        (Op::Create, "/w/z/h"),
        (Op::Mkdir, "/w/z"),
        (Op::Create, "/w/new"),
    ] {
        let mut found = view(op, 0, path, 50 * SECOND);
        found.phase = Phase::Synthetic;
        trial.joiner.hold(found, 50 * SECOND);
    }
    trial.settle(60 * SECOND);
    let told: Vec<_> = trial.settled.iter().map(|(r, v)| (r.path.path.as_slice(), *v)).collect();
    assert_eq!(told, [(&b"/w/new"[..], Verdict::Unexplained)]);
}

#[test]
fn what_is_forgotten_explains_nothing_and_accuses_nobody() {
    let mut trial =
        Trial { joiner: Joiner { told: Told::with_room(2), ..Joiner::default() }, ..Trial::default() };
    for (path, at) in [("/w/a", 1), ("/w/b", 20), ("/w/c", 21)] {
        trial.told(Op::Create, path, at * SECOND);
    }
    trial.seen(Op::Create, 0, "/w/a", SECOND);
    trial.seen(Op::Create, 0, "/w/b", 20 * SECOND);
    trial.seen(Op::Create, 0, "/w/d", 20 * SECOND);
    // The call's own were told, whether that is remembered or not.
    trial.seen(Op::Create, TOOL, "/w/a", SECOND);
    trial.seen(Op::Create, TOOL, "/w/e", 20 * SECOND);
    trial.settle(60 * SECOND);
    let call = Verdict::Call;
    assert_eq!(trial.verdicts(), [call(Evidence::PlaceAndTime), Verdict::Unexplained, call(Evidence::Tree)]);
}

/// `splitmix64`.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }

    fn ms(&mut self, most: u64) -> i64 {
        self.roll(most + 1) as i64 * 1_000_000
    }
}

/// What really happened.
#[derive(Debug)]
struct Happened {
    op: Op,
    path: String,
    is_tools: bool,
    at_ns: i64,
    is_lost: bool,
}

fn history(dice: &mut Dice, is_lossy: bool) -> Vec<Happened> {
    let (mut there, mut happened, mut at_ns) = ([false; 5], Vec::new(), 10 * SECOND);
    let lost = dice.roll(60)..;
    for n in 0..60 {
        let pause_ms = if dice.roll(4) == 0 { 900 } else { 30 };
        at_ns += 1_000 + dice.ms(pause_ms);
        let (one, other) = (dice.roll(5) as usize, dice.roll(5) as usize);
        let (op, path) = match (there[one], there[other], dice.roll(3)) {
            (false, _, _) => (Op::Create, format!("/w/{one}")),
            (true, _, 0) => (Op::Delete, format!("/w/{one}")),
            (true, false, 1) => (Op::Rename, format!("/w/{one} -> /w/{other}")),
            _ => (Op::Write, format!("/w/{one}")),
        };
        there[one] = matches!(op, Op::Create | Op::Write);
        there[other] |= op == Op::Rename;
        let is_lost = is_lossy && lost.contains(&n) && n < lost.start + 10;
        happened.push(Happened { op, path, is_tools: dice.roll(3) > 0, at_ns, is_lost });
    }
    happened
}

/// Plays a history to a joiner, as two sources tell it; says which views were settled, and how.
fn play(dice: &mut Dice, happened: &[Happened], knows_processes: bool) -> Vec<(usize, Verdict)> {
    let mut arrivals: Vec<(i64, bool, usize, Box<KernelRecord>)> = Vec::new();
    let (mut returned, mut read) = (0, 0);
    for (n, h) in happened.iter().enumerate() {
        let process = if h.is_tools { TOOL } else { OTHER };
        // A call returns after its effect; its record comes later still, and in order.
        let at_ns = h.at_ns + dice.ms(3);
        returned = returned.max(at_ns + dice.ms(200));
        if h.is_tools && !h.is_lost {
            arrivals.push((returned, true, n, view(h.op, process, &h.path, at_ns)));
        }
        // The witness is read in order, and takes that time; writes are told when the file is closed.
        read = (read + 1).max(h.at_ns + dice.ms(200));
        let mut seen = view(h.op, if knows_processes { process } else { 0 }, &h.path, read);
        seen.time_error_ns = u32::try_from(read - h.at_ns).unwrap();
        seen.who.thread = n as u32;
        let later = if h.op == Op::Write { dice.ms(1_200) } else { 0 };
        arrivals.push((read + later, false, n, seen));
    }
    arrivals.sort_by_key(|(at, ..)| *at);
    let mut trial = Trial { folders: vec![("/w", "/w")], ..Trial::default() };
    let lost: Vec<&Happened> = happened.iter().filter(|h| h.is_lost).collect();
    for at in 0..arrivals.len() {
        let now = arrivals[at].0;
        // Up to the first call that has not been told, all has.
        let next = arrivals[at + 1..].iter().filter(|a| a.1).map(|a| a.3.boot_ns).min().unwrap_or(i64::MAX);
        let (_, is_primary, _, record) = &arrivals[at];
        if *is_primary {
            trial.joiner.told(record);
        } else {
            trial.joiner.hold(record.clone(), now);
        }
        if at == 0
            && let (Some(first), Some(last)) = (lost.first(), lost.last())
        {
            trial.joiner.lost(&gap(first.at_ns, last.at_ns));
        }
        trial.settle(next.min(now + 1) - 1);
    }
    trial.finish(true);
    trial.settled.iter().map(|(record, verdict)| (record.who.thread as usize, *verdict)).collect()
}

fn seeds(run: impl Fn(u64)) {
    let base = std::env::var("SEMJ_SEED").ok().and_then(|s| s.parse().ok());
    for seed in base.map_or(1..=2_000, |s: u64| s..=s) {
        println!("SEMJ_SEED={seed}");
        run(seed);
    }
}

#[test]
fn with_processes_nothing_is_told_twice_nothing_is_lost_and_nobody_is_accused_wrongly() {
    seeds(|seed| {
        let mut dice = Dice(seed);
        let happened = history(&mut dice, seed % 2 == 0);
        let settled = play(&mut dice, &happened, true);
        for (n, h) in happened.iter().enumerate() {
            let views: Vec<Verdict> = settled.iter().filter(|(m, _)| *m == n).map(|(_, v)| *v).collect();
            let is_near = |o: &Happened| o.path == h.path && (o.at_ns - h.at_ns).abs() <= WINDOW_NS + SECOND;
            let expected = match h {
                // Of writes only the first to an open file is told.
                h if h.is_tools && h.is_lost && h.op == Op::Write && views.is_empty() => {
                    let told = |o: &Happened| o.is_tools && !o.is_lost && o.op == Op::Write && is_near(o);
                    assert!(happened.iter().any(told), "{n} {h:?}");
                    continue;
                }
                h if h.is_tools && h.is_lost => vec![Verdict::Call(Evidence::Tree)],
                h if h.is_tools => vec![],
                _ => vec![Verdict::External],
            };
            // What looks exactly like something that was told within the window may be taken for it.
            let twin = |o: &Happened| o.is_tools && !o.is_lost && o.op == h.op && is_near(o);
            if h.is_tools && h.is_lost && views.is_empty() && happened.iter().any(twin) {
                continue;
            }
            assert_eq!(views, expected, "{n} {h:?}");
        }
    });
}

#[test]
fn without_processes_each_change_is_told_once_and_as_many_are_called_external_as_others_made() {
    seeds(|seed| {
        let mut dice = Dice(seed);
        let is_lossy = seed % 2 == 0;
        let happened = history(&mut dice, is_lossy);
        let settled = play(&mut dice, &happened, false);
        // Views of the same change by different hands look the same: they are counted.
        let mut counts: BTreeMap<(String, &str), [i32; 4]> = BTreeMap::new();
        for h in &happened {
            let op = format!("{:?}", h.op);
            let [others, lost, ..] = counts.entry((op, &h.path)).or_default();
            *others += i32::from(!h.is_tools);
            *lost += i32::from(h.is_tools && h.is_lost);
        }
        for (n, verdict) in &settled {
            let h = &happened[*n];
            let [_, _, external, call] = counts.get_mut(&(format!("{:?}", h.op), h.path.as_str())).unwrap();
            match verdict {
                Verdict::Unexplained => *external += 1,
                Verdict::Call(_) => *call += 1,
                other => panic!("{other:?}: {h:?}"),
            }
            let mine = h.is_tools && h.op == Op::Write;
            assert!(!mine || *verdict != Verdict::Unexplained, "{n} {h:?}");
        }
        for ((op, path), [others, lost, external, call]) in counts {
            let what = format!("{op} {path}: others {others}, lost {lost}, external {external}, call {call}");
            if op == "Write" {
                assert!(external <= others && external + call <= others + lost, "{what}");
            } else if is_lossy {
                assert!(external <= others && external + call == others + lost, "{what}");
            } else {
                assert_eq!((external, call), (others, 0), "{what}");
            }
        }
    });
}
