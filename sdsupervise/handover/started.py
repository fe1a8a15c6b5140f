"""What a supervisor starts with: what it opened itself, and what its predecessor passed to it."""

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
    """What a supervisor needs to begin."""

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
        """The number of this generation, counted from 1."""
        return self.welcome.generation if self.welcome is not None else 1

    @property
    def listeners(self) -> Mapping[str, socket.socket]:
        """The service's listeners by name, in their configured order; close-on-exec."""
        return self.listening.sockets
