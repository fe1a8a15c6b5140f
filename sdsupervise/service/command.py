"""Any program as a service: the command line gives what a class gives in its attributes."""

import os
import signal
from typing import NamedTuple

from ..code.code_version import read_version_of_command
from ..control import client
from ..linux.inheritance import is_successor
from ..settings.settings import CommandSettings
from ..sockets.given_names import expected_names
from ..supervisor.supervise import supervise
from ..workers.command_source import CommandWorkers, find, pinned, with_descriptors
from .failure import exit_status_of
from .plan import Plan
from .start import start

_STOP_SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


class Command(NamedTuple):
    """A command, and how to run it."""

    words: tuple[str, ...]
    settings: CommandSettings
    name: str = ""  # "": the program's name
    pid_file: str | None = ""  # "": the default path for NAME; None: no pid file
    user: str | None = None
    group: str | None = None
    silent: bool = False
    detach: bool = False
    is_instance: bool = False

    def run(self) -> int:
        """Supervise the command. Returns the exit status.

        Raises no SdsuperviseError: an error is one sentence on standard error.
        """
        return exit_status_of(self._run)

    def _run(self) -> int:
        executable = find(self.words)
        if not is_successor():  # has the same words; checked before anything is locked or opened
            with_descriptors(self.words, expected_names([listen.name for listen in self.settings.listen]))
        name = self.name or os.path.basename(self.words[0])
        plan = Plan(
            name=name,
            read_code_version=lambda: read_version_of_command(executable, self.words),
            pid_file=client.default_pid_file(name) if self.pid_file == "" else self.pid_file,
            user=self.user,
            group=self.group,
            silent=self.silent,
            detach=self.detach,
            supervised=True,
            can_reload=True,
            listen=self.settings.listen,
            is_instance=self.is_instance,
            overlaps=self.settings.overlaps,
            checked=self.settings.checked_beside,
        )
        started = start(plan)
        if isinstance(started, int):
            return started
        return supervise(
            name,
            self.settings,
            started,
            source=lambda context: CommandWorkers(context, *pinned(executable, self.words)),
            stop_signals=_STOP_SIGNALS,
            can_reload=True,
        )
