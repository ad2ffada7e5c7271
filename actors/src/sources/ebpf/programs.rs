//! The programs: what is recorded in the kernel, when a call returns and when a process begins, changes or ends.
//!
//! A record's sequence is counted before there is room for it, so that a loss has a place. Names are read only as far as
//! they are needed: a path from the root needs no folders.

use super::asm::{Asm, FP, helper};
use super::calls::{
    ALL_FLAGS, CALLS, CHANGING, CUT, FOREIGN, NOTHING, O_TRUNC, PATHS, QUEUED, QUEUED_OPEN, TELLING, TEXT,
    WORKING_FOLDER, WRITES,
};
use super::layout::{ARGUMENTS, BODY, CREATED, EXEC, EXIT, FORK, PATH, SHAPE, at, word};
use super::offsets::{Offsets, Request};
use super::snippets::{
    Maps, begin, climb, count, field, find_file, find_own_tag, find_tag, kept, kind, only_files, place,
    publish, task, text, written,
};

const AT_FDCWD: i32 = -100;
/// `TS_COMPAT`: the call under way is a 32-bit one.
const TS_COMPAT: i32 = 2;
/// Calls that were interrupted and come again, and such as found nothing to do yet.
const AGAIN: [i32; 6] = [-4, -11, -512, -513, -514, -516];

/// How many programs there are at most: each has its place to put records together.
pub(super) const PROGRAMS: u32 = 4;

/// Each program with the tracepoint it belongs to; `None` where one gets too long.
pub(super) fn all(o: &Offsets, maps: &Maps, failed_calls: bool) -> Option<Vec<(&'static str, Vec<u64>)>> {
    let mut programs = vec![
        ("sched_process_fork", fork(o, maps)?),
        ("sched_process_exec", exec(o, maps)?),
        ("sched_process_exit", exit(o, maps)?),
        ("sys_exit", returned(o, maps, failed_calls)?),
    ];
    if let Some(request) = &o.request {
        programs.push(("io_uring_submit_req", queued(request, maps)?));
    }
    Some(programs)
}

fn returned(o: &Offsets, m: &Maps, failed_calls: bool) -> Option<Vec<u64>> {
    let mut a = Asm::default();
    a.copy(6, 1);
    a.load(7, 6, 0);
    a.load(9, 7, o.call);
    let mut codes: Vec<i32> = CALLS.iter().map(|(_, shape)| shape.code()).collect();
    let mut table: Vec<(i32, String)> =
        CALLS.iter().zip(&codes).map(|((number, _), code)| (*number, format!("shape {code}"))).collect();
    let ours = |n: i32| CALLS.iter().any(|(number, _)| *number == n);
    for number in FOREIGN.into_iter().filter(|n| !ours(*n)) {
        let opens = o.foreign_open.iter().any(|(call, _)| *call == number);
        table.push((number, if opens { format!("foreign {number}") } else { "foreign".to_owned() }));
    }
    table.sort();
    a.choose(9, &table, "none");
    a.label("none");
    a.end();
    codes.sort_unstable();
    codes.dedup();
    for code in codes {
        a.label(&format!("shape {code}"));
        a.set(8, code);
        a.jump("known");
    }
    foreign(&mut a, o, m);

    a.label("known");
    find_own_tag(&mut a, m);
    place(&mut a, m, 0);
    // Through memory, so that the verifier does not follow each call by itself.
    a.store32(7, at::KIND, 9);
    a.store16(7, SHAPE, 8);
    a.load16(8, 7, SHAPE);
    a.call(helper::TASK);
    a.load32(1, 0, o.status);
    a.if_any(1, TS_COMPAT, "foreign_known");
    arguments(&mut a, o);
    a.load(9, 6, 8);
    a.if_negative(9, if failed_calls { "failed" } else { "out" });
    a.if_equal(8, WRITES, "write");
    a.if_equal(8, PATHS, "path");
    // Opening: the file is new to this address, whatever was written through it before.
    a.store(FP, kept::FD, 9);
    find_file(&mut a, o, kept::FD);
    written(&mut a, m, helper::MAP_DELETE);
    only_files(&mut a, o);
    field(&mut a, o, 1, (8, o.file_mode), 4);
    a.if_any(1, CREATED as i32, "file");
    a.load(1, FP, kept::FLAGS);
    a.if_any(1, O_TRUNC, "file");
    a.end();
    a.label("write");
    a.if_equal(9, 0, "maybe_cut");
    a.label("did_write");
    find_file(&mut a, o, kept::PATH);
    only_files(&mut a, o);
    written(&mut a, m, helper::MAP_LOOKUP);
    a.if_not(0, 0, "out");
    written(&mut a, m, helper::MAP_UPDATE);
    a.label("file");
    file(&mut a, o);
    a.jump("climb");
    a.label("maybe_cut");
    a.load32(1, 7, at::KIND);
    CUT.iter().for_each(|call| a.if_equal(1, *call, "did_write"));
    a.end();
    if failed_calls {
        failed(&mut a, o);
    }
    a.label("path");
    paths(&mut a, o);
    a.label("climb");
    climb(&mut a, o);
    publish(a, m)
}

/// Keeps what the shape in r8 says of the arguments; its kind stays in r8.
fn arguments(a: &mut Asm, o: &Offsets) {
    a.load(1, 6, 0);
    for (n, offset) in o.args.iter().enumerate() {
        a.load(2, 1, *offset);
        a.store(7, ARGUMENTS + 8 * n as i16, 2);
    }
    for (n, value) in [(WORKING_FOLDER, AT_FDCWD), (NOTHING, 0), (ALL_FLAGS, CHANGING)] {
        a.store_value(7, ARGUMENTS + 8 * n as i16, value);
    }
    for place in [kept::PATH, kept::FOLDER, kept::TARGET, kept::FLAGS] {
        a.copy(1, 8);
        a.and(1, 7);
        a.left(1, 3);
        a.add_register(1, 7);
        a.load(2, 1, ARGUMENTS);
        a.store(FP, place, 2);
        a.right(8, 3);
    }
}

/// 32-bit calls of a process with a tag: counted if they may have changed a file.
fn foreign(a: &mut Asm, o: &Offsets, m: &Maps) {
    for (call, flags) in o.foreign_open {
        a.label(&format!("foreign {call}"));
        a.load(1, 7, flags);
        a.if_any(1, CHANGING, "foreign");
        a.end();
    }
    // A number that means something only for such calls.
    a.label("foreign");
    a.call(helper::TASK);
    a.load32(1, 0, o.status);
    a.if_any(1, TS_COMPAT, "foreign_call");
    a.end();
    a.label("foreign_call");
    find_own_tag(a, m);
    a.label("foreign_tagged");
    a.load(1, 6, 8);
    a.if_negative(1, "out");
    count(a, m, word::FOREIGN, 2);
    a.end();
    // A number that means one thing for such a call, and another for others.
    a.label("foreign_known");
    a.load32(9, 7, at::KIND);
    let both = FOREIGN.iter().filter(|n| CALLS.iter().any(|(number, _)| number == *n));
    let table: Vec<(i32, String)> = both.map(|n| (*n, "foreign_tagged".to_owned())).collect();
    a.choose(9, &table, "harmless");
    a.label("harmless");
    a.end();
}

/// Which calls that failed are told.
fn failed(a: &mut Asm, o: &Offsets) {
    a.label("failed");
    AGAIN.iter().for_each(|error| a.if_equal(9, *error, "out"));
    a.if_equal(8, PATHS, "path");
    a.if_equal(8, WRITES, "failed_write");
    a.load(1, FP, kept::FLAGS);
    a.if_any(1, CHANGING, "path");
    a.end();
    a.label("failed_write");
    TELLING.iter().for_each(|error| a.if_equal(9, *error, "failed_file"));
    a.end();
    a.label("failed_file");
    find_file(a, o, kept::PATH);
    only_files(a, o);
    a.jump("file");
}

fn result(a: &mut Asm) {
    a.load(1, 6, 8);
    a.store(7, at::RESULT, 1);
}

/// A record of what was done to open file r8, whose names come from the kernel.
fn file(a: &mut Asm, o: &Offsets) {
    begin(a);
    result(a);
    field(a, o, 1, (8, o.file_mode), 4);
    a.store32(7, at::MODE, 1);
    field(a, o, 9, (8, o.file_inode), 8);
    field(a, o, 1, (9, o.ino), 8);
    a.store(7, at::INODE, 1);
    field(a, o, 1, (9, o.inode_sb), 8);
    field(a, o, 1, (1, o.dev), 4);
    a.store32(7, at::DEVICE, 1);
    field(a, o, 8, (8, o.file_dentry), 8);
    a.set(9, BODY.into());
}

/// A record of what was done to a path, with the folders above it where the path is not from the root.
fn paths(a: &mut Asm, o: &Offsets) {
    begin(a);
    result(a);
    a.load(1, FP, kept::FLAGS);
    a.store(7, at::OTHER, 1);
    a.load(3, FP, kept::PATH);
    text(a, PATH, helper::READ_USER_TEXT, at::PATH_BYTES);
    a.load(3, FP, kept::TARGET);
    a.if_equal(3, 0, "one_path");
    // Where it will stand.
    a.copy(8, 7);
    a.add_register(8, 9);
    text(a, PATH, helper::READ_USER_TEXT, at::TARGET_BYTES);
    a.load8(1, 7, BODY);
    a.if_not(1, b'/'.into(), "below_a_folder");
    a.load32(2, 7, at::KIND);
    TEXT.iter().for_each(|call| a.if_equal(2, *call, "publish"));
    a.load8(1, 8, 0);
    a.if_equal(1, b'/'.into(), "publish");
    a.jump("below_a_folder");
    a.label("one_path");
    a.load8(1, 7, BODY);
    a.if_equal(1, b'/'.into(), "publish");
    a.label("below_a_folder");
    a.load(1, FP, kept::FOLDER);
    a.left(1, 32);
    a.signed_right(1, 32);
    a.if_negative(1, "working_folder");
    find_file(a, o, kept::FOLDER);
    field(a, o, 8, (8, o.file_dentry), 8);
    a.jump("climb");
    a.label("working_folder");
    task(a, o);
    a.load(8, 0, o.fs);
    field(a, o, 8, (8, o.pwd), 8);
}

fn fork(o: &Offsets, m: &Maps) -> Option<Vec<u64>> {
    let mut a = Asm::default();
    a.copy(6, 1);
    a.load(1, 6, 0);
    a.load32(1, 1, o.tgid);
    a.store32(FP, kept::TGID, 1);
    find_tag(&mut a, m);
    a.load(9, 6, 8);
    a.load32(1, 9, o.tgid);
    a.load32(2, FP, kept::TGID);
    // A new thread is no new process.
    a.if_same(1, 2, "out");
    a.store32(FP, kept::CHILD, 1);
    a.map(1, m.tags);
    a.copy(2, FP);
    a.add(2, kept::CHILD.into());
    a.copy(3, FP);
    a.add(3, kept::TAG.into());
    a.set(4, 0);
    a.call(helper::MAP_UPDATE);
    place(&mut a, m, 1);
    begin(&mut a);
    kind(&mut a, FORK);
    a.load32(1, FP, kept::CHILD);
    a.store(7, at::OTHER, 1);
    publish(a, m)
}

fn exec(o: &Offsets, m: &Maps) -> Option<Vec<u64>> {
    let mut a = Asm::default();
    a.copy(6, 1);
    find_own_tag(&mut a, m);
    place(&mut a, m, 2);
    begin(&mut a);
    kind(&mut a, EXEC);
    a.load(3, 6, 16);
    a.load(3, 3, o.filename);
    text(&mut a, PATH, helper::READ_KERNEL_TEXT, at::PATH_BYTES);
    publish(a, m)
}

fn exit(o: &Offsets, m: &Maps) -> Option<Vec<u64>> {
    let mut a = Asm::default();
    a.copy(6, 1);
    a.load(1, 6, 0);
    a.load32(2, 1, o.tgid);
    a.load32(3, 1, o.pid);
    a.if_same(2, 3, "leader");
    a.end();
    a.label("leader");
    a.store32(FP, kept::TGID, 2);
    find_tag(&mut a, m);
    a.map(1, m.tags);
    a.copy(2, FP);
    a.add(2, kept::TGID.into());
    a.call(helper::MAP_DELETE);
    place(&mut a, m, 3);
    begin(&mut a);
    kind(&mut a, EXIT);
    a.load(1, 6, 0);
    a.load32(1, 1, o.exit_code);
    a.store(7, at::OTHER, 1);
    publish(a, m)
}

/// A request that was handed to io_uring: counted if it may change a file. What comes of it is not followed.
fn queued(request: &Request, m: &Maps) -> Option<Vec<u64>> {
    let mut a = Asm::default();
    a.copy(6, 1);
    a.load(7, 6, 0);
    a.load8(9, 7, request.opcode);
    let mut table: Vec<(i32, String)> = QUEUED.iter().map(|n| (*n, "may_change".to_owned())).collect();
    table.extend(QUEUED_OPEN.iter().map(|n| (*n, "opens".to_owned())));
    table.sort();
    a.choose(9, &table, "none");
    a.label("none");
    a.end();
    a.label("opens");
    a.copy(3, 7);
    a.add(3, request.flags.into());
    a.store_value(FP, kept::FLAGS, 0);
    a.copy(1, FP);
    a.add(1, kept::FLAGS.into());
    a.set(2, 8);
    a.call(helper::READ_KERNEL);
    a.load(1, FP, kept::FLAGS);
    a.if_any(1, CHANGING, "may_change");
    a.end();
    a.label("may_change");
    // Threads of the kernel that take requests for a process belong to it.
    find_own_tag(&mut a, m);
    count(&mut a, m, word::QUEUED, 2);
    a.label("out");
    a.end();
    a.finish()
}
