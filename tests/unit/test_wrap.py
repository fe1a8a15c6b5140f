"""What `unit wrap` makes of a unit: by its text alone, without a machine."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from sdsupervise.errors import CannotWrap
from sdsupervise.unitfiles import rotation, switch, text, words
from sdsupervise.unitfiles.drop_in import DropIn, with_drop_in
from sdsupervise.unitfiles.lint import lint
from sdsupervise.unitfiles.wrap import wrap

GUNICORN = """\
[Unit]
Description=gunicorn
[Service]
Type=notify
User=www-data
Environment=DJANGO_SETTINGS_MODULE=app.settings
WorkingDirectory=/srv/app/current
ExecStart=/srv/app/current/venv/bin/gunicorn --workers 4 --bind 127.0.0.1:8000 app.wsgi
ExecReload=/bin/kill -s HUP $MAINPID
TimeoutStopSec=5
"""

# The text that FIRST-MINUTES shows, and what has been found out since.
WRAPPED = """\
# gunicorn.service.d/zz-sdsupervise.conf
[Service]
Type=notify
NotifyAccess=main
KillMode=mixed
Restart=always
RestartPreventExitStatus=78
SuccessExitStatus=SIGTERM
TimeoutStopSec=60
TimeoutStartSec=120
WatchdogSec=30
OOMPolicy=continue
RuntimeDirectory=sdsupervise/%N
RuntimeDirectoryPreserve=restart
FileDescriptorStoreMax=64
SyslogIdentifier=gunicorn
ExecStart=
ExecStart=/usr/bin/sdsupervise run --handover overlap --directory /srv/app/current --listen http=127.0.0.1:8000 \
--stop-timeout 40 --start-timeout 90 --reload-timeout 90 -- \
/srv/app/current/venv/bin/gunicorn --preload --workers 4 app.wsgi
ExecReload=
ExecReload=/usr/bin/sdsupervise reload
"""


def wrapped(*lines: str, given: Sequence[str] = (), listen: Sequence[str] = (), handover: str = "") -> DropIn:
    """The drop-in for a unit with these lines of [Service]."""
    unit = text.parse("app.service", "\n".join(["[Service]", *lines]))
    drop_in = wrap(unit, given=given, listen=listen, handover=handover)
    merged = text.parse("app.service", "\n".join(["[Service]", *lines, drop_in.file]))
    assert lint(merged) == []
    return drop_in


def run(command: str, *lines: str, **how: Sequence[str]) -> str:
    """The ExecStart= that a unit with this one is given, from `run` on."""
    settings = wrapped(f"ExecStart={command}", *lines, **how).settings  # type: ignore[arg-type]
    found = next(line for line in settings if line.startswith("ExecStart=/")).partition(" run ")[2]
    return found.replace("--start-timeout 90 --reload-timeout 90 ", "")  # systemd's default


def test_a_gunicorn_unit() -> None:
    """The drop-in of a typical unit, word for word, and a note for each thing it changes."""
    drop_in = wrap(text.parse("gunicorn.service", GUNICORN))
    assert drop_in.text == WRAPPED
    assert drop_in.path == "/etc/systemd/system/gunicorn.service.d/zz-sdsupervise.conf"
    subjects = [note.partition(" ")[0] for note in drop_in.notes]
    assert subjects == ["--bind", "--preload", "the", "Restart", "TimeoutStopSec", "ExecReload", "systemctl", "the"]
    assert all(f"# note: {note}\n" in drop_in.file for note in drop_in.notes)


PRELOADED = "--handover overlap --listen http=127.0.0.1:8000 --stop-timeout 40 -- gunicorn --preload"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        # gunicorn
        ("gunicorn app:wsgi", f"{PRELOADED} app:wsgi"),
        ("gunicorn -b :8000 app:wsgi", f"{PRELOADED} app:wsgi".replace("127.0.0.1", "0.0.0.0")),
        ("gunicorn --preload -b127.0.0.1:8000 a", f"{PRELOADED} a"),
        ("gunicorn --bind=localhost:8000 --daemon -p /run/x.pid a", f"{PRELOADED} a"),
        ("gunicorn -b [::1]:80 a", f"{PRELOADED} a".replace("127.0.0.1:8000", "[::1]:80")),
        ("gunicorn -b unix:/run/app/x.sock a", f"{PRELOADED} a".replace("127.0.0.1:8000", "/run/app/x.sock")),
        (
            "gunicorn -b 127.0.0.1:1 -b unix:/run/x --graceful-timeout 120 a",
            "--handover overlap --listen http=127.0.0.1:1 --listen http2=/run/x --stop-timeout 130 -- "
            "gunicorn --preload --graceful-timeout 120 a",
        ),
        (
            "gunicorn --chdir /srv/x -k uvicorn.workers.UvicornWorker a",
            "--handover overlap --directory /srv/x --listen http=127.0.0.1:8000,lanes --stop-timeout 40 -- "
            "gunicorn --preload -k uvicorn.workers.UvicornWorker a",
        ),
        (
            "/srv/venv/bin/python -m gunicorn a",
            "--handover overlap --listen http=127.0.0.1:8000 --stop-timeout 40 --name gunicorn -- "
            "/srv/venv/bin/python -m gunicorn --preload a",
        ),
        # uvicorn
        (
            "uvicorn --host 0.0.0.0 --port 80 --workers 4 app:app",
            "--handover overlap --listen http=0.0.0.0:80,lanes --workers 4 --ready-after 3 --stop-timeout 80 -- "
            "uvicorn --fd {http} app:app",
        ),
        (
            "uvicorn --uds /run/app/x.sock app:app",
            "--handover overlap --listen http=/run/app/x.sock --ready-after 3 --stop-timeout 80 -- "
            "uvicorn --fd {http} app:app",
        ),
        # hypercorn
        (
            "hypercorn -b 127.0.0.1:1 -w 2 --pid x app:app",
            "--handover overlap --listen http=127.0.0.1:1,lanes --workers 2 --ready-after 3 -- "
            "hypercorn --bind fd://{http} app:app",
        ),
        # celery
        (
            "celery -A app worker --detach --pidfile=/run/x.pid -c 2",
            "--handover overlap --ready-after 3 --stop-timeout 80 -- celery -A app worker -c 2",
        ),
        (
            "celery --app worker beat",
            "--handover exclusive --ready-after 3 --stop-timeout 80 -- celery --app worker beat",
        ),
        (
            "celery $OPTIONS -A beat worker",
            "--handover overlap --ready-after 3 --stop-timeout 80 -- celery $OPTIONS -A beat worker",
        ),
        (
            "celery -A app beat --workdir /srv/x",
            "--handover exclusive --directory /srv/x --ready-after 3 --stop-timeout 80 -- celery -A app beat",
        ),
        # haproxy
        (
            "/usr/sbin/haproxy -W -f /etc/x.cfg -p /run/x.pid",
            "--handover overlap --stop-signal SIGUSR1 --stop-timeout 80 -- /usr/sbin/haproxy -Ws -f /etc/x.cfg",
        ),
        # others
        (
            "/bin/any thing",
            "--handover exclusive --ready-after 3 --stop-timeout 80 --kill-mode group -- /bin/any thing",
        ),
        (
            "/bin/sh -c 'exec app $$X ${Y} {z} {{z}} %i'",
            "--handover exclusive --kill-mode group --ready-after 3 --stop-timeout 80 -- "
            '/bin/sh -c "exec app $$X ${Y} {{z}} {{{z}}} %i"',
        ),
    ],
)
def test_command_lines(command: str, expected: str) -> None:
    """Each program gets what it needs to lose no request, and keeps all else that it was told."""
    assert run(command) == expected


def test_what_is_told_goes_first() -> None:
    """--listen and --handover help where something cannot be seen."""
    with pytest.raises(CannotWrap, match="Cannot see where gunicorn listens"):
        run("gunicorn $OPTIONS a")
    assert "--listen web=127.0.0.1:1 " in run("gunicorn $OPTIONS a", listen=["web=127.0.0.1:1"])
    assert "--fd {web}" in run("uvicorn $OPTIONS a", listen=["web=127.0.0.1:1"])
    assert run("/bin/any", handover="overlap").startswith("--handover overlap ")
    assert "HTTP={http} haproxy" in run("haproxy -Ws -f x", listen=["http=127.0.0.1:1"])


@pytest.mark.parametrize(
    ("command", "variables", "expected"),
    [
        ("gunicorn a", {"GUNICORN_CMD_ARGS": "--bind=127.0.0.1:1 --workers=2"}, "127.0.0.1:1"),
        ("gunicorn a", {"PORT": "1"}, "0.0.0.0:1"),
        ("uvicorn a:a", {"UVICORN_HOST": "127.0.0.1", "UVICORN_PORT": "1"}, "127.0.0.1:1,lanes"),
        ("uvicorn a:a", {"UVICORN_UDS": "/run/x"}, "/run/x"),
    ],
)
def test_told_by_variables(command: str, variables: dict[str, str], expected: str) -> None:
    """Where a program listens may stand in a file of variables; where that cannot be read it has to be told."""
    unit = text.parse("a.service", f"[Service]\nEnvironmentFile=/etc/default/a\nExecStart={command}")
    assert f" --listen http={expected} " in wrap(unit, variables=variables).text
    with pytest.raises(CannotWrap, match="tell it with --listen"):
        wrap(unit, variables=None)


@pytest.mark.parametrize("end", ["\n", "\r", "\0"], ids=repr)
@pytest.mark.parametrize("name", ["WEB_CONCURRENCY", "UVICORN_HOST", "UVICORN_UDS", "GUNICORN_CMD_ARGS", "PORT"])
def test_a_variable_is_no_line_of_the_unit(name: str, end: str) -> None:
    """The service's user may write the file of variables; root writes the drop-in, and systemd does what it says."""
    value = f"2{end}[Service]{end}ExecStartPre=+/srv/evil{end}#"
    for program in ("uvicorn a:a", "gunicorn a", "hypercorn a", "celery -A a worker"):
        unit = text.parse("a.service", f"[Service]\nUser=a\nEnvironmentFile=/etc/default/a\nExecStart=/x/{program}")
        try:
            written = wrap(unit, variables={name: value}, listen=["http=127.0.0.1:1"]).file
        except CannotWrap:
            continue
        lines = re.split("[\n\r\0]", written)
        assert lines.count("[Service]") == 1 and not [line for line in lines if line.startswith("ExecStartPre")]


def test_gunicorn_s_own_file(tmp_path: Path) -> None:
    """What gunicorn.conf.py sets plainly is respected; what is computed has to be told."""
    where = f"WorkingDirectory={tmp_path}"
    (tmp_path / "gunicorn.conf.py").write_text("bind = ['127.0.0.1:1', 'unix:/run/x']\npreload_app = True\n")
    expected = f"--handover overlap --directory {tmp_path} --listen http=127.0.0.1:1 --listen http2=/run/x"
    assert run("gunicorn a", where) == f"{expected} --stop-timeout 40 -- gunicorn a"
    (tmp_path / "gunicorn.conf.py").write_text("import os\nbind = os.environ['X']\n")
    with pytest.raises(CannotWrap, match="Cannot see where gunicorn listens"):
        run("gunicorn a", where)
    for line in ("daemon = True", "pidfile = '/run/x'"):
        (tmp_path / "gunicorn.conf.py").write_text(line)
        with pytest.raises(CannotWrap, match="take it out"):
            run("gunicorn a", where)


def test_a_file_of_gunicorn_s_that_is_none(tmp_path: Path) -> None:
    """A file that never ends, that nobody writes to, or that would take Python apart, is one that cannot be seen."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "deep").write_text("bind = " + "[" * 3000 + "]" * 3000)
    (tmp_path / "minus").write_text("bind = " + "-" * 100_000 + "1")
    for file in (tmp_path / "fifo", tmp_path / "deep", tmp_path / "minus", Path("/dev/zero")):
        with pytest.raises(CannotWrap, match="Cannot see where gunicorn listens"):
            run(f"gunicorn -c {file} a")
    with pytest.raises(CannotWrap, match="GUNICORN_CMD_ARGS"):
        run("gunicorn a", 'Environment="GUNICORN_CMD_ARGS=--bind \'"')


def test_what_a_file_of_gunicorn_s_says_stays_a_text(tmp_path: Path) -> None:
    """The service's user may write it, and what it sets is the address, and nothing else: systemd replaces nothing in
    it, --listen takes no option from it, and no number is too long."""
    where = f"WorkingDirectory={tmp_path}"
    file = tmp_path / "gunicorn.conf.py"
    file.write_text("bind = 'unix:/run/%i/${HOME}/$x'\n")
    assert " --listen http=/run/%%i/$${HOME}/$$x " in run("gunicorn a", where)
    file.write_text("bind = '127.0.0.1:1,unix:/run/x'\n")  # as gunicorn reads it
    assert " --listen http=127.0.0.1:1 --listen http2=/run/x " in run("gunicorn a", where)
    for name in ("graceful_timeout", "worker_class"):
        file.write_text(f"{name} = 0x{'f' * 6000}\n")
        assert run("gunicorn a", where).endswith(" -- gunicorn --preload a")
    for value in ("'unix:/x,user=root,mode=0777'", "['unix:/x,user=root']", "'$x:80,user=root'", "[1, 'unix:/x']"):
        file.write_text(f"bind = {value}\n")
        with pytest.raises(CannotWrap):
            run("gunicorn a", where)
    for value in (f"[0x{'f' * 6000}]", r"'unix:/\ud800'", r"'unix:/x\ny'"):
        file.write_text(f"bind = {value}\n")
        with pytest.raises(CannotWrap, match="Cannot see where gunicorn listens"):
            run("gunicorn a", where)


@pytest.mark.parametrize(
    ("command", "name"), [("uvicorn a:a", "UVICORN_UDS"), ("gunicorn a", "GUNICORN_CMD_ARGS"), ("gunicorn a", "PORT")]
)
def test_what_a_variable_says_stays_a_text(command: str, name: str) -> None:
    """As above, of a file of variables. In Environment= systemd replaces specifiers, and no variables."""
    before = {"UVICORN_UDS": "/run/", "GUNICORN_CMD_ARGS": "-b unix:/run/"}.get(name, "")
    for said, in_file, in_unit in (("%i", "%%i", "%i"), ("${X}", "$${X}", "$${X}")):
        unit = text.parse("a.service", f"[Service]\nExecStart={command}")
        written = wrap(unit, variables={name: f"{before}{said}"}).text
        assert re.search(rf" --listen http=[^ ]*{re.escape(in_file)}[ ,]", written)
        unit = text.parse("a.service", f'[Service]\nEnvironment="{name}={before}{said}"\nExecStart={command}')
        assert re.search(rf" --listen http=[^ ]*[^%$]{re.escape(in_unit)}[ ,]", wrap(unit).text)
    unit = text.parse("a.service", f"[Service]\nExecStart={command}")
    with pytest.raises(CannotWrap, match=r"comma|no port"):
        wrap(unit, variables={name: f"{before}$x,user=root"})


@pytest.mark.parametrize("digits", ["²", "١", "9" * 5000, "-1"])
def test_digits_that_are_none(digits: str) -> None:
    """Only ASCII digits are a number to systemd, and to us."""
    assert "FileDescriptorStoreMax=64" in wrapped("ExecStart=/bin/a", f"FileDescriptorStoreMax={digits}").settings


@pytest.mark.parametrize("prefix", ["-", ":", "+", "!", "-+"])
def test_prefixes(prefix: str) -> None:
    """What systemd is told by a prefix holds for the supervisor too, and privileges for the reload as well."""
    settings = wrap(text.parse("a.service", f"[Service]\nExecStart={prefix}/bin/any")).settings
    assert f"ExecStart={prefix}/usr/bin/sdsupervise run" in settings[-3]
    assert settings[-1] == f"ExecReload={prefix.strip('-:')}/usr/bin/sdsupervise reload"


@pytest.mark.parametrize("line", ["User=games", "DynamicUser=yes", "Group=mail", "User=0", ""])
def test_whom_it_runs_as_stays(line: str) -> None:
    """A drop-in changes nobody's rights: it names no user, and the supervisor none either."""
    settings = wrapped("ExecStart=/bin/any x", *([line] if line else [])).settings
    assert not [each for each in settings if re.match(r"(User|Group|DynamicUser|SupplementaryGroups|Ambient)", each)]
    assert "--user" not in run("/bin/any x") and "--group" not in run("/bin/any x")


@pytest.mark.parametrize(
    ("lines", "setting", "note"),
    [
        (["Restart=no"], "Restart=always", "Restart was no"),
        (["PIDFile=/run/x.pid"], "PIDFile=", "PIDFile is removed"),
        (["PrivatePIDs=yes"], "PrivatePIDs=no", "PrivatePIDs was yes"),
        (["KillSignal=SIGQUIT"], "KillSignal=SIGTERM", "--stop-signal SIGQUIT"),
        (["ExecStop=/bin/stop it"], "ExecStop=", "ExecStop was /bin/stop it"),
        (["ExecStartPre=/bin/migrate"], "", "ExecStartPre runs at a start"),
        (["RestrictAddressFamilies=AF_INET"], "RestrictAddressFamilies=AF_UNIX", "AF_UNIX is allowed"),
        (["RestrictAddressFamilies=~AF_UNIX"], "RestrictAddressFamilies=AF_UNIX", "AF_UNIX is allowed"),
        (
            ["RuntimeDirectory=app"],
            "RuntimeDirectory=sdsupervise/%N",
            "names two directories now, app and that of sdsupervise",
        ),
        (["TimeoutStopSec=infinity"], "TimeoutStopSec=86420", "TimeoutStopSec had no limit"),
        (["TimeoutStopSec=35"], "TimeoutStopSec=60", "TimeoutStopSec was 35"),
        (["TimeoutStartSec=10"], "TimeoutStartSec=90", "TimeoutStartSec was 10"),
        (["Type=notify", "TimeoutStartSec=5min"], "", "--start-timeout and --reload-timeout 300"),
        (["Type=notify", "WatchdogSec=20"], "", "--worker-timeout 20"),
        (["NotifyAccess=all", "WatchdogSec=9"], "NotifyAccess=main", "--worker-timeout 9"),
        (["Type=idle"], "Type=notify", "Type was idle"),
        (["WorkingDirectory=~"], "", "needs --directory"),
        (["WorkingDirectory=-/srv/a"], "", "WorkingDirectory=-/srv/a must exist now"),
    ],
)
def test_settings(lines: list[str], setting: str, note: str) -> None:
    """What a supervisor cannot live with is changed, and said; lint() finds nothing in what comes out."""
    drop_in = wrapped("ExecStart=/bin/any", *lines)
    assert setting in (*drop_in.settings, "")
    assert note in " ".join(drop_in.notes)


def test_pings_of_a_child_count() -> None:
    """The supervisor listens to all processes of its command, so nothing is said of a wider NotifyAccess=."""
    for access in ("all", "exec", "main"):
        assert "pings" not in " ".join(wrapped("ExecStart=/bin/any", f"NotifyAccess={access}", "WatchdogSec=9").notes)


def test_what_a_unit_has_stays() -> None:
    """Time-outs, watchdogs and stores that are good enough are left alone."""
    drop_in = wrapped("ExecStart=/bin/any", "TimeoutStopSec=300", "WatchdogSec=9", "FileDescriptorStoreMax=200")
    keys = [line.partition("=")[0] for line in drop_in.settings]
    assert not {"TimeoutStopSec", "TimeoutStartSec", "WatchdogSec", "FileDescriptorStoreMax", "User"} & set(keys)
    assert "--stop-timeout 290" in drop_in.text


def test_sockets_of_systemd() -> None:
    """A .socket unit's sockets stay systemd's to open."""
    # It would name one a second time, of which gunicorn dies; of another address gunicorn takes no notice then.
    for bind in "fd://3", "127.0.0.1:1":
        assert run(f"gunicorn -b {bind} a", given=["app.socket"]).endswith("-- gunicorn --preload a")
    assert run("uvicorn a:a", given=["app.socket"]).endswith("uvicorn --fd 3 a:a")
    assert "gets the sockets of app.socket, and a reload hands" in " ".join(
        wrapped("ExecStart=/bin/any", given=["app.socket"]).notes
    )


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["Type=oneshot", "ExecStart=/bin/true"], "there is nothing to supervise"),
        (["Type=oneshot", "ExecStart=/bin/a", "ExecStart=/bin/b"], "there is nothing to supervise"),
        (["Type=forking", "ExecStart=/usr/sbin/nginx"], "its program stays in the foreground: nginx -g 'daemon off;'."),
        (["ExecStart=/bin/a", "[Unit]", "DefaultDependencies=no"], "part of the machine itself"),
        (["ExecStart=/usr/lib/systemd/systemd --user"], "part of the machine itself"),
        (["Type=dbus", "BusName=org.x", "ExecStart=/bin/a"], "name on D-Bus"),
        (["ExecStart=/bin/a ; /bin/b"], "2 commands"),
        ([], "no ExecStart="),
        (["ExecStart=/usr/bin/sdsupervise run app"], "is under sdsupervise already"),
        (["ExecStart=/opt/python -m sdsupervise run app"], "is under sdsupervise already"),
        (["RootDirectory=/srv/root", "ExecStart=/bin/a"], "sdsupervise does not exist there"),
        (["ExecStart=|/bin/a b"], "which a shell splits"),
        (["StandardInput=socket", "ExecStart=/bin/a"], "reads its standard input"),
        (["ExecStart=/bin/celery multi start w1"], "in the background"),
        (["Type=forking", "ExecStart=/bin/celery -A a multi start w1"], "let ExecStart= be `celery -A APP worker`"),
        (
            ["Type=forking", "ExecStart=/bin/sh -c '${CELERY_BIN} -A $APP multi start $NODES --pidfile=${PID}'"],
            "let ExecStart= be `celery -A APP worker`",
        ),
        (["Type=forking", "ExecStart=/bin/sh -c 'any multi start'"], "exec the program as the last command"),
        (["ExecStart=-/bin/a", "Restart=on-failure"], 'take the "-" out, or write Restart=no.'),
        (["ExecStart=-/bin/a", "Restart=on-abort"], "so Restart=on-abort starts nothing again"),
        (["ExecStart=/bin/gunicorn --bind example.org:80 a"], "is not a numeric address"),
        (["ExecStart=/bin/gunicorn --bind fd://3 a"], "no .socket unit"),
        (["ExecStart=/bin/hypercorn --quic-bind :1 a"], "cannot keep"),
    ],
)
def test_refusals(lines: list[str], why: str) -> None:
    """What cannot work is refused in one sentence."""
    with pytest.raises(CannotWrap, match=why) as refused:
        wrapped(*lines)
    sentence = str(refused.value)
    assert sentence.endswith(".") and "\n" not in sentence


def test_the_text_is_read_as_it_was_meant() -> None:
    """The words of the command are the same after systemd has read them from the drop-in."""
    command = r"""/bin/any "a b" 'c"d' e\\f \x41 "" %i $X ${Y} 100%% \; #x"""
    (start,) = words.commands(command)
    drop_in = wrapped(f"ExecStart={command}")
    (again,) = words.commands(text.parse("a.service", drop_in.text).value("ExecStart"))
    assert again.words[again.words.index("--") + 1 :] == start.words


NGINX = """\
/var/log/nginx/*.log {
    daily
    # kill -HUP nginx
    postrotate
        [ ! -f /run/nginx.pid ] || kill -USR1 `cat /run/nginx.pid`
        # kill -HUP `cat /run/nginx.pid`
        invoke-rc.d nginx rotate >/dev/null 2>&1
        systemctl kill -s HUP nginx-exporter
    endscript
    kill -HUP nginx
}
"""


def test_what_logrotate_does(tmp_path: Path) -> None:
    """The lines of its scripts that mean this unit are named, with what reaches the program under a supervisor."""
    (tmp_path / "nginx").write_text(NGINX)
    (tmp_path / "directory").mkdir()
    unit = text.parse("nginx.service", "[Service]\nExecStart=/bin/any\nExecReload=/bin/kill -s USR1 $MAINPID\n")
    notes = wrap(unit, rotations=rotation.read(str(tmp_path))).notes
    reaches = "systemctl reload nginx"
    assert [note for note in notes if note.startswith("--reload-signal SIGUSR1: ")]
    assert [note for note in notes if str(tmp_path) in note] == [
        f"{tmp_path}/nginx:5 sends SIGUSR1 ([ ! -f /run/nginx.pid ] || kill -USR1 `cat /run/nginx.pid`): "
        f"write instead: {reaches}",
        f"{tmp_path}/nginx:7 runs invoke-rc.d nginx rotate >/dev/null 2>&1: check that it still finds the program, "
        f"which is now a child of the supervisor",
    ]
    assert rotation.read(str(tmp_path / "none")) == []


def test_commands_to_paste() -> None:
    """A name with a backslash stays one word in each command that is shown."""
    name = r"a\x2db"
    shown = f"'{name}'"
    unit = text.parse(f"{name}.service", "[Service]\nExecStart=/bin/any\n")
    reloading = text.parse(f"{name}@.service", "[Service]\nExecStart=/bin/any\nExecReload=/bin/kill -USR1 $MAINPID\n")
    rotations = [rotation.Rotation("place:1", f"kill -{number} $(pidof {name}@)") for number in ("USR1", "HUP")]
    assert [note.partition("write instead: ")[2] for note in wrap(reloading, rotations=rotations).notes[-3:-1]] == [
        f"systemctl reload '{name}@INSTANCE'",
        f"systemctl kill --kill-whom=main --signal=HUP '{name}@INSTANCE'",
    ]
    assert switch._short([f"{name}.service", "b.socket"]) == f"{shown} b.socket"
    assert [finding.fix for finding in lint(unit)] == [f"try sdsupervise unit wrap '{name}.service'"]
    drop_in = wrap(unit)
    with pytest.raises(CannotWrap, match=re.escape(f"sdsupervise unit lint '{name}.service' checks it")):
        wrap(with_drop_in(unit, drop_in))
    changed = with_drop_in(text.parse(unit.name, "[Service]\nExecStart=/bin/other\n"), drop_in)
    assert f"run sdsupervise unit wrap --write {shown} with the same options as before" in [
        finding.fix for finding in lint(changed)
    ]


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("/bin/kill -HUP $MAINPID", "HUP"),
        ("kill -s SIGHUP $MAINPID", "HUP"),
        ("/bin/sh -c 'kill -USR1 $MAINPID'", "USR1"),
        ("systemctl kill --signal=WINCH x", "WINCH"),
        ("systemctl kill --kill-whom=main -s USR2 x", "USR2"),
        ("kill -TERM $MAINPID", ""),
        ("kill $(cat x-HUP)", ""),
        ("skill -HUP x", ""),
        ("/usr/bin/any reload", ""),
    ],
)
def test_which_signal(command: str, number: str) -> None:
    """Of a command line that sends one."""
    assert rotation.signal_in(command) == number
