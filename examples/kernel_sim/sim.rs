//! A kernel that keeps its semantic journal as the real one would: its counters, its texts, its clock; and that fails on
//! purpose. The same plan always writes the same bytes.
#![allow(dead_code, unreachable_pub, reason = "each program uses its own part of it")]

use semj::kernel::{Context, EventHeader, Padded, Record};
use semj::sources::{ClockAnchor, CommittedWriter};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::path::Path;

/// What is written, and what goes wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// The same seed, the same bytes.
    pub seed: u64,
    /// Events that happen.
    pub events: u64,
    /// How many in a hundred are lost.
    pub drop: u64,
    /// How many in a hundred come twice.
    pub duplicate: u64,
    /// How many in a hundred come up to eight places late.
    pub reorder: u64,
    /// The kernel starts anew after so many events; 0: never.
    pub restart_every: u64,
}

/// What really happened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Truth {
    /// For each life: sequence and event id of what was written.
    pub lives: Vec<BTreeMap<u64, u64>>,
    /// For each life: how many were lost.
    pub dropped: Vec<u64>,
    /// How many came twice.
    pub duplicates: u64,
}

impl Truth {
    /// How many records were written, repetitions aside.
    pub fn written(&self) -> usize {
        self.lives.iter().map(BTreeMap::len).sum()
    }
}

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below.max(1)
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }
}

/// The counters of one life. The last event id that was given is kept, so the first event has id 2.
#[derive(Clone, Debug)]
pub struct Kernel {
    event_id: u64,
    sequence: u64,
    ktime: i64,
}

impl Kernel {
    /// A kernel whose module is loaded `ktime` ns after boot.
    pub fn loaded_at(ktime: i64) -> Self {
        Kernel { event_id: 1, sequence: 0, ktime }
    }

    /// ns since boot.
    pub fn ktime(&self) -> i64 {
        self.ktime
    }

    /// The next event: sequence, event id, bytes.
    pub fn event(&mut self, dice: &mut Dice) -> (u64, u64, Vec<u8>) {
        self.event_id += 1;
        self.sequence += 1;
        self.ktime += 1_000 + dice.roll(200_000) as i64;
        let thread = 1_000 + dice.roll(8) as u32;
        let is_agent = dice.percent(20);
        let (event_type, name) = match (is_agent, dice.roll(4)) {
            (true, _) => (0x0403, ""),
            (_, 0) => (0x0101, "create"),
            (_, 1) => (0x0102, "delete"),
            (_, 2) => (0x0103, "read"),
            _ => (0x0104, "write"),
        };
        let header = EventHeader {
            event_id: self.event_id,
            event_type,
            ktime: self.ktime,
            sequence: self.sequence,
            cpu_id: dice.roll(4) as u32,
            process_id: thread,
            global_sequence: self.sequence,
            local_sequence: self.sequence,
            event_flags: 0,
            event_priority: 3,
            root_cause_event_id: self.event_id,
            agent_visibility_mask: u64::MAX,
            agent_relevance_score: 50,
            replay_priority: 3,
            ..EventHeader::default()
        };
        let mut context = Context { session_id: u64::from(thread), ..Context::default() };
        let mut payload = Vec::new();
        if is_agent {
            let agent = format!("agent-{}", thread % 3);
            context.semantic_tags =
                Padded::cut(format!("{{\"operation\":\"agent\",\"agent_id\":\"{agent}\"}}").into_bytes());
            context.agent_id = Padded::cut(agent.into_bytes());
            context.agent_intent = Padded::cut(b"run the tests".to_vec());
            context.agent_confidence = 75;
            context.semantic_intent = Padded::cut(b"run the tests".to_vec());
            context.semantic_confidence = 80;
            payload = format!("step {}", self.sequence).into_bytes();
        } else {
            context.path = Padded::cut(format!("/srv/data/{}.txt", dice.roll(500)).into_bytes());
            context.inode_number = 4_000 + dice.roll(500);
            context.file_type = 0o100_000;
            context.semantic_tags =
                Padded::cut(format!("{{\"operation\":\"filesystem\",\"type\":\"{name}\"}}").into_bytes());
            context.semantic_intent = Padded::cut(b"Filesystem operation".to_vec());
            context.semantic_confidence = 95;
        }
        let record = Record { header, context, payload: payload.into(), ..Record::default() };
        (self.sequence, self.event_id, record.to_bytes().unwrap_or_default())
    }
}

/// Writes what the plan says, record by record, and tells what really happened. `pace` is called before each write.
///
/// # Errors
/// When `out` takes nothing more.
pub fn write(plan: &Plan, out: &mut dyn Write, pace: &mut dyn FnMut(u64)) -> io::Result<Truth> {
    let mut dice = Dice(plan.seed);
    let mut truth = Truth::default();
    let mut kernel = Kernel::loaded_at(5_000_000_000);
    let mut done = 0;
    let mut writes = 0;
    while done < plan.events {
        if done > 0 {
            // Half of the lives begin with a reboot, half with the module loaded again.
            let at = if dice.percent(50) { 3_000_000_000 } else { kernel.ktime() + 1_000_000_000 };
            kernel = Kernel::loaded_at(at);
        }
        let count = match plan.restart_every {
            0 => plan.events,
            every => every.min(plan.events - done),
        };
        done += count;
        let (mut written, mut dropped) = (BTreeMap::new(), 0);
        let mut late: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
        for n in 0..count {
            let (sequence, event_id, bytes) = kernel.event(&mut dice);
            // Nobody can notice the loss of the last ones.
            let is_last = n + 1 == count;
            if !is_last && dice.percent(plan.drop) {
                dropped += 1;
            } else {
                written.insert(sequence, event_id);
                if !is_last && dice.percent(plan.reorder) {
                    late.push_back((n + 1 + dice.roll(8), bytes));
                } else {
                    let twice = dice.percent(plan.duplicate);
                    truth.duplicates += u64::from(twice);
                    for _ in 0..=u64::from(twice) {
                        pace(writes);
                        out.write_all(&bytes)?;
                        writes += 1;
                    }
                }
            }
            while let Some((_, bytes)) = late.pop_front_if(|(due, _)| *due <= n || is_last) {
                pace(writes);
                out.write_all(&bytes)?;
                writes += 1;
            }
        }
        truth.lives.push(written);
        truth.dropped.push(dropped);
    }
    out.flush()?;
    Ok(truth)
}

/// The wall clock when the simulated machine was booted, ns since 1970: 2026-02-09T08:00:00Z.
pub const BOOTED_AT: i64 = 1_770_624_000_000_000_000;

/// A file of fixed size with a committed length: records that nobody has read are overwritten when there is no more room,
/// and the clocks are told along with them.
#[derive(Debug)]
pub struct Ring {
    writer: CommittedWriter,
    /// Which boot it is.
    pub boot_id: uuid::Uuid,
    /// After so many records the wall clock is set by so many ns; 0: never.
    pub step: (u64, i64),
    written: u64,
    /// How often it began again at the start.
    pub laps: u64,
}

impl Ring {
    /// Makes the file, with room for so many bytes of records.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path, capacity: u64) -> io::Result<Self> {
        let writer = CommittedWriter::create(path, capacity)?;
        Ok(Ring { writer, boot_id: uuid::Uuid::from_u128(0xB007), step: (0, 0), written: 0, laps: 0 })
    }

    /// What the clocks say `ktime` ns after the boot.
    fn tell_clock(&self, ktime: i64) -> io::Result<()> {
        let (after, by) = self.step;
        let step = if after > 0 && self.written >= after { by } else { 0 };
        self.writer.tell_clock(&ClockAnchor {
            boot_id: self.boot_id,
            boot_ns: ktime,
            wall_ns: BOOTED_AT + ktime + step,
            mono_ns: ktime,
            error_ns: 100,
        })
    }
}

impl Write for Ring {
    /// Takes one record.
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let ktime = record.get(16..24).and_then(|b| b.try_into().ok()).map_or(0, i64::from_le_bytes);
        let is_step = self.step.0 > 0 && self.written == self.step.0;
        if self.written.is_multiple_of(100) || is_step {
            self.tell_clock(ktime)?;
        }
        self.laps += u64::from(self.writer.append(record)?);
        self.written += 1;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
