//! Child processes.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, pid_t};

use super::errno::{Errno, Result, check};
use super::process;

/// pipe(2): the end to read from, and the end to write to. No program is ever
/// started that could inherit them.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: the pointer is to two descriptors.
    check(unsafe { libc::pipe(fds.as_mut_ptr()) })?;
    // SAFETY: the descriptors are new and nobody else's.
    let [reader, writer] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    Ok((reader, writer))
}

unsafe extern "C" {
    /// The libc crate does not declare it.
    fn _Fork() -> pid_t;
}

/// _Fork(3), which is fork(2) without the handlers of pthread_atfork(3), of
/// which there are none: `None` in the child. There must be only one thread.
pub fn fork() -> Result<Option<pid_t>> {
    // SAFETY: with one thread the child is a whole copy of this process.
    let process = check(unsafe { _Fork() })?;
    Ok((process != 0).then_some(process))
}

/// Lets this process be killed when its parent, `parent`, ends.
pub fn end_with_parent(parent: pid_t) {
    // SAFETY: the call has no pointers, and cannot fail for a signal that exists.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) };
    // SAFETY: it cannot fail.
    if unsafe { libc::getppid() } != parent {
        // It has ended already.
        process::exit(process::FAILURE);
    }
}

/// getpid(2).
pub fn this_process() -> pid_t {
    // SAFETY: it cannot fail.
    unsafe { libc::getpid() }
}

/// dup2(2): lets `fd` be what `other` is.
pub fn replace(fd: RawFd, other: &OwnedFd) -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::dup2(other.as_raw_fd(), fd) }).map(drop)
}

/// kill(2) with SIGKILL. A process that has ended but was not waited for takes
/// it without effect.
pub fn kill(process: pid_t) {
    // SAFETY: no pointers. The number is a child's that was not waited for.
    unsafe { libc::kill(process, libc::SIGKILL) };
}

/// waitpid(2): waits until a child has ended. Returns its exit status; `None`
/// if it was killed.
pub fn wait(process: pid_t) -> Option<c_int> {
    let mut status = 0;
    loop {
        // SAFETY: the pointer is to an integer of ours.
        match check(unsafe { libc::waitpid(process, &raw mut status, 0) }) {
            Err(Errno(libc::EINTR)) => {}
            Err(_) => return None,
            Ok(_) => return libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        }
    }
}

/// signal(2): lets ended children be waited for, whatever the process that
/// started this one has set for SIGCHLD.
pub fn reset_child_signal() {
    // SAFETY: the default action is no function of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}
