"""The runtime directory of an instance that has no RuntimeDirectory= of systemd.

It is made at the start, as systemd would make it, and removed at the end. The control socket, the pid file and a
command's NOTIFY_SOCKET follow from $RUNTIME_DIRECTORY, so that is set. A second variable says that sdsupervise set it.
Successors inherit both; other processes do not inherit the second.
"""

import os

from ..control.client import runtime_directory
from ..errors import NotPermitted
from ..linux import files
from ..linux.inheritance import RUN_DIRECTORY_VARIABLE, this_invocation
from ..linux.privileges import Identity
from . import locations


def provide(name: str) -> None:
    """Set $RUNTIME_DIRECTORY, if it is not set. The directory is not made yet, because its owner is not known."""
    if runtime_directory():
        return
    path = os.path.join(locations.run_directories()[0], name)
    inherited = this_invocation().environment
    os.environ["RUNTIME_DIRECTORY"] = inherited["RUNTIME_DIRECTORY"] = inherited[RUN_DIRECTORY_VARIABLE] = path


def make(path: str, identity: Identity | None) -> None:
    """Make the directory, with mode 0755 and the service's user as owner, or use one of that owner that exists.

    Raises NotPermitted.
    """
    ours = os.geteuid()
    service = identity.uid if identity is not None and ours == 0 else ours
    try:
        os.close(files.make_directory(os.path.dirname(path), 0o755, owners=[ours]))
        directory = files.make_directory(path, 0o755, owners={ours, service})
        try:
            if identity is not None and ours == 0:
                os.fchown(directory, identity.uid, identity.gid)
        finally:
            os.close(directory)
    except OSError as error:
        hint = "; start it as root, or with $XDG_RUNTIME_DIR set to a directory of your own" if ours else ""
        raise NotPermitted(f"Cannot make {path}, where the instance would run: {error.strerror}{hint}.") from error


def take_away(path: str, pid_file: str) -> None:
    """At the end of the service, remove the pid file and the directory. Keep what is not empty or what we may not
    remove."""
    try:
        if os.path.dirname(pid_file) == path:
            os.unlink(pid_file)
        os.rmdir(path)
    except OSError:
        pass
