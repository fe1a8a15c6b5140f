"""The ground with a real systemd: a throw-away machine on which the example is a unit."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping

from tests.demo.ground import CLIENT_MODULES, CLONE, LIMIT_SECONDS, Facts, Outcome, Service
from tests.demo.narrator import Narrator
from tests.support.journal import as_line
from tests.support.machine import Machine

CLIENTS = "/opt/clients"


class SystemdGround:
    """The example, installed as its comments say."""

    teller = "systemd"
    pid_name = "MainPID"
    restarts_name = "NRestarts"

    def __init__(self, machine: Machine, narrator: Narrator, service: Service) -> None:
        self.machine, self.narrator, self.service = machine, narrator, service
        self.home = f"/srv/{service.name}"
        self.unit = f"{service.name}.service"

    @property
    def port(self) -> int:
        return self.service.port

    def install(self, releases: Mapping[str, str], unit: str) -> None:
        for path, text in releases.items():
            self.machine.write(f"{self.home}/releases/{path}", text)
        self.machine.write(f"/etc/systemd/system/{self.unit}", unit)
        for module in CLIENT_MODULES:
            path = f"{module.replace('.', '/')}.py"
            self.machine.write(f"{CLIENTS}/{path}", (CLONE / path).read_text())
        self.machine.run("systemctl", "daemon-reload")

    def client(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        command = ("/usr/bin/python3", "-m", module, *arguments)
        return self.machine.popen(*command, stdin=subprocess.PIPE, stderr=None, env={"PYTHONPATH": CLIENTS})

    def deploy(self, release: str) -> None:
        assert self.run("ln", "-sfn", f"releases/{release}", f"{self.home}/current").succeeded

    def start(self) -> Outcome:
        return self.run("systemctl", "start", self.service.name)

    def kill_worker(self, pid: int) -> None:
        self.kill(pid, self.service.sign)

    def reload(self, main_pid: int) -> Outcome:
        return self.run("systemctl", "reload", self.service.name)

    def kill_supervisor(self, pid: int) -> None:
        self.kill(pid, f"Started {self.unit}")

    def restart(self) -> Outcome:
        return self.run("systemctl", "restart", self.service.name)

    def stop(self, main_pid: int) -> Outcome:
        return self.run("systemctl", "stop", self.service.name)

    def wait_until_gone(self, pid: int) -> None:
        self.machine.wait_until_gone(pid, timeout_seconds=LIMIT_SECONDS)

    def facts(self) -> Facts:
        shown = self.machine.show(self.unit, "MainPID", "NRestarts", "StatusText")
        status = json.loads(self.machine.run("sdsupervise", "status", "--json", self.service.name).stdout)
        return Facts(
            main_pid=int(shown["MainPID"]),
            supervisor_pid=status["pid"],
            worker_pids=tuple(worker["pid"] for worker in status["workers"]),
            restarts=int(shown["NRestarts"]),
            crashes=status["crashes"],
            sentence=shown["StatusText"],
        )

    def leftovers(self) -> list[str]:
        shown = self.machine.show(self.unit, "ActiveState", "Result")
        wrong = [f"{key}={value}" for key, value in shown.items() if value not in ("inactive", "success")]
        return wrong + [f"process {process.pid}" for process in self.machine.processes(self.unit)]

    def last_words(self) -> str:
        return "\n".join(map(as_line, self.machine.journal(self.unit)[-20:]))

    # ------------------------------------------------------------------------------------------------ details

    def run(self, *command: str) -> Outcome:
        self.narrator.command(" ".join(command))
        exit_status = self.machine.run(*command, check=False).returncode
        return Outcome(exit_status == 0, f"exit status {exit_status}")

    def kill(self, pid: int, sign: str) -> None:
        """Kill it, and wait until the journal says this."""
        journal = self.machine.follow_journal(self.unit, timeout_seconds=LIMIT_SECONDS)
        self.narrator.command(f"kill -9 {pid}")
        self.machine.kill(pid, signal.SIGKILL)
        journal.wait_for(sign)
