//! The program that is taken: a file of the folder, else memory; and becoming it.
//!
//! A file is preferred: what runs from memory alone alarms a cluster's runtime security. Memory is for folders that
//! cannot be written, or from which nothing may be run.

use std::ffi::{CString, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::say;

const NAME: &str = "agent";
/// Memory that may be executed also where the machine's default is that it may not (Linux 6.3).
const MFD_EXEC: libc::c_uint = 0x10;

/// A program being written. What is not [finished](Draft::finish) is removed when dropped.
#[derive(Debug)]
pub(crate) struct Draft {
    file: File,
    /// Where it is until it is finished; `None` in memory.
    path: Option<PathBuf>,
}

/// A whole program.
#[derive(Debug)]
pub(crate) enum Program {
    File(PathBuf),
    Memory(File),
}

impl Draft {
    /// Begins the `number`th draft in `folder`, in memory where that is impossible.
    pub(crate) fn new(folder: &Path, number: u64) -> io::Result<Self> {
        if may_execute(folder) {
            let path = folder.join(format!(".{NAME}-{}-{number}", std::process::id()));
            let made = OpenOptions::new().write(true).create_new(true).mode(0o500).open(&path);
            match made {
                Ok(file) => return Ok(Self { file, path: Some(path) }),
                Err(error) => say(&[&folder.to_string_lossy(), " cannot be written: ", &error.to_string()]),
            }
        } else {
            say(&["nothing may be run from ", &folder.to_string_lossy()]);
        }
        Ok(Self { file: memory()?, path: None })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// It is whole: gives it its name.
    pub(crate) fn finish(mut self) -> io::Result<Program> {
        let Some(path) = &self.path else { return Ok(Program::Memory(self.file.try_clone()?)) };
        let named = path.with_file_name(NAME);
        fs::rename(path, &named)?;
        self.path = None;
        Ok(Program::File(named))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = fs::remove_file(path)
        {
            say(&["cannot remove ", &path.to_string_lossy(), ": ", &error.to_string()]);
        }
    }
}

impl Program {
    /// Becomes the program. Comes back with the reason when that is impossible.
    pub(crate) fn run(self, arguments: &[OsString]) -> io::Error {
        let in_memory = |file: &File| execute((file.as_raw_fd(), Path::new("")), Path::new(NAME), arguments);
        let path = match self {
            Self::Memory(file) => return in_memory(&file),
            Self::File(path) => path,
        };
        let refused = execute((libc::AT_FDCWD, &path), &path, arguments);
        if refused.raw_os_error() != Some(libc::EACCES) {
            return refused;
        }
        // A mount or a security module that says so only now.
        say(&[&path.to_string_lossy(), " may not be run; it runs from memory"]);
        match copy_to_memory(&path) {
            Ok(file) => in_memory(&file),
            Err(error) => error,
        }
    }
}

fn copy_to_memory(path: &Path) -> io::Result<File> {
    let mut file = memory()?;
    file.write_all(&fs::read(path)?)?;
    Ok(file)
}

/// Whether files of a folder may be run, as far as its mount says.
fn may_execute(folder: &Path) -> bool {
    let Ok(path) = CString::new(folder.as_os_str().as_bytes()) else { return false };
    // SAFETY: plain integers, for which zero is a value.
    let mut figures: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` ends with NUL, and `figures` is ours to be filled.
    let known = unsafe { libc::statvfs(path.as_ptr(), &raw mut figures) } == 0;
    // What cannot be told is tried.
    !known || figures.f_flag & libc::ST_NOEXEC == 0
}

fn memory() -> io::Result<File> {
    let create = |flags| {
        // SAFETY: the name ends with NUL; the kernel copies it.
        unsafe { libc::memfd_create(c"agent".as_ptr(), flags) }
    };
    let mut fd = create(libc::MFD_CLOEXEC | MFD_EXEC);
    if fd < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
        fd = create(libc::MFD_CLOEXEC);
    }
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// An argument list as execve(2) wants it.
struct Words {
    _owned: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl Words {
    fn new(words: impl Iterator<Item = OsString>) -> io::Result<Self> {
        let owned: Vec<CString> =
            words.map(|word| Ok(CString::new(word.into_vec())?)).collect::<io::Result<_>>()?;
        let pointers = owned.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
        Ok(Self { _owned: owned, pointers })
    }
}

/// Becomes what `program` gives: a path, or for an open file its descriptor and an empty path.
fn execute(program: (libc::c_int, &Path), name: &Path, arguments: &[OsString]) -> io::Error {
    let variables = std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    });
    let words = [name.as_os_str().to_owned()].into_iter().chain(arguments.iter().cloned());
    let path = CString::new(program.1.as_os_str().as_bytes()).map_err(io::Error::from);
    let (path, words, variables) = match (path, Words::new(words), Words::new(variables)) {
        (Ok(path), Ok(words), Ok(variables)) => (path, words, variables),
        (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => return error,
    };
    // SAFETY: both lists end with a null pointer and point to strings that live until the call returns, if it does.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.0,
            path.as_ptr(),
            words.pointers.as_ptr(),
            variables.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}
