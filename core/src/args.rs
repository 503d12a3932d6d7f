//! Typed arguments: a raw register becomes one of these once, at the edge. The type also tells strace how to
//! print it and the fuzzer how to make one.

mod choices;
mod flags;

pub(crate) use choices::*;
pub(crate) use flags::*;

/// How an argument is printed and generated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArgKind {
    /// A signed number.
    Int,
    /// An unsigned number.
    Uint,
    /// A number printed in hexadecimal.
    Hex,
    /// A length in bytes.
    Size,
    /// A file offset.
    Offset,
    /// A file descriptor.
    Fd,
    /// A directory file descriptor, or `AT_FDCWD`.
    DirFd,
    /// Address of a path.
    Path,
    /// Address of any other string.
    Str,
    /// Address of bytes that the call reads; their number is the next argument.
    InBuf,
    /// Address of bytes that the call writes; their number is its result.
    OutBuf,
    /// Any other address.
    Addr,
    /// Address of a vector of strings (`argv`).
    StrVec,
    /// `open` flags.
    OpenFlags,
    /// A file mode, octal.
    Mode,
    /// `AT_` flags.
    AtFlags,
    /// `PROT_` flags.
    ProtFlags,
    /// `MAP_` flags.
    MapFlags,
    /// `CLONE_` flags.
    CloneFlags,
    /// A signal number.
    Signal,
    /// A process, thread or group number.
    Pid,
    /// A user or group number.
    Id,
    /// `SEEK_` value.
    Whence,
    /// `F_` command.
    Fcntl,
    /// A clock.
    Clock,
}

/// A typed argument.
pub(crate) trait Arg {
    const KIND: ArgKind;
    fn from_reg(reg: u64) -> Self;
}

macro_rules! args {
    ($($(#[$doc:meta])* $name:ident($inner:ty) = $kind:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub(crate) struct $name(pub $inner);

        impl Arg for $name {
            const KIND: ArgKind = ArgKind::$kind;
            fn from_reg(reg: u64) -> Self {
                $name(reg as $inner)
            }
        }
    )*};
}

// Linux cuts a register down to the C type of the parameter; so does `as`.
args! {
    /// `int`
    Int(i32) = Int;
    /// `unsigned int`
    Uint(u32) = Uint;
    /// `unsigned long`
    Ulong(u64) = Uint;
    /// A 64-bit word shown in hexadecimal.
    Hex(u64) = Hex;
    /// `size_t`
    Size(u64) = Size;
    /// `loff_t`
    Offset(i64) = Offset;
    /// A file descriptor.
    Fd(i32) = Fd;
    /// A directory file descriptor or `AT_FDCWD`.
    DirFd(i32) = DirFd;
    /// A path in user memory.
    Path(u64) = Path;
    /// A string in user memory that is not a path.
    Str(u64) = Str;
    /// Bytes in user memory that are read.
    InBuf(u64) = InBuf;
    /// Bytes in user memory that are written.
    OutBuf(u64) = OutBuf;
    /// Any other address in user memory.
    Addr(u64) = Addr;
    /// A vector of strings in user memory.
    StrVec(u64) = StrVec;
    /// Mode bits.
    Mode(u32) = Mode;
    /// A signal number.
    Sig(i32) = Signal;
    /// A process number, or a negative or zero one with a meaning.
    Pid(i32) = Pid;
    /// A user or group number.
    Id(u32) = Id;
    /// `SEEK_` value.
    Whence(u32) = Whence;
    /// `clockid_t`
    Clock(i32) = Clock;
}
