"""Files of supervisord and Procfiles, as public projects have them, end in instances that run on a real systemd."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.load.environment import PLACE
from tests.support.fifos import Fifo
from tests.support.fixtures import Equipment
from tests.support.machine import Machine

MACHINE = Equipment(units=True, programs=True)

WSGI = """\
import os

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getuid()} {os.environ['STAGE']} {os.environ.get('PYTHONPATH')} {os.umask(0):o}".encode()]
"""
ANSWERS = """\
#!/usr/bin/python3
import os, socket, sys
listener = socket.socket(fileno=0) if sys.argv[1] == "0" else socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.write(1, f"number {' '.join(sys.argv[2:])}\\n".encode())  # in one piece: two workers share the stream
while True:
    with listener.accept()[0] as client:
        client.recv(1000)
        client.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + f"{sys.argv[1]} {os.getuid()}".encode())
"""
QUEUE = """\
#!/bin/sh
trap 'echo bye; exit 0' INT
echo "queue $STAGE for $1"
while :; do sleep 0.2; done
"""
SUPERVISORD = """\
; as a distribution ships it
[unix_http_server]
file=/var/run/supervisor.sock
[supervisord]
logfile=/var/log/supervisor/supervisord.log
environment=STAGE="production"
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[include]
files = conf.d/*.conf
"""
PROGRAMS = f"""\
[group:shop]
programs=web,answers

[program:web]
command={PLACE}/bin/gunicorn shop:application --bind 127.0.0.1:8000   ; behind nginx
directory=/srv/shop
user=games
umask=027
environment=PYTHONPATH="/srv/shop/lib"
autostart=true
autorestart=true
stdout_logfile=/var/log/shop.log
redirect_stderr=true

[program:answers]
command=/srv/shop/answers 81%(process_num)02d
process_name=%(program_name)s_%(process_num)02d
numprocs=2
user=daemon
autorestart=true
priority=500

[program:queue]
command=%(here)s/../queue
  "the mail"
numprocs=2
process_name=%(program_name)s_%(process_num)02d
user=games
stopsignal=INT
stopasgroup=true
autorestart=true
priority=10

[fcgi-program:fast]
command=/srv/shop/answers 0 %(process_num)d
process_name=%(program_name)s_%(process_num)d
numprocs=2
socket=tcp://127.0.0.1:8200
user=games
autorestart=true

[eventlistener:memory]
command=memmon
events=TICK_60
"""
ASK = "import urllib.request as r, sys; print(r.urlopen(sys.argv[1], timeout=30).read().decode())"


def sdsupervise(machine: Machine, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line, whatever it ends with."""
    return machine.run("sdsupervise", *words, check=False)


def ask(machine: Machine, port: int) -> str:
    return machine.run("python3", "-c", ASK, f"http://127.0.0.1:{port}/").stdout.strip()


def active(machine: Machine, *units: str) -> list[str]:
    return machine.run("systemctl", "is-active", *units, check=False).stdout.split()


@pytest.fixture
def clean(machine: Machine) -> Iterator[Machine]:
    """The machine, on which no instance is left afterwards."""
    yield machine
    machine.run("systemctl", "stop", "sdsupervise@*.service", check=False)
    machine.run("sh", "-c", "systemctl disable $(ls /etc/sdsupervise | sed -n 's/^\\(.*\\)\\.toml$/sdsupervise@\\1/p')")
    machine.run("sh", "-c", "rm -rf /etc/sdsupervise /etc/systemd/system/sdsupervise* /srv/shop")
    machine.run("systemctl", "daemon-reload")


def test_supervisord(clean: Machine) -> None:
    """One command writes what its configuration says, the command that it names starts it, and all of it runs as it
    did: user, umask, environment, ports, groups, stop signals."""
    machine = clean
    machine.write("/etc/supervisor/supervisord.conf", SUPERVISORD)
    machine.write("/etc/supervisor/conf.d/shop.conf", PROGRAMS)
    machine.write("/etc/supervisor/queue", QUEUE, mode=0o755)
    machine.write("/srv/shop/shop.py", WSGI)
    machine.write("/srv/shop/answers", ANSWERS, mode=0o755)
    command = ("import", "supervisord", "/etc/supervisor/supervisord.conf")
    printed = sdsupervise(machine, *command)
    assert (printed.returncode, machine.exists("/etc/sdsupervise")) == (0, False), printed.stderr
    assert "[eventlistener:memory] is not imported" in printed.stderr
    written = sdsupervise(machine, *command, "--write")
    assert written.returncode == 0, written.stdout + written.stderr
    names = ["web", "answers_00", "answers_01", "queue", "fast"]
    assert [line for line in written.stdout.splitlines() if line.endswith(": ok")] == [f"{name}: ok" for name in names]
    remains = re.findall(r"^what remains to do: (.*)$", written.stdout, re.MULTILINE)
    assert remains[0].startswith("supervisorctl stop shop:web shop:answers_00 shop:answers_01 'queue:*' 'fast:*'")
    machine.run(*remains[1].split())
    units = [f"sdsupervise@{name}" for name in names]
    assert active(machine, *units, "sdsupervise-shop.target") == ["active"] * 6
    uid = {name: machine.run("id", "-u", name).stdout.strip() for name in ("games", "daemon")}
    assert ask(machine, 8000) == f"{uid['games']} production /srv/shop/lib 27"
    assert [ask(machine, port) for port in (8100, 8101)] == [f"{port} {uid['daemon']}" for port in (8100, 8101)]
    assert ask(machine, 8200) == f"0 {uid['games']}"
    numbers = {entry["MESSAGE"] for entry in machine.journal(None, "_SYSTEMD_UNIT=sdsupervise@fast.service")}
    assert {"number 0", "number 1"} <= numbers
    facts = json.loads(sdsupervise(machine, "status", "queue", "--json").stdout)
    assert facts["pool"]["serving"] == 2
    said = [entry["MESSAGE"] for entry in machine.journal(None, "_SYSTEMD_UNIT=sdsupervise@queue.service")]
    assert said.count("queue production for the mail") == 2
    assert machine.run("systemctl", "reload", "sdsupervise@web").returncode == 0
    assert ask(machine, 8000).startswith(uid["games"])
    group_stops_and_starts(machine)
    again = sdsupervise(machine, *command, "--write")
    assert again.returncode == 0
    assert "wrote" not in again.stdout and "No file needs a change." in again.stderr


def group_stops_and_starts(machine: Machine) -> None:
    """The target stands for the group: its members, and no others."""
    members = ("sdsupervise@web", "sdsupervise@answers_00", "sdsupervise@answers_01")
    pids = [int(machine.show(name, "MainPID")["MainPID"]) for name in members]
    machine.run("systemctl", "stop", "sdsupervise-shop.target")  # which does not wait for its members
    for pid in pids:
        machine.wait_until_gone(pid, timeout_seconds=50)
    assert active(machine, "sdsupervise@queue") == ["active"]
    machine.run("systemctl", "stop", *members)  # ends any job of theirs
    machine.run("systemctl", "start", "sdsupervise-shop.target")
    machine.run("systemctl", "start", *members)  # waits for the jobs of the target
    assert active(machine, *members) == ["active"] * 3
    machine.run("systemctl", "stop", "sdsupervise@queue")
    said = [entry["MESSAGE"] for entry in machine.journal(None, "_SYSTEMD_UNIT=sdsupervise@queue.service")]
    assert said.count("bye") == 2  # SIGINT
    assert machine.show("sdsupervise@queue", "Result")["Result"] == "success"


def test_what_supervisord_leaves_stopped(clean: Machine) -> None:
    """After an expected exit status the service is inactive, and has not failed; after another it starts again."""
    machine = clean
    status = Fifo(machine, "status")
    machine.write("/srv/shop/job", "#!/bin/sh\necho began\nread status </exchange/status\nexit $status\n", mode=0o755)
    text = "[program:job]\ncommand=/srv/shop/job\nuser=games\nexitcodes=0,3\nstartsecs=0\n"
    machine.write("/etc/supervisor/supervisord.conf", text)
    written = sdsupervise(machine, "import", "supervisord", "/etc/supervisor/supervisord.conf", "--write")
    assert written.returncode == 0, written.stdout + written.stderr
    machine.run("systemctl", "start", "sdsupervise@job")
    supervisor = int(machine.show("sdsupervise@job", "MainPID")["MainPID"])
    for line in ("7\n", "3\n"):
        status.write(line)
    machine.wait_until_gone(supervisor, timeout_seconds=50)
    assert machine.show("sdsupervise@job", "ActiveState")["ActiveState"] == "inactive"  # neither failed nor activating
    said = [entry["MESSAGE"] for entry in machine.journal(None, "_SYSTEMD_UNIT=sdsupervise@job.service")]
    assert said.count("began") == 2
    status.close()


PROCFILE = f"""\
release: python manage.py migrate
web: STAGE=review {PLACE}/bin/gunicorn shop:application --bind 127.0.0.1:$PORT
node: ./answers $PORT
loop: while :; do echo "loop $STAGE"; sleep 0.2; done
"""


def test_procfile(clean: Machine) -> None:
    """Its process types run as its owner, with the variables of .env, and each with its port."""
    machine = clean
    machine.write("/srv/shop/Procfile", PROCFILE)
    machine.write("/srv/shop/.env", "STAGE='one $two'\nPORT=7000\n")
    machine.write("/srv/shop/shop.py", WSGI)
    machine.write("/srv/shop/answers", ANSWERS, mode=0o755)
    machine.run("chown", "-R", "games", "/srv/shop")
    written = sdsupervise(machine, "import", "procfile", "/srv/shop/Procfile", "--prefix", "shop-", "--write")
    assert written.returncode == 0, written.stdout + written.stderr
    assert "release is not imported: run 'python manage.py migrate' in your deployment" in written.stderr
    assert machine.run("stat", "--format=%U %a", "/etc/sdsupervise/shop-web.env").stdout == "root 600\n"
    (remains,) = re.findall(r"^what remains to do: (.*)$", written.stdout, re.MULTILINE)
    machine.run(*remains.split())
    names = ("shop-web", "shop-node", "shop-loop")
    assert active(machine, *(f"sdsupervise@{name}" for name in names)) == ["active"] * 3
    uid = machine.run("id", "-u", "games").stdout.strip()
    assert ask(machine, 7100) == f"{uid} review None 22"
    assert ask(machine, 7200) == f"7200 {uid}"
    said = {entry["MESSAGE"] for entry in machine.journal(None, "_SYSTEMD_UNIT=sdsupervise@shop-loop.service")}
    assert "loop one $two" in said
    machine.run("systemctl", "stop", "sdsupervise@shop-loop")
    assert machine.show("sdsupervise@shop-loop", "Result")["Result"] == "success"


def test_without_root(machine: Machine) -> None:
    """Who may not write is told so in one sentence; who only asks is answered."""
    machine.write("/srv/conf", "[program:web]\ncommand=/bin/sleep 1000\n")
    as_games = ("setpriv", "--reuid=games", "--clear-groups", "--", "sdsupervise", "import", "supervisord", "/srv/conf")
    assert machine.run(*as_games).returncode == 0
    done = machine.run(*as_games, "--write", check=False)
    assert (done.returncode, done.stderr) == (77, "We may not write /etc/sdsupervise/web.toml; try as root.\n")
