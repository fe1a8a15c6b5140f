"""What supervisord's configuration becomes: by its text alone, without a machine."""

from __future__ import annotations

import glob
import os
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sdsupervise.cli import importing
from sdsupervise.errors import BadFile, CannotImport
from sdsupervise.imports import ini, supervisord, supervisord_files, texts
from sdsupervise.imports.imported import FoundPrograms
from sdsupervise.input.nearest import nearest


class Import:
    """What a file becomes."""

    def __init__(
        self, directory: Path, text: str, variables: Mapping[str, str] | None = None, prefix: str = ""
    ) -> None:
        self.file = directory / "supervisord.conf"
        self.file.write_text(text)
        self.found: FoundPrograms = supervisord.found([str(self.file)], variables or {}, prefix)
        self.files = {file.path: file.text for each in self.found.instances for file in texts.files_of(each)}
        self.files |= {file.path: file.text for file in map(texts.file_of, self.found.targets)}

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.found.instances]

    def toml(self, name: str = "app") -> dict[str, Any]:
        """The keys of an instance."""
        return tomllib.loads(self.files[f"/etc/sdsupervise/{name}.toml"])

    def env(self, name: str = "app") -> str:
        return self.files[f"/etc/sdsupervise/{name}.env"]

    def unit(self, name: str = "app") -> list[str]:
        """The lines of a drop-in."""
        return self.files[f"/etc/systemd/system/sdsupervise@{name}.service.d/import.conf"].splitlines()

    @property
    def notes(self) -> str:
        return "\n".join([*self.found.notes, *texts.notes_of(self.found.instances)])


def program(directory: Path, *lines: str, name: str = "app", variables: Mapping[str, str] | None = None) -> Import:
    """A program with these lines; `command` is sleep, if they do not say it."""
    command = [] if any(line.startswith("command") for line in lines) else ["command=/bin/sleep 1000"]
    return Import(directory, "\n".join([f"[program:{name}]", *command, *lines]), variables)


def test_a_usual_program(tmp_path: Path) -> None:
    """A worker of a task queue, as its documentation has supervisord run it."""
    done = program(
        tmp_path,
        "; ==== the worker ====",
        "command=/srv/app/venv/bin/queue-worker --level INFO   ; of the queue",
        "directory=/srv/app",
        "user=nobody",
        "environment=SETTINGS=\"app.production\",TOKEN='a,b $c'",
        "autostart=true",
        "autorestart=true",
        "startsecs=10",
        "stopwaitsecs = 600",
        "stopasgroup=true",
        "stdout_logfile=/var/log/app.log",
        "redirect_stderr=true",
    )
    assert done.toml() == {
        "command": ["/srv/app/venv/bin/queue-worker", "--level", "INFO"],
        "directory": "/srv/app",
        "user": "nobody",
        "delay_before_respawn": 1,
        "stop_timeout": 600,
        "kill_mode": "group",
        "ready_after": 10,
    }
    assert done.env() == 'SETTINGS="app.production"\nTOKEN="a,b \\$c"\n'
    assert done.unit() == [
        *("[Service]", "EnvironmentFile=/etc/sdsupervise/app.env", "User=nobody", "TimeoutStopSec=620"),
    ]
    assert "goes to the journal, no longer to /var/log/app.log" in done.notes
    assert done.found.refused == ()


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("startsecs=0", "ready_after", 0.1),
        ("startsecs=90", "start_timeout", 120),
        ("startsecs=90", "reload_timeout", 120),
        ("stopsignal=QUIT", "stop_signal", "SIGQUIT"),
        ("stopsignal=sigint", "stop_signal", "SIGINT"),
        ("stopsignal=10", "stop_signal", "SIGUSR1"),
        ("stopsignal=TERM", "stop_signal", None),
        ("stopsignal=KILL", "stop_timeout", 0),
        ("stopwaitsecs=25", "stop_timeout", 25),
        ("killasgroup=true", "kill_mode", None),
        ("stopasgroup=yes", "kill_mode", "group"),
        ("numprocs=3\nprocess_name=%(program_name)s_%(process_num)02d", "workers", 3),
        ("numprocs=1\nprocess_name=%(program_name)s_%(process_num)02d", "workers", None),
        ("command=bin/run '{x}' \"a b\" ${Y}", "command", ["bin/run", "{{x}}", "a b", "${Y}"]),
        ("command=run\n  --one\n  ; not this\n  --two", "command", ["run", "--one", "--two"]),
        ("command=run 100%% %(program_name)s %(here)s/x", "command", ["run", "100%", "app", "HERE/x"]),
        ("command=run %(ENV_HOME)s", "command", ["run", "/home/app"]),
        ("environment=HOME=/srv\ncommand=run %(ENV_HOME)s", "command", ["run", "/srv"]),
        ("user=root", "user", None),
        ("user=0", "user", None),
        ("user=1234", "user", "1234"),
    ],
)
def test_one_option(tmp_path: Path, line: str, key: str, value: object) -> None:
    """What an option becomes; None: the key is not there."""
    done = program(tmp_path, line, variables={"HOME": "/home/app"})
    found = done.toml().get(key)
    here = str(tmp_path)
    assert ([word.replace(here, "HERE") for word in found] if isinstance(found, list) else found) == value


def test_units(tmp_path: Path) -> None:
    """umask, file limits, and what [supervisord] says for all programs."""
    done = Import(
        tmp_path,
        "[supervisord]\nminfds=65536\numask=077\nuser=nobody\ndirectory=/srv\nenvironment=A=1,B=2\n"
        "[program:one]\ncommand=run\nenvironment=B=3\nautorestart=on\n"
        "[program:two]\ncommand=run\numask=002\nuser=games\ndirectory=/\nautorestart=on\n",
    )
    limit = "LimitNOFILE=65536:524288"
    environment = "EnvironmentFile=/etc/sdsupervise/{}.env"
    assert done.unit("one") == ["[Service]", environment.format("one"), limit, "UMask=0077", "User=nobody"]
    assert done.unit("two") == ["[Service]", environment.format("two"), limit, "UMask=0002", "User=games"]
    assert (done.env("one"), done.env("two")) == ('A="1"\nB="3"\n', 'A="1"\nB="2"\n')
    assert [done.toml(name)["directory"] for name in ("one", "two")] == ["/srv", "/"]


def test_processes_that_differ(tmp_path: Path) -> None:
    """Ports by %(process_num)s make an instance of each process; the offset counts."""
    done = program(
        tmp_path,
        "command=python3 web.py --port=80%(process_num)02d",
        "process_name=%(program_name)s_%(process_num)02d",
        "numprocs=2",
        "numprocs_start=5",
        "autostart=false",
    )
    assert done.names == ["app_05", "app_06"]
    assert [done.toml(name)["command"][-1] for name in done.names] == ["--port=8005", "--port=8006"]
    assert [each.named for each in done.found.instances] == [("app:app_05",), ("app:app_06",)]
    assert not any(each.autostart for each in done.found.instances)
    assert done.notes.count("app_05, app_06: autostart was false") == 1
    other = program(
        tmp_path, "environment=N=%(process_num)d", "process_name=%(process_num)d", "numprocs=2", "user=games"
    )
    assert other.names == ["app-0", "app-1"]
    assert other.env("app-1") == 'N="1"\n'


def test_groups_and_priorities(tmp_path: Path) -> None:
    """A group is a target of its members; what has a lower priority starts before."""
    done = Import(
        tmp_path,
        "[program:web]\ncommand=run\nautorestart=true\n[program:queue]\ncommand=run\nautostart=no\nautorestart=true\n"
        "[program:db]\ncommand=run\npriority=1\nautorestart=true\n[group:shop]\nprograms=web, queue\npriority=500\n",
    )
    assert done.unit("db") == []
    assert done.files["/etc/systemd/system/sdsupervise-shop.target"] == (
        "[Unit]\nDescription=Group shop, supervised\nWants=sdsupervise@web.service\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
    for name in ("web", "queue"):
        assert done.unit(name) == ["[Unit]", "PartOf=sdsupervise-shop.target", "After=sdsupervise@db.service"]
    assert [each.named for each in done.found.instances] == [("shop:web",), ("shop:queue",), ("db",)]


def test_variables_of_python(tmp_path: Path) -> None:
    """What the supervisor's own Python would obey is set for the command alone; so is what systemd refuses."""
    done = program(tmp_path, "environment=PYTHONPATH=/srv/lib,LD_PRELOAD=x.so,A-B=1,C=2", "user=nobody")
    assert done.toml()["command"] == [
        *("/usr/bin/env", "PYTHONPATH=/srv/lib", "LD_PRELOAD=x.so", "A-B=1", "/bin/sleep", "1000"),
    ]
    assert done.env() == 'C="2"\n'
    assert "PYTHONPATH, LD_PRELOAD, A-B: set for the command alone" in done.notes


def test_restarts(tmp_path: Path) -> None:
    """What supervisord leaves stopped after an expected exit status stays down here, too, and has not failed."""
    usual = program(tmp_path)
    assert usual.toml()["restart_prevent"] == [0]
    assert "RestartPreventExitStatus=0" in usual.unit() and "SuccessExitStatus" not in "\n".join(usual.unit())
    assert "after exit status 0 the service ends" in usual.notes
    listed = program(tmp_path, "autorestart=unexpected", "exitcodes=3, 0,143,3")
    assert listed.toml()["restart_prevent"] == [0, 3, 143]
    assert {"RestartPreventExitStatus=0 3 143", "SuccessExitStatus=3 143"} < set(listed.unit())
    for none in (program(tmp_path, "autorestart=true", "exitcodes=3"), program(tmp_path, "exitcodes=")):
        assert "restart_prevent" not in none.toml() and not none.unit()


def test_restarts_that_cannot_be_said(tmp_path: Path) -> None:
    """A pool ends as a whole, and a supervisor that fails has statuses of its own."""
    pool = program(tmp_path, "numprocs=2", "process_name=%(process_num)s", "exitcodes=0,2")
    assert "restart_prevent" not in pool.toml() and not pool.unit()
    assert "after exit status 0 or 2, supervisord leaves this one process stopped; here it starts again" in pool.notes
    ours = program(tmp_path, "exitcodes=2,75")
    assert ours.toml()["restart_prevent"] == [2]
    assert "after exit status 75 it starts again: a supervisor that fails exits with it, too" in ours.notes
    assert "restart_prevent" not in program(tmp_path, "exitcodes=75").toml()


def test_path(tmp_path: Path) -> None:
    """The PATH around supervisord is taken for that of a service, which is said; or for what --env says."""
    done = program(tmp_path, 'environment=PATH="/srv/bin:%(ENV_PATH)s"')
    assert done.env() == 'PATH="/srv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"\n'
    assert "%(ENV_PATH)s in environment becomes /usr/local/sbin:" in done.notes
    said = program(tmp_path, 'environment=PATH="/srv/bin:%(ENV_PATH)s"', variables={"PATH": "/bin"})
    assert said.env() == 'PATH="/srv/bin:/bin"\n'
    assert "%(ENV_PATH)s" not in said.notes


def test_known_programs(tmp_path: Path) -> None:
    """A server whose sockets the supervisor can keep is reloaded in overlap, as under `unit wrap`."""
    done = program(
        tmp_path,
        "command=/srv/venv/bin/gunicorn shop.wsgi --bind 127.0.0.1:8000 -w 3",
        "environment=PYTHONPATH=/srv",
        "stopsignal=QUIT",
    )
    assert done.toml() == {
        "command": [
            *("/usr/bin/env", "PYTHONPATH=/srv", "/srv/venv/bin/gunicorn", "--preload", "shop.wsgi", "-w", "3"),
        ],
        "listen": {"http": "127.0.0.1:8000"},
        "handover": "overlap",
        "stop_signal": "SIGQUIT",
        "stop_timeout": 40,
        "delay_before_respawn": 1,
        "restart_prevent": [0],
    }
    assert "--bind became listen" in done.notes
    odd = program(tmp_path, "command=/srv/venv/bin/gunicorn shop.wsgi --bind myhost:8000")
    assert odd.toml()["command"] == ["/srv/venv/bin/gunicorn", "shop.wsgi", "--bind", "myhost:8000"]
    assert odd.toml()["ready_after"] == 1
    assert "a reload stops it and starts it again: gunicorn listens on myhost:8000, which" in odd.notes


def test_fastcgi(tmp_path: Path) -> None:
    """A socket at descriptor 0 becomes a listener, with its owner, mode and backlog; uvicorn has it in overlap."""
    done = Import(
        tmp_path,
        "[fcgi-program:php]\ncommand=php-cgi -q\nsocket=unix:///run/php.sock\nsocket_owner=games:adm\nuser=nobody\n"
        "socket_backlog=64\n"
        "[fcgi-program:uv]\ncommand=uvicorn --fd 0 app:app\nsocket=tcp://localhost:8000\nnumprocs=4\n"
        "process_name=uv-%(process_num)d\n",
    )
    php, uv = done.toml("php"), done.toml("uv")
    entry = {"address": "/run/php.sock", "mode": "0700", "user": "games", "group": "adm", "backlog": 64}
    assert php["listen"] == {"fcgi": entry}
    assert php["command"] == ["/bin/sh", "-c", 'exec "$@" <&{fcgi} {fcgi}<&-', "sh", "php-cgi", "-q"]
    assert uv["command"] == ["uvicorn", "--fd", "{fcgi}", "app:app"]
    assert (uv["workers"], uv["handover"]) == (4, "overlap")
    assert uv["listen"] == {"fcgi": {"address": "127.0.0.1:8000", "lanes": True}}


def test_variables_of_a_service_that_starts_as_root(tmp_path: Path) -> None:
    """Root does not get those by which it would read files of the user that the service becomes."""
    lines = ("[fcgi-program:app]", "command=php-cgi -q", "socket=unix:///run/php.sock", "user=nobody")
    done = Import(tmp_path, "\n".join([*lines, 'environment=HOME="/home/nobody",GCONV_PATH="/x",STAGE="prod"']))
    assert not [line for line in done.unit() if line.startswith("User=")]
    assert done.env() == 'STAGE="prod"\n'
    assert done.toml()["command"][:4] == ["/usr/bin/env", "HOME=/home/nobody", "GCONV_PATH=/x", "/bin/sh"]
    assert "HOME, GCONV_PATH: set for the command alone" in done.notes
    plain = program(tmp_path, "user=nobody", "environment=HOME=/home/nobody")
    assert "User=nobody" in plain.unit() and plain.env() == 'HOME="/home/nobody"\n'


def test_what_stops_it_there(tmp_path: Path) -> None:
    """The command to paste has each name as one word, whatever is in it."""
    done = Import(
        tmp_path, "[program:x;id]\ncommand=run\n[program:y]\ncommand=run\nprocess_name=$(id)\n[group:g]\nprograms=y\n"
    )
    (command, *_) = importing._remains(done.found, done.names, [], "/")
    assert shlex.split(command) == [
        "supervisorctl",
        "stop",
        *(name for each in done.found.instances for name in each.named),
    ]
    assert "'g:$(id)'" in command and "'x;id'" in command


def test_fastcgi_by_numbers(tmp_path: Path) -> None:
    """Processes that share a socket and have a number each are workers, which have it in their environment."""
    text = (
        "[fcgi-program:asgi]\ncommand=daphne -u '/run/my app/%(process_num)d.sock' --fd 0 app:app\n"
        "socket=tcp://127.0.0.1:8000\nnumprocs=3\nprocess_name=asgi%(process_num)d\n"
    )
    done = Import(tmp_path, text)
    assert done.toml("asgi")["workers"] == 3
    assert done.toml("asgi")["command"] == [
        *("/bin/sh", "-c"),
        "exec daphne -u '/run/my app/'\"$SDSUPERVISE_WORKER_INDEX\".sock --fd 0 app:app <&{fcgi} {fcgi}<&-",
    ]
    later = Import(tmp_path, f"{text}numprocs_start=5\n")
    assert 'app/\'"$((SDSUPERVISE_WORKER_INDEX + 5))".sock' in later.toml("asgi")["command"][2]


def test_nothing_is_dropped_in_silence(tmp_path: Path) -> None:
    """Whatever has no counterpart is named, with its line."""
    done = Import(
        tmp_path,
        "[supervisord]\nlogfile=/tmp/log\n[inet_http_server]\nport=9001\n[eventlistener:mem]\ncommand=memmon\n"
        "[programs:x]\n[program:app]\ncommand=run\nstartretries=9\nstdout_events_enabled=true\nserverurl=http://x\n"
        "stdout_logfile=NONE\nautorestrat=true\nexitcodes=0,2\n",
    )
    for note in (
        "supervisord.conf:1: logfile: not imported, because this is about supervisord itself",
        "supervisord.conf:3: [inet_http_server] is not imported",
        "supervisord.conf:5: [eventlistener:mem] is not imported",
        "supervisord.conf:7: [programs:x] is no section of supervisord",
        "startretries was 9",
        "stdout_events_enabled has no counterpart",
        "serverurl has no counterpart",
        "its output was thrown away, and goes to the journal now",
        "supervisord.conf:14: autorestrat is no option of supervisord, which ignores it; did it mean autorestart?",
        "autorestart is unexpected: after exit status 0 or 2 the service ends, also within startsecs",
        "it runs as root",
    ):
        assert note in done.notes, note


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("autorestart=false", ":3: autorestart is false, but an instance always runs"),
        ("autorestart=maybe", ":3: autorestart is 'maybe'; it must be true, false or unexpected."),
        ("exitcodes=0,256", ":3: exitcodes is '0,256'; it must be a list of exit statuses from 0 to 255, with commas."),
        ("numprocs=2", ":1: numprocs is 2, so process_name must have %(process_num)s in it"),
        ("numprocs=0", ":3: numprocs is '0'; it must be a whole number from 1."),
        ("numprocs=99999\nprocess_name=%(process_num)s", ":3: numprocs is 99999; 10000 are possible."),
        ("environment=A=%(process_num)s\nnumprocs=501\nprocess_name=%(process_num)s", "more than 500 instances"),
        ("startsecs=-1", ":3: startsecs is '-1'; it must be a whole number from 0."),
        ("startsecs=" + "9" * 5000, ":3: startsecs is '999"),
        ("stopwaitsecs=99999999", ":1: stop_timeout must be a number of seconds from 0 to 31622400."),
        ("stopsignal=NONE", ":3: stopsignal is 'NONE'; it must be the name or the number of a signal."),
        ("stopsignal=ABRT", ":3: stopsignal is ABRT; a command can be stopped by TERM, INT,"),
        ("stopasgroup=1\nkillasgroup=0", ":4: supervisord refuses killasgroup=false with stopasgroup=true."),
        ("umask=9", ":3: umask is '9'; it must be an octal number such as 022."),
        ("directory=srv", ":3: directory is 'srv', relative to where supervisord was started"),
        ("environment=A", ':3: environment must be KEY="value",KEY2="value": there is no pair at \'A\'.'),
        ("environment=A='x ; y'", "a quotation mark is not closed. supervisord cuts a value at a blank and a ';'"),
        ("environment=" + "\n ,".join(f"A{number}=1" for number in range(1001)), "these are more than 1000 variables."),
        ("command=", ":2: command is empty."),
        ("command=sh -c 'a ; b'", "a quotation mark is not closed. supervisord cuts a value at a blank and a ';'"),
        ("command=x %(nothing)s", ":2: %(nothing)s is not known to supervisord."),
        ("command=x %(program_nam)s", "did you mean %(program_name)s?"),
        ("command=x %(ENV_SECRET)s", ":2: %(ENV_SECRET)s is a variable of the environment in which supervisord runs"),
        ("command=x 5%", ":2: 'x 5%' has a % that supervisord refuses; write %%."),
        ("command=x %(program_name)99999999s", ":2: 'x %(program_name)99999999s' cannot be imported, because it"),
        ("command=x %(program_name).100s", "because it becomes too long; shorten it."),
        ("command=x" + " %(program_name)99s" * 1400, "because it becomes too long; shorten it."),
        ("command=" + "\n ".join(["x" * 60_000] * 3), "because it becomes too long; shorten it."),
        ("process_name=%(program_name)99s%(program_name)99s%(program_name)99s", "because it becomes too long"),
        ("command=x %(program_name)d", "%(program_name)d in 'x %(program_name)d' does not fit"),
        ("command=" + "\n ".join(["x" * 40_000] * 2), "its command is too long for the file of an instance."),
    ],
)
def test_refused(tmp_path: Path, lines: str, sentence: str) -> None:
    """What cannot become an instance is one sentence with its line; the other programs become instances."""
    text = (
        "[program:app]\n" + ("" if "command=" in lines else "command=run\n") + lines + "\n[program:good]\ncommand=run\n"
    )
    file = tmp_path / "supervisord.conf"
    file.write_text(text)
    found = supervisord.found([str(file)], {})
    refused = list(found.refused)
    for instance in found.instances:
        try:
            list(texts.files_of(instance))
        except CannotImport as error:
            refused.append(str(error))
    assert len(refused) == 1 and sentence in refused[0], refused
    assert str(file) in refused[0] and "good" in [instance.name for instance in found.instances]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[program:a b]\ncommand=x\n", "must name a program, without ' ', ':', '/'."),
        ("[program:]\ncommand=x\n", "must name a program"),
        ("[program:x]\nuser=me\n", "has no command."),
        ("[program:" + "x" * 80 + "]\ncommand=x\n", "an instance cannot be called"),
        ("[program:a+b]\ncommand=x\n[program:a-b]\ncommand=x\n", "an instance is called a-b already, by"),
        ("[program:a]\ncommand=x\n[group:g]\nprograms=a\n[group:h]\nprograms=a\n", "is in 2 groups"),
        ("[program:ab]\ncommand=x\n[group:g]\nprograms=abc\n", "there is no [program:abc]; did you mean ab?"),
        ("[program:a]\ncommand=x\n[group:g h]\nprograms=a\n[group:g-h]\nprograms=a\n", "sdsupervise-g-h.target, too"),
        ("[fcgi-program:a]\ncommand=x\n", "has no socket."),
        ("[fcgi-program:a]\ncommand=x\nsocket=tcp://host:1\n", "a listener's address is a number."),
        ("[fcgi-program:a]\ncommand=x\nsocket=udp://1\n", "it must be tcp://HOST:PORT or unix:///PATH."),
        (
            "[fcgi-program:a]\ncommand=x %(process_num)02d\nsocket=tcp://1.2.3.4:1\nnumprocs=2\nprocess_name=%(process_num)s\n",
            "its processes share one socket",
        ),
    ],
)
def test_refused_sections(tmp_path: Path, text: str, sentence: str) -> None:
    """What a section's name, its group or its socket rules out."""
    file = tmp_path / "supervisord.conf"
    file.write_text(text)
    assert [sentence in each for each in supervisord.found([str(file)], {}).refused] == [True]


def test_many_sections(tmp_path: Path) -> None:
    """The nearest word is not searched among very many; what is refused counts among the instances."""
    others = "".join(f"[x:y{number}]\n" for number in range(500))
    (refused, *_) = Import(tmp_path, f"[program:ab]\ncommand=x\n[group:g]\nprograms=abc\n{others}").found.refused
    assert refused.endswith("there is no [program:abc].")
    assert nearest("ab" * 100, ["ab" * 101]) and not nearest("ab" * 101, ["ab" * 100])
    with pytest.raises(CannotImport, match=r"supervisord.conf:501: these would be more than 500 instances"):
        Import(tmp_path, "".join(f"[program:{number}]\n" for number in range(600)))


def test_includes(tmp_path: Path) -> None:
    """Included files are found from the file that names them, with their own %(here)s; theirs are ignored."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.conf").write_text("[program:a]\ncommand=%(here)s/a\n[include]\nfiles=*\n")
    (tmp_path / "conf.d" / "b.conf").write_text("[program:b]\ncommand=b\n[program:a]\nuser=nobody\n")
    done = Import(tmp_path, "[include]\nfiles = conf.d/*.conf  none/*.ini\n[program:c]\ncommand=%(here)s/c\n")
    assert sorted(done.names) == ["a", "b", "c"]
    assert done.toml("a")["command"] == [f"{tmp_path}/conf.d/a"]
    assert done.toml("c")["command"] == [f"{tmp_path}/c"]
    assert done.toml("a")["user"] == "nobody"
    assert f"supervisord.conf:2: there is no file {tmp_path}/none/*.ini." in done.notes
    assert "a.conf:4: supervisord ignores [include] in a file that is itself included." in done.notes
    assert "b.conf:3: [program:a] is there twice; its options are joined" in done.notes


def test_too_many_includes(tmp_path: Path) -> None:
    """The number of files is bounded."""
    for number in range(501):
        (tmp_path / f"{number}.ini").touch()
    with pytest.raises(CannotImport, match=r"supervisord.conf:2: these are more than 500 files"):
        Import(tmp_path, "[include]\nfiles=*.ini\n")


def test_patterns_of_includes(tmp_path: Path) -> None:
    """They find what glob.glob() finds: no hidden file without a dot, directories and links on the way."""
    for name in ("a/x.conf", "b/x.conf", "b/.x.conf", ".c/x.conf", "a/[x].conf", "x.conf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "d").symlink_to("a")
    (tmp_path / "a" / "gone.conf").symlink_to("nothing")
    for pattern in ("*/x.conf", "*/*.conf", "**/x.conf", ".*/*", "*/.*", "[ab]/?.conf", "[!a]/[[]x].conf", "a/../*/x*",
                    "a", "none/*", "*/none", "a//x.conf", "*/../x.conf", "x.conf/*", "*/gone*"):  # fmt: skip
        path = f"{tmp_path}/{pattern}"
        found = sorted(supervisord_files._Search().files(path))
        assert [os.path.normpath(each) for each in found] == sorted(map(os.path.normpath, glob.glob(path))), pattern


def test_a_search_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of patterns is, and that of the files among which they search."""
    with pytest.raises(CannotImport, match=r"supervisord.conf:2: these are more than 100 patterns; write fewer"):
        Import(tmp_path, "[include]\nfiles=" + "*.ini " * 101)
    monkeypatch.setattr(supervisord_files, "_MOST_SEEN", 200)
    for number in range(10):
        (tmp_path / f"{number}").mkdir()
        for other in range(10):
            (tmp_path / f"{number}" / f"{other}").touch()
    assert Import(tmp_path, "[program:a]\ncommand=x\n[include]\nfiles=*/*.ini\n").names == ["a"]
    for patterns in ("*/*.ini *.ini */*.ini", "*/../*/*.ini"):
        with pytest.raises(CannotImport, match=r"supervisord.conf:2: .*a search among more than 200 files"):
            Import(tmp_path, f"[include]\nfiles={patterns}\n")


def test_each_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it includes and what it says come from the same text."""
    read: list[str] = []

    def text_of(file: str) -> str:
        read.append(file)
        return ini.text_of(file)

    monkeypatch.setattr(supervisord_files, "text_of", text_of)
    (tmp_path / "a.ini").write_text("[program:a]\ncommand=x\n")
    assert Import(tmp_path, "[include]\nfiles=*.ini\n").names == ["a"]
    assert read == [f"{tmp_path}/supervisord.conf", f"{tmp_path}/a.ini"]


def test_files_without_programs(tmp_path: Path) -> None:
    """A file with nothing to import, and one that is no INI file."""
    with pytest.raises(CannotImport, match=r"there is no \[program:NAME\]\."):
        Import(tmp_path, "[supervisord]\n")
    with pytest.raises(BadFile, match=r"supervisord.conf:1: "):
        Import(tmp_path, "hello\n")


def test_a_name_that_is_changed(tmp_path: Path) -> None:
    """A name that systemd would have to escape becomes another, which is said."""
    done = Import(tmp_path, "[program:a@b]\ncommand=x\n")
    assert done.names == ["a-b"] and "a@b is called a-b here" in done.notes


def test_many_processes_that_do_not_differ(tmp_path: Path) -> None:
    """They are workers of one instance, up to the most that there may be."""
    done = program(tmp_path, "numprocs=10000", "process_name=%(process_num)s", 'environment=A="' + "x" * 60_000 + '"')
    assert done.toml()["workers"] == 10_000


def test_names_of_processes(tmp_path: Path) -> None:
    """Each has the variables of its program, also where they do not differ."""
    done = program(tmp_path, "numprocs=2", "process_name=%(ENV_A)s%(process_num)d", "environment=A=x", name="x")
    assert [each.named for each in done.found.instances] == [("x:*",)]
    grouped = Import(tmp_path, done.file.read_text() + "\n[group:g]\nprograms=x\n")
    assert [each.named for each in grouped.found.instances] == [("g:x0", "g:x1")]


def test_a_prefix(tmp_path: Path) -> None:
    """Names begin with it."""
    assert Import(tmp_path, "[program:web]\ncommand=x\n", prefix="shop-").names == ["shop-web"]
