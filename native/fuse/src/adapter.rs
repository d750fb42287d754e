//! Requests of the kernel, passed to the engine's file system, and its answers, passed back.
//!
//! Decides nothing about content. Owns what the kernel is told about caching: names, attributes, negative answers and
//! symlink targets for as long as the file system says, listings for the life of an inode.
//!
//! Listings are stateless, so `opendir` is refused once with ENOSYS: the kernel then opens directories by itself, keeps
//! their listings, and a warm walk over a tree sends no request at all. An inode whose listing changes must therefore
//! get a new number or be invalidated ([`crate::notify`]).
//!
//! Threading: called by all workers at once; holds no state of its own that changes.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags,
    ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use nearfs_core::client::{Fh, FileSystem, FsResult, Ino, ListedEntry, working_for};

use crate::attr::{file_attr, no_entry};
use crate::questions::Questions;
use crate::upcalls::Operation;

/// Longest request and answer; the kernel's own default limit is 256 pages.
const MAX_TRANSFER_BYTES: u32 = 1 << 20;
const NAME_MAX_BYTES: u32 = 255;
/// Inode numbers are never used twice within a mount.
const GENERATION: Generation = Generation(0);

thread_local! {
    /// What a worker reads into: grows once to the longest request, then costs no allocation.
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How the kernel is asked to behave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manners {
    /// The mount says `rw`, so that write requests reach us to be refused.
    pub(crate) writable: bool,
    /// Attributes come with every listing, not only where the kernel guesses that they will be asked for.
    pub(crate) always_readdirplus: bool,
    /// Directories are opened by the kernel alone.
    pub(crate) stateless_directories: bool,
    /// The kernel reads and enforces POSIX ACLs.
    pub(crate) enforce_acls: bool,
    /// Requests that the kernel may have under way on its own account (read-ahead).
    pub(crate) max_background: u16,
}

/// The kernel's view of a file system.
pub(crate) struct Adapter {
    questions: Questions,
    manners: Manners,
    skip_opendir: bool,
}

impl Adapter {
    pub(crate) fn new(questions: Questions, manners: Manners) -> Self {
        Self { questions, manners, skip_opendir: false }
    }

    fn fs(&self) -> &dyn FileSystem {
        self.questions.file_system()
    }

    /// Asks on behalf of the thread that made the request: the wait ends if it is killed.
    fn ask_for<T>(
        &self,
        request: &Request,
        operation: Operation,
        ino: INodeNo,
        question: impl FnOnce(&dyn FileSystem) -> FsResult<T>,
    ) -> Result<T, Errno> {
        working_for(request.pid(), || self.ask(operation, ino, question))
    }

    fn ask<T>(
        &self,
        operation: Operation,
        ino: INodeNo,
        question: impl FnOnce(&dyn FileSystem) -> FsResult<T>,
    ) -> Result<T, Errno> {
        self.questions.ask(operation, Ino(ino.0), question)
    }

    fn count(&self, operation: Operation) {
        self.questions.upcalls().count(operation);
    }

    /// Asks for a listing until `add` says that the answer is full.
    fn list(
        &self,
        request: &Request,
        operation: Operation,
        ino: INodeNo,
        from: u64,
        add: &mut dyn FnMut(&ListedEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        let mut sink =
            |entry: &ListedEntry<'_>| if add(entry) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        self.ask_for(request, operation, ino, |fs| fs.list(Ino(ino.0), from, &mut sink))
    }

    /// Returns the one timeout that a listing has room for.
    fn listed_timeout(&self) -> Duration {
        self.fs().entry_timeout().min(self.fs().attr_timeout())
    }

    /// Returns how long an answer may be kept that was asked for in this generation: not at all if another one began
    /// meanwhile, since the kernel has been told already what to forget.
    fn unless_changed(&self, asked_in: u32, timeout: Duration) -> Duration {
        if self.fs().generation() == asked_in { timeout } else { Duration::ZERO }
    }
}

/// Operations with one constant answer: the error number, and the counter.
macro_rules! refuse {
    ($($errno:ident $operation:ident { $($name:ident($($argument:ty),*) -> $reply:ty;)* })*) => {
        $($(
            fn $name(&self, _: &Request, $(_: $argument,)* reply: $reply) {
                self.count(Operation::$operation);
                reply.error(Errno::$errno);
            }
        )*)*
    };
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let mut wanted = vec![
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_MAX_PAGES,
        ];
        if !self.manners.always_readdirplus {
            wanted.push(InitFlags::FUSE_READDIRPLUS_AUTO);
        }
        if self.manners.enforce_acls {
            wanted.push(InitFlags::FUSE_POSIX_ACL);
        }
        for flag in wanted {
            if config.add_capabilities(flag).is_err() {
                tracing::debug!(?flag, "the kernel lacks a capability; going on without");
            }
        }
        self.skip_opendir =
            self.manners.stateless_directories && config.add_capabilities(InitFlags::FUSE_NO_OPENDIR_SUPPORT).is_ok();
        // Both setters answer with the nearest legal value, which is then the kernel's own limit: keep that.
        let _ = config.set_max_write(MAX_TRANSFER_BYTES);
        let _ = config.set_max_background(self.manners.max_background);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let asked_in = self.fs().generation();
        match self.ask_for(request, Operation::Lookup, parent, |fs| fs.lookup(Ino(parent.0), name.as_bytes())) {
            Ok(attr) => {
                let attr_timeout = self.unless_changed(asked_in, self.fs().attr_timeout());
                let entry_timeout = self.unless_changed(asked_in, self.fs().entry_timeout());
                reply.entry_with_ttls(&attr_timeout, &entry_timeout, &file_attr(&attr), GENERATION);
            }
            Err(code) if code.code() == Errno::ENOENT.code() => {
                match self.unless_changed(asked_in, self.fs().negative_timeout()) {
                    Duration::ZERO => reply.error(code),
                    timeout => reply.entry(&timeout, &no_entry(), GENERATION),
                }
            }
            Err(code) => reply.error(code),
        }
    }

    fn forget(&self, _: &Request, _: INodeNo, _: u64) {
        self.count(Operation::Forget);
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let asked_in = self.fs().generation();
        match self.ask_for(request, Operation::Getattr, ino, |fs| fs.getattr(Ino(ino.0))) {
            Ok(attr) => reply.attr(&self.unless_changed(asked_in, self.fs().attr_timeout()), &file_attr(&attr)),
            Err(code) => reply.error(code),
        }
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        match self.ask_for(request, Operation::Readlink, ino, |fs| fs.readlink(Ino(ino.0))) {
            Ok(target) => reply.data(&target),
            Err(code) => reply.error(code),
        }
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.count(Operation::Opendir);
        if self.skip_opendir {
            reply.error(Errno::ENOSYS);
        } else {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE);
        }
    }

    fn readdir(&self, request: &Request, ino: INodeNo, _: FileHandle, from: u64, mut reply: ReplyDirectory) {
        let mut add = |entry: &ListedEntry<'_>| {
            let attr = file_attr(&entry.attr);
            reply.add(attr.ino, entry.next, attr.kind, OsStr::from_bytes(entry.name))
        };
        match self.list(request, Operation::Readdir, ino, from, &mut add) {
            Ok(()) => reply.ok(),
            Err(code) => reply.error(code),
        }
    }

    fn readdirplus(&self, request: &Request, ino: INodeNo, _: FileHandle, from: u64, mut reply: ReplyDirectoryPlus) {
        let (asked_in, timeout) = (self.fs().generation(), self.listed_timeout());
        let mut add = |entry: &ListedEntry<'_>| {
            let (attr, timeout) = (file_attr(&entry.attr), self.unless_changed(asked_in, timeout));
            reply.add(attr.ino, entry.next, OsStr::from_bytes(entry.name), &timeout, &attr, GENERATION)
        };
        match self.list(request, Operation::Readdirplus, ino, from, &mut add) {
            Ok(()) => reply.ok(),
            Err(code) => reply.error(code),
        }
    }

    fn releasedir(&self, _: &Request, _: INodeNo, _: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.count(Operation::Releasedir);
        reply.ok();
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.ask_for(request, Operation::Open, ino, |fs| fs.open(Ino(ino.0), flags.0)) {
            Ok(opened) => {
                // There is never anything to write back, so closing need not ask.
                let mut answer = FopenFlags::FOPEN_NOFLUSH;
                answer.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
                answer.set(FopenFlags::FOPEN_DIRECT_IO, opened.direct_io);
                reply.opened(FileHandle(opened.fh.0), answer);
            }
            Err(code) => reply.error(code),
        }
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        READ_BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            match self.ask_for(request, Operation::Read, ino, |fs| fs.read(Fh(fh.0), offset, size, buffer)) {
                // An answer longer than the question would be refused by the kernel as a whole.
                Ok(()) => reply.data(&buffer[..buffer.len().min(size as usize)]),
                Err(code) => reply.error(code),
            }
        });
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let released = self.ask(Operation::Release, ino, |fs| {
            fs.release(Fh(fh.0));
            Ok(())
        });
        match released {
            Ok(()) => reply.ok(),
            Err(code) => reply.error(code),
        }
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        match self.ask(Operation::Statfs, ino, |fs| fs.statfs()) {
            Ok(s) => {
                let (free, block) = (s.blocks_free, s.block_bytes);
                reply.statfs(s.blocks, free, free, s.files, s.files_free, block, NAME_MAX_BYTES, block);
            }
            Err(code) => reply.error(code),
        }
    }

    fn getxattr(&self, request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        match self
            .ask_for(request, Operation::Getxattr, ino, |fs| fs.getxattr(Ino(ino.0), name.as_bytes(), request.gid()))
        {
            Ok(value) => reply_sized(reply, size, &value),
            Err(code) => reply.error(code),
        }
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        match self.ask_for(request, Operation::Listxattr, ino, |fs| fs.listxattr(Ino(ino.0))) {
            Ok(names) => reply_sized(reply, size, &names),
            Err(code) => reply.error(code),
        }
    }

    fn access(&self, _: &Request, _: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        self.count(Operation::Access);
        match (self.manners.writable, mask.contains(AccessFlags::W_OK)) {
            // On a read-only mount the kernel refuses writers itself; this tells it not to ask again.
            (false, _) => reply.error(Errno::ENOSYS),
            (true, true) => reply.error(Errno::EROFS),
            (true, false) => reply.ok(),
        }
    }

    refuse! {
        EROFS Write {
            setattr(
                INodeNo, Option<u32>, Option<u32>, Option<u32>, Option<u64>, Option<TimeOrNow>, Option<TimeOrNow>,
                Option<SystemTime>, Option<FileHandle>, Option<SystemTime>, Option<SystemTime>, Option<SystemTime>,
                Option<BsdFileFlags>
            ) -> ReplyAttr;
            mknod(INodeNo, &OsStr, u32, u32, u32) -> ReplyEntry;
            mkdir(INodeNo, &OsStr, u32, u32) -> ReplyEntry;
            unlink(INodeNo, &OsStr) -> ReplyEmpty;
            rmdir(INodeNo, &OsStr) -> ReplyEmpty;
            symlink(INodeNo, &OsStr, &Path) -> ReplyEntry;
            rename(INodeNo, &OsStr, INodeNo, &OsStr, RenameFlags) -> ReplyEmpty;
            link(INodeNo, INodeNo, &OsStr) -> ReplyEntry;
            write(INodeNo, FileHandle, u64, &[u8], WriteFlags, OpenFlags, Option<LockOwner>) -> ReplyWrite;
            create(INodeNo, &OsStr, u32, u32, i32) -> ReplyCreate;
            setxattr(INodeNo, &OsStr, &[u8], i32, u32) -> ReplyEmpty;
            removexattr(INodeNo, &OsStr) -> ReplyEmpty;
            fallocate(INodeNo, FileHandle, u64, u64, i32) -> ReplyEmpty;
            copy_file_range(
                INodeNo, FileHandle, u64, INodeNo, FileHandle, u64, u64, CopyFileRangeFlags
            ) -> ReplyWrite;
        }
        // The kernel remembers ENOSYS and does without us: nothing to flush, locks and seeks are local.
        ENOSYS Other {
            flush(INodeNo, FileHandle, LockOwner) -> ReplyEmpty;
            fsync(INodeNo, FileHandle, bool) -> ReplyEmpty;
            fsyncdir(INodeNo, FileHandle, bool) -> ReplyEmpty;
            lseek(INodeNo, FileHandle, i64, i32) -> ReplyLseek;
            bmap(INodeNo, u32, u64) -> ReplyBmap;
            ioctl(INodeNo, FileHandle, IoctlFlags, u32, &[u8], u32) -> ReplyIoctl;
            poll(INodeNo, FileHandle, PollNotifier, PollEvents, PollFlags) -> ReplyPoll;
        }
    }
}

/// Answers an attribute request: the length when asked for it, the value when it fits.
fn reply_sized(reply: ReplyXattr, size: u32, value: &[u8]) {
    match u32::try_from(value.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}
