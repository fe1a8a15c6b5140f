"""Where an instance runs that systemd has given no RuntimeDirectory=: made at its start as systemd would make it, and
taken away at its end.

What follows from the directory (the control socket, the pid file, where a command's NOTIFY_SOCKET is) looks at
$RUNTIME_DIRECTORY, so that is set, and a second variable says that it was us who did; successors inherit both, and
nobody else the second.
"""

import os

from ..control.client import runtime_directory
from ..errors import NotPermitted
from ..linux import files
from ..linux.inheritance import RUN_DIRECTORY_VARIABLE, this_invocation
from ..linux.privileges import Identity
from . import locations


def provide(name: str) -> None:
    """See to it that $RUNTIME_DIRECTORY names one. None is made yet: its owner is not known."""
    if runtime_directory():
        return
    path = os.path.join(locations.run_directories()[0], name)
    inherited = this_invocation().environment
    os.environ["RUNTIME_DIRECTORY"] = inherited["RUNTIME_DIRECTORY"] = inherited[RUN_DIRECTORY_VARIABLE] = path


def make(path: str, identity: Identity | None) -> None:
    """Make it, 0755 and the service's own, if it is not there. One that is there may be the service's from before.

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
    """At the end of the service: remove it and the pid file, unless something else is in it, or it is not ours to
    remove."""
    try:
        if os.path.dirname(pid_file) == path:
            os.unlink(pid_file)
        os.rmdir(path)
    except OSError:
        pass
