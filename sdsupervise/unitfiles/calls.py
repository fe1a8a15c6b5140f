"""The system calls of a supervisor, as systemd groups them for SystemCallFilter=.

Those of systemd's group @default are left out: no filter forbids them. The list is what strace(1) shows of a
supervisor, of a reload and of Python itself.
"""

from collections.abc import Mapping

_TEXT = """
    @basic-io: close close_range dup dup2 dup3 lseek pread64 pwrite64 read readv write writev
    @file-system: access chdir chmod close faccessat faccessat2 fchdir fchmod fchmodat fcntl fstat fstatfs
    @file-system: ftruncate getcwd getdents64 link linkat lstat mkdir mkdirat newfstatat open openat readlink
    @file-system: readlinkat rename renameat renameat2 rmdir stat statfs statx symlink unlink unlinkat
    @io-event: epoll_create1 epoll_ctl epoll_pwait epoll_wait poll ppoll select
    @ipc: memfd_create pipe pipe2
    @network-io: accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmsg sendmsg sendto
    @network-io: setsockopt shutdown socket socketpair
    @process: clone clone3 fork getrusage kill pidfd_open pidfd_send_signal prctl tgkill vfork wait4 waitid
    @signal: rt_sigaction rt_sigpending rt_sigprocmask rt_sigtimedwait sigaltstack
    @system-service: flock getpriority ioctl madvise mremap setpgid setsid sysinfo umask uname
"""
_BROAD = ("@system-service", "@known")


def _groups_of_calls() -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for line in _TEXT.strip().splitlines():
        group, _, names = line.strip().partition(": ")
        for name in names.split():
            found[name] = found.get(name, frozenset(_BROAD)) | {group}
    return found


CALLS: Mapping[str, frozenset[str]] = _groups_of_calls()
"""The groups that each of them is in."""
