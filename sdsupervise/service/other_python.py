"""A service class in a virtual environment of its own, under a supervisor that is installed elsewhere.

The supervisor cannot import the class. A short process of the class's interpreter describes it in JSON and exits. The
workers are processes of that interpreter, too.
"""

import signal
from typing import Any

from ..code.code_version import CodeVersion
from ..errors import ConfigError, UsageError
from ..handover.failure_reason import tell_why
from ..input.checked import Unfit
from ..linux.inheritance import without_supervisors_own
from ..linux.unpatched import os
from ..settings.settings import check_settings
from ..supervisor.supervise import supervise
from ..workers.command_source import find, pinned
from ..workers.other_python_source import OtherPythonWorkers, command_line
from . import description
from .claim import Claim
from .failure import exit_status_of
from .plan import Plan
from .start import start
from .wanted import WantedService


class OtherPython:
    """A service class and its interpreter."""

    def __init__(self, python: str, wanted: WantedService, claimed: Claim | None) -> None:
        self._python, self._wanted, self._claimed = python, wanted, claimed

    def run(self) -> int:
        """Supervise the service. Returns the exit status.

        Raises no SdsuperviseError: an error is one sentence on standard error.
        """
        return exit_status_of(self._run)

    def _run(self) -> int:
        python, _ = pinned(find([self._python]), [self._python])
        # Resolved, so that a restarted worker runs the code of its generation after a deployment swaps a symlink.
        place, colon, name = self._wanted.target.partition(":")
        place = os.path.realpath(place) if os.path.isfile(place) else place
        wanted = self._wanted._replace(target=f"{place}{colon}{name}")
        facts = _describe(python, wanted)
        if "exit_status" in facts:
            tell_why(*facts.get("why", ("", "")))  # for a predecessor; the interpreter used standard error
            return int(facts["exit_status"])
        if not facts["supervised"]:
            raise UsageError(f"{facts['class']} is not supervised; leave out --python.")
        settings = check_settings(facts["class"], facts["settings"])
        plan = Plan(
            name=facts["name"],
            read_code_version=lambda: CodeVersion(*facts["code_version"]),
            pid_file=facts["pid_file"],
            user=facts["user"],
            group=facts["group"],
            silent=facts["silent"],
            detach=facts["detach"],
            supervised=True,
            can_reload=facts["can_reload"],
            listen=settings.listen,
            is_instance=bool(wanted.instance),
            overlaps=settings.overlaps,
            checked=settings.checked_beside,
        )
        started = start(plan, self._claimed)
        if isinstance(started, int):
            return started
        return supervise(
            plan.name,
            settings,
            started,
            source=lambda context: OtherPythonWorkers(context, plan.name, python, wanted, silent=plan.silent),
            stop_signals=[signal.Signals(number) for number in facts["shutdown_signals"]],
            can_reload=plan.can_reload,
        )


def _describe(python: str, wanted: WantedService) -> dict[str, Any]:
    """The description that the interpreter gives of the service; with "exit_status" if there is nothing more to do.

    Raises ConfigError if there is none, or it is invalid.
    """
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    words = command_line(python, "describe", {"wanted": wanted, "answer": theirs, "parent": os.getpid()})
    pid = os.posix_spawn(python, words, without_supervisors_own(os.environ))
    os.close(theirs)
    with open(ours, "rb") as answer:
        said = answer.read(description.MOST_BYTES + 1)
    _, status = os.waitpid(pid, 0)
    if not said:
        raise ConfigError(
            f"--python {python} ended with status {os.waitstatus_to_exitcode(status)} before it described "
            f"{wanted.target}; it must be Python 3.11 or newer."
        )
    try:
        return description.read(said)
    except Unfit as error:
        raise ConfigError(f"--python {python} gave an invalid description of {wanted.target}: {error}.") from None
