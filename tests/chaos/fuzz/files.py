"""Files of instances and of units, and what systemd's tools print."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from sdsupervise.checks import dry_run
from sdsupervise.errors import CannotWrap, ConfigError, UnitUnavailable, UsageError
from sdsupervise.input.printable import printable
from sdsupervise.instances import instance_file
from sdsupervise.instances.example import text as example
from sdsupervise.settings.settings import check_settings
from sdsupervise.systemd import manager
from sdsupervise.unitfiles import host, text, words
from sdsupervise.unitfiles.fit import fit
from sdsupervise.unitfiles.lint import lint
from sdsupervise.unitfiles.subject import Host
from sdsupervise.unitfiles.wrap import wrap

from .chance import TEXTS, Chance, Token
from .surface import Surface

_PIECES = [str(each).encode(errors="surrogateescape") for each in TEXTS if not isinstance(each, Token)]

# -------------------------------------------------------------------------------------------------- instances

_KEYS = [line.lstrip("# ").encode() for line in example().splitlines() if " = " in line and not line.startswith("# #")]
_OF_TOML = [
    *rb"""service = "web:Web"
command = ["true"]
directory = "/"
user = "root"
user = 0
user = "nobody-of-this-name"
[listen]
http = "127.0.0.1:8000"
http = 8000
listen = { a = "/run/x", b = { address = "@x", mode = 0o7 } }
listen.x = { address = "/run/x", mode = "777" }
listen.x = { address = "/run/x", mode = "777777777777777" }
listen.y = { address = "/run/x", mode = 0o7777777777777777777777777 }
workers = nan
stop_timeout = inf
stop_timeout = -nan
max_memory = '5M'
[[x]]
when = 1979-05-27 07:32:00
workers = 1979-05-27
"" = ""
listen = [1]
listen = 7
before_commit = []
notify_command = ["\u0000", "\u202e"]
""".splitlines(),
    *('user = "²"'.encode(), "max_memory = '5٣M'".encode(), 'user = "١"'.encode(), b"# \xff"),
    *('a = "\u202e\u200b"'.encode(), 'listen."\u202e" = 7'.encode()),
]
_LONG_TOML = (
    *(
        b'listen.x = { address = "/run/x", mode = "' + b"7" * 5000 + b'" }',
        b"listen.y = { address = '/x', mode = 0o" + b"7" * 5000 + b" }",
    ),
    *(b"workers = 9" + b"9" * 4400, b"workers = 0x" + b"f" * 4000, b"x = " + b"[" * 900 + b"]" * 900),
    *(b"a." * 1500 + b"b = 1", b"[" + b"a." * 700 + b"b]", b"x = " + b"{a = " * 400 + b"}" * 400, b"#" + b"x" * 70_000),
)


class InstanceSurface(Surface):
    """The file of an instance."""

    name = "instance"
    declared = (ConfigError, UsageError)

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self._directory = tempfile.TemporaryDirectory()
        self._path = Path(self._directory.name) / "web.toml"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT)

    def close(self) -> None:
        os.close(self._file)
        self._directory.cleanup()

    def make(self) -> object:
        chance = self.chance
        lines = [chance.choice(_KEYS if chance.one_in(2) else _OF_TOML) for _ in range(chance.randrange(1, 6))]
        if chance.one_in(60):
            lines.insert(chance.randrange(len(lines)), chance.choice(_LONG_TOML))
        data = chance.choice((b"\n", b"\n", b"\r\n")).join(lines) + b"\n"
        return data if chance.one_in(4) else chance.bytes(data, [*_OF_TOML, *_PIECES, b'"', b"'''", b"=", b".", b"\n["])

    def feed(self, given: object) -> None:
        assert isinstance(given, bytes)
        os.pwrite(self._file, given, 0)
        os.truncate(self._file, len(given))
        try:
            instance_file.lines(str(self._path))
            read = instance_file.read(str(self._path))
            fit(read, check_settings("it", {**read.settings, "listen": read.listen}))
        except ConfigError as error:
            shown = str(error)
            assert printable(shown) == shown, shown
            raise


# ------------------------------------------------------------------------------------------------------- units

_SETTINGS = [
    *rb"""[Unit]
[Service]
[Install]
[X
Type=notify
Type=forking
NotifyAccess=main
PIDFile=/x
ExecStart=/usr/bin/sdsupervise run --config /etc/sdsupervise/x.toml
ExecReload=/usr/bin/sdsupervise reload
ExecStart=/srv/venv/bin/gunicorn --workers 4 --bind 127.0.0.1:8000 app.wsgi
ExecStart=/srv/venv/bin/gunicorn -c /dev/zero --graceful-timeout 99999999999999999999 app.wsgi
Environment="GUNICORN_CMD_ARGS=--bind '" PORT=x
ExecStart=
ExecStart=-@!+:
ExecStart=/usr/bin/uvicorn --host ::1 --port 80 a:b
ExecStart=/usr/bin/python3 -m sdsupervise run -- true
ExecStart=/usr/sbin/haproxy -Ws -f /etc/haproxy/haproxy.cfg -p /run/haproxy.pid
ExecStart=celery -A x worker
ExecStart="/a b" \x41 \u2028 \U0010ffff \101 "unclosed
ExecStart=true \; false ; ; true
Environment=A=1
TimeoutStopSec=1min 30s
TimeoutStopSec=infinity
WatchdogSec=1e9
User=www
KillMode=mixed
KillSignal=SIGQUIT
RuntimeDirectory=sdsupervise/%N a b
FileDescriptorStoreMax=4
DynamicUser=yes
RestrictAddressFamilies=~AF_UNIX AF_INET
# /etc/systemd/system/app.service
\
#
a\
 b
""".splitlines(),
    *("FileDescriptorStoreMax=²".encode(), "LimitNOFILE=³".encode(), "TimeoutStartSec=٣".encode()),
]
_LONG_SETTINGS = (
    *(b"TimeoutSec=" + b"9" * 400, b"TimeoutStopSec=" + b"1s " * 1000, b"FileDescriptorStoreMax=" + b"9" * 5000),
    *(b"ExecStart=" + b"a " * 2000, b'ExecStart="' + b"\\" * 3000, b"ExecStart=" + b"a\\\n" * 1000, b"x" * 60_000),
)


class _Unit(NamedTuple):
    data: bytes
    listen: list[str]
    handover: str


class UnitSurface(Surface):
    """The text of a unit with its drop-ins."""

    name = "unit"
    declared = (CannotWrap, UnitUnavailable)

    def make(self) -> object:
        chance = self.chance
        lines = [b"[Service]", *(chance.choice(_SETTINGS) for _ in range(chance.randrange(1, 9)))]
        if chance.one_in(60):
            lines.append(chance.choice(_LONG_SETTINGS))
        data = b"\n".join(lines)
        data = data if chance.one_in(4) else chance.bytes(data, [*_SETTINGS, *_PIECES, b"%", b"$", b'"', b"'", b"="])
        listen = ["http=127.0.0.1:8000"] if chance.one_in(4) else [chance.text("http=8000")] if chance.one_in(8) else []
        return _Unit(data, listen, chance.choice(("", "", "overlap", "exclusive")))

    def feed(self, given: object) -> None:
        assert isinstance(given, _Unit)
        unit = text.parse("app@1.service", given.data.decode(errors="surrogateescape"))
        for finding in lint(unit, None, Host(252), user=None):
            assert str(finding)
        for assignment in unit.assignments:
            assert words.split(words.joined(words.split(assignment.value))) == words.split(assignment.value)
        drop_in = wrap(unit, listen=given.listen, handover=given.handover)
        text.parse("app@1.service", drop_in.file)


# ----------------------------------------------------------------------------------------------------- systemd

_PRINTED = (
    *(
        b"systemd 252 (252.39-1~deb12u1)\n+PAM +AUDIT",
        b"systemd 257.9-1~deb13u1",
        b"systemd " + b"9" * 5000,
        b"=\n",
        b"[",
    ),
    *(
        b"Id=web.service\nExecStart={ path=/x ; argv[]=/usr/bin/sdsupervise run web ; }",
        b"Id=\n\nId",
        b"Id=a\nId=b\n\n",
    ),
    b"Id=sdsupervise@web.service\nActiveState=failed\nResult=exit-code\nStatusText=\x1b[2J\xe2\x80\xae",
    *(
        b"sdsupervise@web.service loaded active running x",
        b"  \n\n",
        b"\xe2\x97\x8f x.service not-found",
        b"@.service",
        b"a@.x",
    ),
    *(b"TriggeredBy=web.socket x.timer", b"RuntimeDirectory=a b\nId=x.service", b"[Service]\nType=Service\nExecStart="),
    *(
        b"# /etc/systemd/system/web.service\n[Service]\nExecStart=true",
        b"# Unit web.service is masked.",
        b"No files found",
    ),
    *("systemd ²".encode(), b"\xff", b"Environment=A=1 'B=2 3' C='", b"PATH=/usr/bin:\0", b"ActiveState=active"),
)


class SystemdSurface(Surface):
    """What systemctl and systemd print when they are asked."""

    name = "systemd"
    declared = (UnitUnavailable,)

    def make(self) -> object:
        chance = self.chance
        data = chance.choice((b"\n", b"\n\n")).join(chance.choice(_PRINTED) for _ in range(chance.randrange(1, 6)))
        return data if chance.one_in(4) else chance.bytes(data, [*_PRINTED, *_PIECES, b"\n\n", b"="])

    def feed(self, given: object) -> None:
        assert isinstance(given, bytes)
        printed = given.decode(*manager.DECODED)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess((), 0, printed, printed))
            properties = dry_run._properties("sdsupervise@web.service")
            assert isinstance(dry_run.RunContext("x", None, None, "/", properties).environment, dict)
            assert manager.properties("x", "ActiveState").keys() == {"ActiveState"}
            assert host.version() < 1_000_000
            host._known()
            host._runtime_directories()
            host.our_units()
            host.sockets_of("web.service")
            shown = host.failures(["sdsupervise@web.service"])
            assert all(printable(sentence) == sentence for sentence in shown.values())
            lint(host.read("web"), None, host.facts())
