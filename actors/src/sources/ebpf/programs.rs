//! The programs: what is recorded in the kernel, when a call returns and when a process begins, changes or ends.
//!
//! Registers: r6 the context, r7 the record, r8 the tag, r9 for a moment. A record's sequence is counted before there is
//! room for it, so that a loss has a place.

use super::asm::{Asm, FP, helper};
use super::btf::Btf;

/// A record, in bytes: fixed fields, two paths from user memory, folders' names from the kernel, the device.
pub(super) const RECORD: i32 = 1_640;
/// Levels of folders that are recorded, and bytes of each name.
pub(super) const LEVELS: usize = 16;
pub(super) const NAME: usize = 64;
pub(super) const PATH: usize = 256;
/// Where fields stand in a record.
pub(super) mod at {
    pub(crate) const SEQUENCE: i16 = 0;
    pub(crate) const BOOT_NS: i16 = 8;
    pub(crate) const PID_TGID: i16 = 16;
    pub(crate) const CGROUP: i16 = 24;
    pub(crate) const PROCESSOR: i16 = 32;
    pub(crate) const KIND: i16 = 36;
    pub(crate) const TAG: i16 = 40;
    pub(crate) const RESULT: i16 = 48;
    pub(crate) const INODE: i16 = 56;
    pub(crate) const DEVICE: i16 = 64;
    pub(crate) const MODE: i16 = 68;
    pub(crate) const COMMAND: i16 = 72;
    pub(crate) const OTHER: i16 = 88;
    pub(crate) const PATH: i16 = 96;
    pub(crate) const TARGET: i16 = 352;
    pub(crate) const LEVELS: i16 = 608;
    pub(crate) const BASE_DEVICE: i16 = 1_632;
}
/// Kinds beside the numbers of system calls.
pub(super) const FORK: i32 = 1_000;
pub(super) const EXEC: i32 = 1_001;
pub(super) const EXIT: i32 = 1_002;
/// `FMODE_CREATED`
pub(super) const CREATED: u32 = 0x10_0000;
const O_TRUNC: i32 = 0x200;
const S_IFMT: i32 = 0xF000;
const S_IFREG: i32 = 0x8000;
const AT_FDCWD: i32 = -100;
/// Stay asleep: the reader looks by itself.
const NO_WAKEUP: i32 = 1;

/// Where on the stack things are kept.
mod kept {
    pub(crate) const TGID: i16 = -4;
    pub(crate) const CHILD: i16 = -8;
    pub(crate) const CALL: i16 = -16;
    pub(crate) const PATH: i16 = -24;
    pub(crate) const FOLDER: i16 = -32;
    pub(crate) const TARGET: i16 = -40;
    pub(crate) const AT: i16 = -48;
    pub(crate) const FILE: i16 = -56;
    pub(crate) const READ: i16 = -64;
    pub(crate) const FLAGS: i16 = -72;
    pub(crate) const FD: i16 = -80;
    pub(crate) const TAG: i16 = -88;
}

/// The maps, by descriptor.
pub(super) struct Maps {
    pub(super) ring: i32,
    pub(super) counters: i32,
    pub(super) tags: i32,
    pub(super) written: i32,
}

/// Where fields stand in this kernel.
struct Offsets {
    tgid: i16,
    pid: i16,
    files: i16,
    fs: i16,
    exit_code: i16,
    pwd: i16,
    fdt: i16,
    fd: i16,
    file_dentry: i16,
    file_inode: i16,
    file_mode: i16,
    parent: i16,
    name: i16,
    dentry_sb: i16,
    ino: i16,
    inode_sb: i16,
    inode_mode: i16,
    dev: i16,
    filename: i16,
    call: i16,
    args: [i16; 4],
}

impl Offsets {
    fn find(b: &Btf) -> Option<Self> {
        let task = |f| b.field("task_struct", f);
        let either = |s, f, g| b.field(s, f).or_else(|| b.field(s, g));
        let regs = |f| b.field("pt_regs", f);
        Some(Offsets {
            tgid: task("tgid")?,
            pid: task("pid")?,
            files: task("files")?,
            fs: task("fs")?,
            exit_code: task("exit_code")?,
            pwd: b.field("fs_struct", "pwd")? + b.field("path", "dentry")?,
            fdt: b.field("files_struct", "fdt")?,
            fd: b.field("fdtable", "fd")?,
            file_dentry: either("file", "f_path", "__f_path")? + b.field("path", "dentry")?,
            file_inode: b.field("file", "f_inode")?,
            file_mode: b.field("file", "f_mode")?,
            parent: b.field("dentry", "d_parent")?,
            name: either("dentry", "d_name", "__d_name")? + b.field("qstr", "name")?,
            dentry_sb: b.field("dentry", "d_sb")?,
            ino: b.field("inode", "i_ino")?,
            inode_sb: b.field("inode", "i_sb")?,
            inode_mode: b.field("inode", "i_mode")?,
            dev: b.field("super_block", "s_dev")?,
            filename: b.field("linux_binprm", "filename")?,
            call: regs("orig_ax")?,
            args: [regs("di")?, regs("si")?, regs("dx")?, regs("r10")?],
        })
    }
}

/// How a call names what it works on: numbers of arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A path below the working folder or below a folder that is open; a second path.
    Path { folder: Option<usize>, path: usize, target: Option<usize> },
    /// Opens a file: where its flags are.
    Open { flags: Option<usize> },
    /// Changes the content of an open file.
    Write { fd: usize },
}

const fn path(folder: Option<usize>, path: usize, target: Option<usize>) -> Shape {
    Shape::Path { folder, path, target }
}

/// The calls that are recorded, by their numbers on x86-64.
const CALLS: [(i32, Shape); 46] = [
    (2, Shape::Open { flags: Some(1) }),
    (257, Shape::Open { flags: Some(2) }),
    (85, Shape::Open { flags: None }),
    (437, Shape::Open { flags: None }),
    (1, Shape::Write { fd: 0 }),
    (18, Shape::Write { fd: 0 }),
    (20, Shape::Write { fd: 0 }),
    (296, Shape::Write { fd: 0 }),
    (328, Shape::Write { fd: 0 }),
    (77, Shape::Write { fd: 0 }),
    (285, Shape::Write { fd: 0 }),
    (40, Shape::Write { fd: 0 }),
    (326, Shape::Write { fd: 2 }),
    (275, Shape::Write { fd: 2 }),
    (87, path(None, 0, None)),
    (263, path(Some(0), 1, None)),
    (84, path(None, 0, None)),
    (82, path(None, 0, Some(1))),
    (264, path(Some(0), 1, Some(3))),
    (316, path(Some(0), 1, Some(3))),
    (83, path(None, 0, None)),
    (258, path(Some(0), 1, None)),
    (76, path(None, 0, None)),
    (88, path(None, 1, Some(0))),
    (266, path(Some(1), 2, Some(0))),
    (86, path(None, 1, Some(0))),
    (265, path(Some(2), 3, Some(1))),
    (90, path(None, 0, None)),
    (268, path(Some(0), 1, None)),
    (452, path(Some(0), 1, None)),
    (92, path(None, 0, None)),
    (94, path(None, 0, None)),
    (260, path(Some(0), 1, None)),
    (280, path(Some(0), 1, None)),
    (132, path(None, 0, None)),
    (235, path(None, 0, None)),
    (261, path(Some(0), 1, None)),
    (133, path(None, 0, None)),
    (259, path(Some(0), 1, None)),
    (188, path(None, 0, None)),
    (189, path(None, 0, None)),
    (197, path(None, 0, None)),
    (198, path(None, 0, None)),
    // By an open file alone: what stands where a path would is a small number, and no text is found there.
    (91, path(Some(0), 1, None)),
    (93, path(Some(0), 1, None)),
    (190, path(Some(0), 3, None)),
];

/// Each program with the tracepoint it belongs to; `None` where this kernel lacks a field.
pub(super) fn all(btf: &Btf, maps: &Maps) -> Option<Vec<(&'static str, Vec<u64>)>> {
    let o = Offsets::find(btf)?;
    Some(vec![
        ("sched_process_fork", fork(&o, maps)?),
        ("sched_process_exec", exec(&o, maps)?),
        ("sched_process_exit", exit(&o, maps)?),
        ("sys_exit", returned(&o, maps)?),
    ])
}

/// `r8 = the tag of the process whose id is kept`; leaves where it has none.
fn find_tag(a: &mut Asm, m: &Maps) {
    a.map(1, m.tags);
    a.copy(2, FP);
    a.add(2, kept::TGID.into());
    a.call(helper::MAP_LOOKUP);
    a.if_equal(0, 0, "out");
    a.load(8, 0, 0);
}

/// `r7 = a new record` with all that every record has.
fn begin(a: &mut Asm, m: &Maps) {
    a.map_value(1, m.counters, 0);
    a.set(9, 1);
    a.fetch_add(1, 9);
    a.map(1, m.ring);
    a.set(2, RECORD);
    a.set(3, 0);
    a.call(helper::RING_RESERVE);
    a.if_equal(0, 0, "lost");
    a.copy(7, 0);
    a.store(7, at::SEQUENCE, 9);
    a.store(7, at::TAG, 8);
    for (call, place) in
        [(helper::BOOT_NS, at::BOOT_NS), (helper::PID_TGID, at::PID_TGID), (helper::CGROUP, at::CGROUP)]
    {
        a.call(call);
        a.store(7, place, 0);
    }
    a.call(helper::PROCESSOR);
    a.store32(7, at::PROCESSOR, 0);
    for place in [at::RESULT, at::INODE, at::DEVICE, at::OTHER, at::PATH, at::TARGET, at::BASE_DEVICE] {
        a.store_value(7, place, 0);
    }
    for level in 0..LEVELS {
        a.store_value(7, at::LEVELS + (NAME * level) as i16, 0);
    }
    a.copy(1, 7);
    a.add(1, at::COMMAND.into());
    a.set(2, 16);
    a.call(helper::COMMAND);
}

fn kind(a: &mut Asm, kind: i32) {
    a.set(1, kind);
    a.store32(7, at::KIND, 1);
}

/// Hands the record over; the ends of a program.
fn finish(mut a: Asm, m: &Maps) -> Option<Vec<u64>> {
    a.copy(1, 7);
    a.set(2, NO_WAKEUP);
    a.call(helper::RING_SUBMIT);
    a.label("out");
    a.end();
    a.label("lost");
    a.map_value(1, m.counters, 8);
    a.set(9, 1);
    a.fetch_add(1, 9);
    a.end();
    a.finish()
}

/// `stack[to] = *(u64 *)(stack[from] + offset)`, whatever that is.
fn follow(a: &mut Asm, to: i16, from: i16, offset: i16) {
    a.load(3, FP, from);
    a.add(3, offset.into());
    a.store_value(FP, to, 0);
    a.copy(1, FP);
    a.add(1, to.into());
    a.set(2, 8);
    a.call(helper::READ_KERNEL);
}

/// `record[to] = the field of what stack[from] points to`
fn keep(a: &mut Asm, to: i16, bytes: i32, from: i16, offset: i16) {
    a.load(3, FP, from);
    a.add(3, offset.into());
    a.copy(1, 7);
    a.add(1, to.into());
    a.set(2, bytes);
    a.call(helper::READ_KERNEL);
}

/// `stack[FILE] = the open file with number r9`
fn find_file(a: &mut Asm, o: &Offsets) {
    a.call(helper::TASK);
    a.load(1, 0, o.files);
    a.load(1, 1, o.fdt);
    a.load(3, 1, o.fd);
    a.left(9, 3);
    a.add_register(3, 9);
    a.store_value(FP, kept::FILE, 0);
    a.copy(1, FP);
    a.add(1, kept::FILE.into());
    a.set(2, 8);
    a.call(helper::READ_KERNEL);
}

/// Records the names from `stack[AT]` up to the root of its file system, and the device of that.
fn climb(a: &mut Asm, o: &Offsets) {
    follow(a, kept::READ, kept::AT, o.dentry_sb);
    keep(a, at::BASE_DEVICE, 4, kept::READ, o.dev);
    for level in 0..LEVELS {
        follow(a, kept::READ, kept::AT, o.parent);
        a.load(1, FP, kept::READ);
        a.load(2, FP, kept::AT);
        a.if_same(1, 2, "top");
        follow(a, kept::CALL, kept::AT, o.name);
        a.copy(1, 7);
        a.add(1, i32::from(at::LEVELS) + (NAME * level) as i32);
        a.set(2, NAME as i32);
        a.load(3, FP, kept::CALL);
        a.call(helper::READ_KERNEL_TEXT);
        a.load(1, FP, kept::READ);
        a.store(FP, kept::AT, 1);
    }
    a.label("top");
}

/// Leaves unless `stack[FILE]` is a regular file: a terminal or a pipe keeps nothing.
fn only_files(a: &mut Asm, o: &Offsets) {
    follow(a, kept::AT, kept::FILE, o.file_inode);
    follow(a, kept::READ, kept::AT, o.inode_mode);
    a.load(1, FP, kept::READ);
    a.and(1, S_IFMT);
    a.if_not(1, S_IFREG, "out");
}

/// The key of the map of written files is the file's address.
fn written(a: &mut Asm, m: &Maps, call: i32) {
    a.map(1, m.written);
    a.copy(2, FP);
    a.add(2, kept::FILE.into());
    a.copy(3, FP);
    a.add(3, kept::FILE.into());
    a.set(4, 0);
    a.call(call);
}

fn returned(o: &Offsets, m: &Maps) -> Option<Vec<u64>> {
    let mut a = Asm::default();
    a.copy(6, 1);
    a.load(7, 6, 0);
    a.load(9, 7, o.call);
    let mut shapes: Vec<Shape> = Vec::new();
    for (number, shape) in CALLS {
        let known = shapes.iter().position(|s| *s == shape);
        let n = known.unwrap_or_else(|| {
            shapes.push(shape);
            shapes.len() - 1
        });
        a.if_equal(9, number, &format!("shape{n}"));
    }
    a.end();
    for (n, shape) in shapes.iter().enumerate() {
        a.label(&format!("shape{n}"));
        let argument = |a: &mut Asm, to: i16, n: usize| {
            if let Some(offset) = o.args.get(n) {
                a.load(1, 7, *offset);
                a.store(FP, to, 1);
            }
        };
        for place in [kept::PATH, kept::TARGET, kept::FLAGS, kept::FD] {
            a.store_value(FP, place, 0);
        }
        a.store_value(FP, kept::FOLDER, AT_FDCWD);
        match *shape {
            Shape::Path { folder, path, target } => {
                argument(&mut a, kept::PATH, path);
                folder.into_iter().for_each(|f| argument(&mut a, kept::FOLDER, f));
                target.into_iter().for_each(|t| argument(&mut a, kept::TARGET, t));
            }
            Shape::Open { flags } => {
                a.store_value(FP, kept::FD, -1);
                flags.into_iter().for_each(|f| argument(&mut a, kept::FLAGS, f));
            }
            Shape::Write { fd } => {
                argument(&mut a, kept::PATH, fd);
                a.store_value(FP, kept::FD, 1);
            }
        }
        a.jump("tagged");
    }
    a.label("tagged");
    a.store(FP, kept::CALL, 9);
    a.call(helper::PID_TGID);
    a.right(0, 32);
    a.store32(FP, kept::TGID, 0);
    find_tag(&mut a, m);
    // Only what succeeded.
    a.load(9, 6, 8);
    a.if_negative(9, "out");
    a.load(1, FP, kept::FD);
    a.if_equal(1, 1, "write");
    a.if_equal(1, 0, "path");
    // Opening: the file is new to this address, whatever was written through it before.
    find_file(&mut a, o);
    written(&mut a, m, helper::MAP_DELETE);
    only_files(&mut a, o);
    follow(&mut a, kept::READ, kept::FILE, o.file_mode);
    a.load(1, FP, kept::READ);
    a.if_any(1, CREATED as i32, "file");
    a.load(1, FP, kept::FLAGS);
    a.if_any(1, O_TRUNC, "file");
    a.end();
    a.label("write");
    a.if_equal(9, 0, "maybe_cut");
    a.label("did_write");
    a.load(9, FP, kept::PATH);
    find_file(&mut a, o);
    only_files(&mut a, o);
    written(&mut a, m, helper::MAP_LOOKUP);
    a.if_not(0, 0, "out");
    written(&mut a, m, helper::MAP_UPDATE);
    a.label("file");
    begin(&mut a, m);
    a.load(1, FP, kept::CALL);
    a.store32(7, at::KIND, 1);
    a.load(1, 6, 8);
    a.store(7, at::RESULT, 1);
    keep(&mut a, at::MODE, 4, kept::FILE, o.file_mode);
    follow(&mut a, kept::AT, kept::FILE, o.file_inode);
    keep(&mut a, at::INODE, 8, kept::AT, o.ino);
    follow(&mut a, kept::READ, kept::AT, o.inode_sb);
    keep(&mut a, at::DEVICE, 4, kept::READ, o.dev);
    follow(&mut a, kept::AT, kept::FILE, o.file_dentry);
    a.jump("climb");
    // Of calls that write, two return 0 when they have done something.
    a.label("maybe_cut");
    a.load(1, FP, kept::CALL);
    a.if_equal(1, 77, "did_write");
    a.if_equal(1, 285, "did_write");
    a.end();
    a.label("path");
    begin(&mut a, m);
    a.load(1, FP, kept::CALL);
    a.store32(7, at::KIND, 1);
    a.load(1, 6, 8);
    a.store(7, at::RESULT, 1);
    // The third argument: what `unlinkat` removes stands there.
    a.load(1, 6, 0);
    a.load(1, 1, *o.args.get(2)?);
    a.store(7, at::OTHER, 1);
    for (from, to) in [(kept::PATH, at::PATH), (kept::TARGET, at::TARGET)] {
        a.copy(1, 7);
        a.add(1, to.into());
        a.set(2, PATH as i32);
        a.load(3, FP, from);
        a.call(helper::READ_USER_TEXT);
    }
    a.load(9, FP, kept::FOLDER);
    a.left(9, 32);
    a.put_signed_right(9, 32);
    a.if_negative(9, "working_folder");
    find_file(&mut a, o);
    follow(&mut a, kept::AT, kept::FILE, o.file_dentry);
    a.jump("climb");
    a.label("working_folder");
    a.call(helper::TASK);
    a.load(1, 0, o.fs);
    a.store(FP, kept::FILE, 1);
    follow(&mut a, kept::AT, kept::FILE, o.pwd);
    a.label("climb");
    climb(&mut a, o);
    finish(a, m)
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
    a.store(FP, kept::TAG, 8);
    a.map(1, m.tags);
    a.copy(2, FP);
    a.add(2, kept::CHILD.into());
    a.copy(3, FP);
    a.add(3, kept::TAG.into());
    a.set(4, 0);
    a.call(helper::MAP_UPDATE);
    begin(&mut a, m);
    kind(&mut a, FORK);
    a.load32(1, FP, kept::CHILD);
    a.store(7, at::OTHER, 1);
    finish(a, m)
}

fn exec(o: &Offsets, m: &Maps) -> Option<Vec<u64>> {
    let mut a = Asm::default();
    a.copy(6, 1);
    a.call(helper::PID_TGID);
    a.right(0, 32);
    a.store32(FP, kept::TGID, 0);
    find_tag(&mut a, m);
    begin(&mut a, m);
    kind(&mut a, EXEC);
    a.load(3, 6, 16);
    a.load(3, 3, o.filename);
    a.copy(1, 7);
    a.add(1, at::PATH.into());
    a.set(2, PATH as i32);
    a.call(helper::READ_KERNEL_TEXT);
    finish(a, m)
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
    begin(&mut a, m);
    kind(&mut a, EXIT);
    a.load(1, 6, 0);
    a.load32(1, 1, o.exit_code);
    a.store(7, at::OTHER, 1);
    finish(a, m)
}
