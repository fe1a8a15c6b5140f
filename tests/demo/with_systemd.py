"""The ground with a real systemd: a throw-away machine on which the example is a unit."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping

from tests.demo.ground import CLIENT, EXAMPLE, LIMIT_SECONDS, Facts, Outcome
from tests.demo.narrator import Narrator
from tests.demo.story import outcome_of
from tests.demo.talk import Talk
from tests.ground.journal import as_line
from tests.ground.machine import Machine

HOME = "/srv/counter"
UNIT = "counter.service"
PORT = 7000


class SystemdGround:
    """The example, installed as its comments say."""

    teller = "systemd"
    pid_name = "MainPID"
    restarts_name = "NRestarts"

    def __init__(self, machine: Machine, narrator: Narrator) -> None:
        self.machine, self.narrator = machine, narrator

    def install(self, releases: Mapping[str, str]) -> None:
        for name, source in releases.items():
            self.machine.write(f"{HOME}/releases/{name}/counter.py", source)
        self.machine.write(f"/etc/systemd/system/{UNIT}", (EXAMPLE / UNIT).read_text())
        self.machine.write("/opt/client.py", CLIENT.read_text())
        self.machine.run("systemctl", "daemon-reload")

    def talk(self) -> Talk:
        return Talk(self.machine.popen("/usr/bin/python3", "/opt/client.py", str(PORT), stdin=subprocess.PIPE))

    def deploy(self, release: str) -> None:
        assert self.run("ln", "-sfn", f"releases/{release}", f"{HOME}/current") == 0

    def start(self) -> Outcome:
        return outcome_of(self.run("systemctl", "start", "counter"))

    def kill_worker(self, pid: int) -> None:
        journal = self.machine.follow_journal(UNIT, timeout_seconds=LIMIT_SECONDS)
        self.narrator.command(f"kill -9 {pid}")
        self.machine.kill(pid, signal.SIGKILL)
        journal.wait_for(" serves, ")

    def reload(self, main_pid: int) -> Outcome:
        return outcome_of(self.run("systemctl", "reload", "counter"))

    def stop(self, main_pid: int) -> Outcome:
        return outcome_of(self.run("systemctl", "stop", "counter"))

    def facts(self) -> Facts:
        shown = self.machine.show(UNIT, "MainPID", "NRestarts", "StatusText")
        status = json.loads(self.machine.run("sdsupervise", "status", "--json", "counter").stdout)
        return Facts(
            main_pid=int(shown["MainPID"]),
            supervisor_pid=status["pid"],
            worker_pid=status["workers"][0]["pid"] if status["workers"] else 0,
            restarts=int(shown["NRestarts"]),
            crashes=status["crashes"],
            sentence=shown["StatusText"],
        )

    def leftovers(self) -> list[str]:
        shown = self.machine.show(UNIT, "ActiveState", "Result")
        wrong = [f"{key}={value}" for key, value in shown.items() if value not in ("inactive", "success")]
        return wrong + [f"process {process.pid}" for process in self.machine.processes(UNIT)]

    def last_words(self) -> str:
        return "\n".join(map(as_line, self.machine.journal(UNIT)[-20:]))

    def run(self, *command: str) -> int:
        self.narrator.command(" ".join(command))
        return self.machine.run(*command, check=False).returncode
