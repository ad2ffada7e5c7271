//! Where the fields that the programs read stand in this kernel.

use super::btf::{Btf, Named};
use super::calls::FOREIGN_OPEN;
use Named::{Function, Struct, Tracepoint};

/// All that is asked of the kernel's description.
pub(super) const WANTED: [Named; 22] = [
    Tracepoint("sched_process_fork"),
    Tracepoint("sched_process_exec"),
    Tracepoint("sched_process_exit"),
    Tracepoint("sys_exit"),
    Tracepoint("io_uring_submit_req"),
    Function("bpf_rdonly_cast"),
    Struct("task_struct"),
    Struct("thread_info"),
    Struct("fs_struct"),
    Struct("files_struct"),
    Struct("fdtable"),
    Struct("file"),
    Struct("path"),
    Struct("dentry"),
    Struct("qstr"),
    Struct("inode"),
    Struct("super_block"),
    Struct("linux_binprm"),
    Struct("pt_regs"),
    Struct("io_kiocb"),
    Struct("io_open"),
    Struct("open_how"),
];

/// Where fields stand.
pub(super) struct Offsets {
    pub(super) tgid: i16,
    pub(super) pid: i16,
    pub(super) files: i16,
    pub(super) fs: i16,
    pub(super) exit_code: i16,
    /// Flags of the call under way.
    pub(super) status: i16,
    pub(super) pwd: i16,
    pub(super) fdt: i16,
    pub(super) fd: i16,
    pub(super) file_dentry: i16,
    pub(super) file_inode: i16,
    pub(super) file_mode: i16,
    pub(super) parent: i16,
    pub(super) name: i16,
    pub(super) name_bytes: i16,
    pub(super) dentry_sb: i16,
    pub(super) ino: i16,
    pub(super) inode_sb: i16,
    pub(super) inode_mode: i16,
    pub(super) dev: i16,
    pub(super) filename: i16,
    pub(super) call: i16,
    pub(super) args: [i16; 4],
    /// Where a 32-bit call that opens has its flags.
    pub(super) foreign_open: [(i32, i16); 2],
    /// How an address becomes a pointer that is followed without calling a helper for each step. `None` before Linux 6.2.
    pub(super) cast: Option<Cast>,
    /// A request of io_uring; `None` where the kernel has none, or no tracepoint for them.
    pub(super) request: Option<Request>,
}

/// The numbers of `bpf_rdonly_cast` and of what it makes of addresses.
pub(super) struct Cast {
    pub(super) function: i32,
    pub(super) file: i32,
    pub(super) task: i32,
}

/// Where a request of io_uring says what it is.
pub(super) struct Request {
    pub(super) opcode: i16,
    /// The flags of one that opens.
    pub(super) flags: i16,
}

impl Request {
    fn find(b: &Btf) -> Option<Self> {
        b.number(Tracepoint("io_uring_submit_req"))?;
        // The part of a request that is each kind's own stands at its beginning.
        let own = b.field("io_kiocb", "cmd")?;
        let flags = own + b.field("io_open", "how")? + b.field("open_how", "flags")?;
        Some(Request { opcode: b.field("io_kiocb", "opcode")?, flags })
    }
}

impl Offsets {
    pub(super) fn find(b: &Btf) -> Option<Self> {
        let task = |f| b.field("task_struct", f);
        let either = |s, f, g| b.field(s, f).or_else(|| b.field(s, g));
        let regs = |f| b.field("pt_regs", f);
        let number = |n| i32::try_from(b.number(n)?).ok();
        let name = either("dentry", "d_name", "__d_name")?;
        let [(first, a), (second, c)] = FOREIGN_OPEN;
        Some(Offsets {
            tgid: task("tgid")?,
            pid: task("pid")?,
            files: task("files")?,
            fs: task("fs")?,
            exit_code: task("exit_code")?,
            status: task("thread_info")? + b.field("thread_info", "status")?,
            pwd: b.field("fs_struct", "pwd")? + b.field("path", "dentry")?,
            fdt: b.field("files_struct", "fdt")?,
            fd: b.field("fdtable", "fd")?,
            file_dentry: either("file", "f_path", "__f_path")? + b.field("path", "dentry")?,
            file_inode: b.field("file", "f_inode")?,
            file_mode: b.field("file", "f_mode")?,
            parent: b.field("dentry", "d_parent")?,
            name: name + b.field("qstr", "name")?,
            name_bytes: name + b.field("qstr", "len")?,
            dentry_sb: b.field("dentry", "d_sb")?,
            ino: b.field("inode", "i_ino")?,
            inode_sb: b.field("inode", "i_sb")?,
            inode_mode: b.field("inode", "i_mode")?,
            dev: b.field("super_block", "s_dev")?,
            filename: b.field("linux_binprm", "filename")?,
            call: regs("orig_ax")?,
            args: [regs("di")?, regs("si")?, regs("dx")?, regs("r10")?],
            foreign_open: [(first, regs(a)?), (second, regs(c)?)],
            cast: number(Function("bpf_rdonly_cast"))
                .zip(number(Struct("file")).zip(number(Struct("task_struct"))))
                .map(|(function, (file, task))| Cast { function, file, task }),
            request: Request::find(b),
        })
    }
}
