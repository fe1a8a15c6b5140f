"""What a supervisor starts with: what it has opened itself, and what its predecessor has passed to it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from ..code.code_version import CodeVersion
from ..linux import inheritance
from ..linux.pid_file import PidFile
from ..linux.unpatched import socket
from ..sockets.listeners import Listening
from ..systemd.notify import Notifier
from .welcome import Welcome

if TYPE_CHECKING:
    from ..linux.init import Init


class Started(NamedTuple):
    """What it got: its own process, ready to begin."""

    notifier: Notifier
    invocation: inheritance.Invocation
    code_version: CodeVersion
    pid_file: PidFile
    control: socket.socket | None
    listening: Listening
    welcome: Welcome | None
    init: "Init | None" = None

    @property
    def generation(self) -> int:
        """Counted from 1."""
        return self.welcome.generation if self.welcome is not None else 1

    @property
    def listeners(self) -> Mapping[str, socket.socket]:
        """What the service listens on, in the order in which it is listed; close-on-exec."""
        return self.listening.sockets
