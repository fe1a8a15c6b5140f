"""What `unit wrap` makes of the command lines of known programs, behind launchers, with variables and socket files."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from sdsupervise.errors import CannotWrap
from sdsupervise.unitfiles import text
from sdsupervise.unitfiles.rotation import Rotation
from sdsupervise.unitfiles.wrap import wrap


def wrapped(command: str, *lines: str, **variables: str) -> str:
    """The drop-in and its notes for a unit with this command and these lines, and these variables from a file."""
    unit = text.parse("app.service", "\n".join(["[Service]", *lines, f"ExecStart={command}"]))
    drop_in = wrap(unit, variables=variables)
    return "\n".join([drop_in.text, *drop_in.notes])


def run(command: str, *lines: str, **variables: str) -> str:
    """What its ExecStart= runs, from the first option on."""
    line = next(line for line in wrapped(command, *lines, **variables).splitlines() if line.startswith("ExecStart=/"))
    return line.partition(" run --handover ")[2]


@pytest.mark.parametrize(
    ("command", "lines", "listen"),
    [
        # gunicorn sets umask 0 unless it is told another one.
        ("gunicorn -b unix:a.sock a", [], "/srv/app/a.sock"),
        ("gunicorn -b unix:a.sock -m 007 a", [], "/srv/app/a.sock,mode=0770"),
        ("gunicorn -b unix:./run/a.sock --umask=0o077 a", [], "/srv/app/run/a.sock,mode=0700"),
        ("gunicorn -b unix:///run/a.sock a", [], "/run/a.sock"),
        ("gunicorn -b unix:a.sock --chdir site a", [], "/srv/app/site/a.sock"),
        ("gunicorn -b unix:a.sock --chdir /srv/site -m 7 a", [], "/srv/site/a.sock,mode=0770"),
        ("gunicorn -b unix:a.sock -u www-data --group adm a", [], "/srv/app/a.sock,user=www-data,group=adm"),
        ("gunicorn -b unix:a.sock -u www-data a", ["User=www-data"], "/srv/app/a.sock"),
        ("gunicorn a", ['Environment="GUNICORN_CMD_ARGS=-b unix:a.sock -m 007"'], "/srv/app/a.sock,mode=0770"),
        ("chpst -u www-data:adm gunicorn -b unix:a.sock a", [], "/srv/app/a.sock,user=www-data,group=adm"),
        ("env -C sub gunicorn -b unix:a.sock a", [], "/srv/app/sub/a.sock"),
        # uvicorn sets the mode 0666 itself; hypercorn leaves the unit's umask.
        ("uvicorn --uds a.sock a:a", ["UMask=0077"], "/srv/app/a.sock"),
        ("hypercorn -b unix:a.sock a:a", [], "/srv/app/a.sock,mode=0755"),
        ("hypercorn -b unix:a.sock a:a", ["UMask=0007"], "/srv/app/a.sock,mode=0770"),
        ("hypercorn -b unix:a.sock -m 63 -u 33 -g 33 a:a", [], "/srv/app/a.sock,mode=0700,user=33,group=33"),
        ("puma -b unix:///run/a.sock?umask=0117", [], "/run/a.sock,mode=0660"),
        ("puma -b unix:///run/a.sock", [], "/run/a.sock,mode=0755"),
        ("uwsgi --http-socket a.sock --chmod-socket=660 --wsgi-file a", [], "/srv/app/a.sock,mode=0660"),
        ("uwsgi -s a.sock -w a", ["UMask=0077"], "/srv/app/a.sock,mode=0700"),
        ("uwsgi -s a.sock -w a --chown-socket www-data:adm -C", [], "/srv/app/a.sock,user=www-data,group=adm"),
    ],
)
def test_files_of_unix_sockets(command: str, lines: list[str], listen: str) -> None:
    """A relative path is below the directory that the program has, and a socket is open to nobody whom the program
    keeps out."""
    assert f" --listen http={listen} " in run(command, "WorkingDirectory=/srv/app", *lines)


def test_files_that_gunicorn_s_file_sets(tmp_path: Path) -> None:
    """The configuration file says what the command line leaves out, and is found although --chdir changes away."""
    (tmp_path / "gunicorn.conf.py").write_text("bind = 'unix:a.sock'\numask = 0o027\nchdir = 'below'\n")
    where = f"WorkingDirectory={tmp_path}"
    assert f" --listen http={tmp_path}/below/a.sock,mode=0750 " in run("gunicorn a", where)
    said = run("gunicorn --chdir /srv/x -m 0 a", where)
    assert "--directory /srv/x --listen http=/srv/x/a.sock " in said
    assert f"gunicorn --preload --config {tmp_path}/gunicorn.conf.py -m 0 a" in said
    assert f" --config {tmp_path}/other.py " in run("gunicorn -b :1 -c other.py --chdir /srv/x a", where)
    (tmp_path / "gunicorn.conf.py").write_text("import os\numask = os.getpid()\n")
    with pytest.raises(CannotWrap, match="umask"):
        run("gunicorn -b unix:a.sock a", where)
    (tmp_path / "gunicorn.conf.py").write_text("import os\nchdir = os.getcwd()\n")
    with pytest.raises(CannotWrap, match="which directory"):
        run("gunicorn -b unix:a.sock a", where)
    assert "--listen http=127.0.0.1:1 " in run("gunicorn -b 127.0.0.1:1 a", where)


def test_warnings_about_gunicorn_s_file(tmp_path: Path) -> None:
    """What Python would say to the author of the file is not printed."""
    (tmp_path / "gunicorn.conf.py").write_text("bind = '127.0.0.1:1'\nworkers = 0x1for x in ()\npath = '\\.'\n")
    with warnings.catch_warnings(record=True) as printed:
        warnings.simplefilter("always")
        assert "--listen http=127.0.0.1:1 " in run("gunicorn a", f"WorkingDirectory={tmp_path}")
    assert not printed


VARIABLES = "Environment=PORT=8001 HOST=127.0.0.1 BIND=127.0.0.1:8002 ANY=:8003 SOCKET=unix:/run/a.sock N=4 T=60"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("uvicorn --host $HOST --port $PORT a:a", "--listen http=${HOST}:${PORT},lanes "),
        ("uvicorn --host localhost --port ${PORT} a:a", "--listen http=127.0.0.1:${PORT},lanes "),
        ("uvicorn --workers $N a:a", "--workers ${N} "),
        ("uvicorn --timeout-graceful-shutdown ${T} a:a", "--stop-timeout 70 "),
        ("gunicorn -b ${BIND} a", "--listen http=${BIND} "),
        ("gunicorn -b $BIND a", "--listen http=${BIND} "),
        ("gunicorn -b ${HOST}:${PORT} a", "--listen http=${HOST}:${PORT} "),
        ("gunicorn -b ${ANY} a", "--listen http=0.0.0.0:8003 "),
        ("gunicorn -b ${SOCKET} a", "--listen http=/run/a.sock "),
        ("gunicorn -b :1 --graceful-timeout $T a", "--stop-timeout 70 "),
        ("hypercorn -b ${BIND} -w ${N} a:a", "--listen http=${BIND},lanes --workers ${N} "),
        ("daphne -b $HOST -p $PORT a:a", "--listen http=${HOST}:${PORT},lanes "),
        ("env PORT=9 gunicorn a", "--listen http=0.0.0.0:9 "),
    ],
)
def test_variables(command: str, expected: str) -> None:
    """A variable stays where it stands for the same, so that a change of it counts; else it is written out."""
    assert expected in run(command, VARIABLES)
    told = wrapped(command, VARIABLES)
    assert ("is written out as" in told) == ("${ANY}" in command or "${SOCKET}" in command)


def test_variables_of_a_file() -> None:
    """A file of variables goes before Environment=, and options in a variable are seen."""
    assert "http=${BIND} " in run("gunicorn -b ${BIND} a", "Environment=BIND=x", BIND="127.0.0.1:1")
    told = wrapped("gunicorn $OPTIONS a", OPTIONS="--bind 127.0.0.1:1 --daemon --workers 2")
    assert "http=127.0.0.1:1 " in told and "gunicorn --preload --workers 2 a" in told and "$OPTIONS is written" in told
    assert " http=" not in run("/bin/any $OPTIONS", OPTIONS="--bind 127.0.0.1:1")


@pytest.mark.parametrize(
    "command",
    [
        "gunicorn -b ${NONE} a",
        "gunicorn -b 127.0.0.1:$NONE a",
        "gunicorn -b 127.0.0.1:${NONE} a",
        "uvicorn --host $NONE --port 1 a:a",
        "uvicorn --workers $NONE a:a",
        "uvicorn --uds ${NONE}/a.sock a:a",
        "uvicorn --fd 3 a:a",
        "hypercorn -b ${NONE} a:a",
        "uwsgi --http-socket ${NONE} -w a",
    ],
)
def test_an_address_that_nobody_knows(command: str) -> None:
    """Where the unit does not say it, the unit is refused in one sentence."""
    with pytest.raises(CannotWrap) as refused:
        run(command)
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize(
    ("name", "value"),
    [("UVICORN_RELOAD", "1"), ("GUNICORN_CMD_ARGS", "--reload"), ("GUNICORN_CMD_ARGS", "-p /run/a"),
     ("GUNICORN_CMD_ARGS", "--daemon")],
)  # fmt: skip
def test_a_variable_with_what_cannot_be(name: str, value: str) -> None:
    """What a supervised program must not be told, and wrap cannot take out of a variable, is refused."""
    with pytest.raises(CannotWrap, match=f"{name}.* take it out"):
        run("uvicorn a:a" if name.startswith("UV") else "gunicorn a", **{name: value})


@pytest.mark.parametrize(
    "command",
    [
        "/usr/bin/env PYTHONPATH=/srv/celery X=1 {}",
        "env -i -u Y {}",
        "nice -n 5 {}",
        "nice -5 ionice -c2 -n 7 {}",
        "numactl --cpunodebind=0 -m 0 {}",
        "taskset -c 0-3 {}",
        "chrt -b 0 {}",
        "chpst -u app -m 100000 {}",
        "setuidgid app {}",
        "envdir /etc/app {}",
        "authbind --deep {}",
        "setpriv --reuid=app --init-groups {}",
        "systemd-cat -t app {}",
        "stdbuf -oL {}",
        "poetry run {}",
        "pipenv run {}",
        "newrelic-admin run-program {}",
        "ddtrace-run {}",
        "opentelemetry-instrument {}",
        "bundle exec {}",
        "python -m {}",
        "/srv/venv/bin/python3.12 -u -X dev /srv/venv/bin/{}",
        "/usr/bin/env -S {}",
        "sh -c 'exec {}'",
        "/bin/sh -c '{}'",
        "bash -c 'cd /srv/app && exec {}'",
        "env A=1 nice poetry run {}",
    ],
)
def test_launchers(command: str) -> None:
    """Behind a launcher the program is found; one with an option that is unknown here runs nobody knows what."""
    said = run(command.format("gunicorn -b 127.0.0.1:1 a"))
    is_known = "-S" not in command
    assert said.startswith("overlap " if is_known else "exclusive ")
    assert ("--listen http=127.0.0.1:1 " in said) == is_known
    assert "sh -c" not in said


@pytest.mark.parametrize(
    "command",
    [
        "/bin/any --log-dir /var/log/gunicorn",
        "/bin/any gunicorn",
        "env -S gunicorn a",
        "nice --unknown gunicorn a",
        "python /srv/app/main.py gunicorn",
        "python -c gunicorn a",
        "flock /run/lock gunicorn a",
        "uv pip install gunicorn",
        "uv run --with gunicorn python main.py",
        "sh -c 'gunicorn a; true'",
        "sh -c 'gunicorn -b $$X a'",
        "sh -c 'a | gunicorn b'",
        "sh -c 'source venv/bin/activate && gunicorn b'",
        "sh /etc/gunicorn",
        "env PYTHONPATH=/srv/celery /bin/any",
        "rvm in /srv do gunicorn a",
    ],
)
def test_a_word_that_is_not_run(command: str) -> None:
    """The name of a known program elsewhere in the line is no program."""
    assert run(command).startswith("exclusive ")


@pytest.mark.parametrize(
    ("command", "is_refused"),
    [
        ("/usr/bin/podman run --sdnotify=conmon -d --replace image", True),
        ("podman run -dt image", True),
        ("docker run --rm --detach image", True),
        ("/usr/bin/env A=1 docker-compose -f /srv/a.yml up -d", True),
        ("docker compose up --detach=true", True),
        ("sh -c 'docker run -itd image'", True),
        ("docker start box", True),
        ("docker start -a box", False),
        ("docker run --rm -p 80:80 image", False),
        ("docker run -it --detach=false image", False),
        ("docker compose up", False),
        ("/bin/any run -d", False),
    ],
)
def test_containers(command: str, is_refused: bool) -> None:
    """A container that runs in the background is no command that a supervisor can watch: it would start it again."""
    if is_refused:
        with pytest.raises(CannotWrap, match="with Type=simple"):
            run(command)
    else:
        assert run(command).startswith("exclusive ")


def test_what_uv_runs() -> None:
    """uv's own options are known; it stays the parent of its program, which matters to those that take their sockets
    by LISTEN_PID."""
    said = run("/usr/bin/uv run --with uvicorn -p 3.12 uvicorn --host 127.0.0.1 --port 1 a:a")
    assert said.endswith("--name uvicorn -- /usr/bin/uv run --with uvicorn -p 3.12 uvicorn --fd {http} a:a")
    for parent, what in (("uv run", "virtual environment"), ("dumb-init --", "a supervisor does its work")):
        told = wrapped(f"{parent} gunicorn -b 127.0.0.1:1 a")
        assert "--handover exclusive " in told and "--listen" not in told.partition("ExecStart=/")[2].partition("\n")[0]
        assert what in told


def made_environment(directory: Path, distribution: str) -> Path:
    """A virtual environment with a program, and the files by which its version is seen."""
    (directory / "bin").mkdir(parents=True)
    (directory / "lib" / "python3.11" / "site-packages" / f"{distribution}.dist-info").mkdir(parents=True)
    program = directory / "bin" / distribution.partition("-")[0]
    program.write_text(f"#!{directory}/bin/python3\n")
    return program


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [("gunicorn-25.1.0", True), ("gunicorn-27.0.1", True), ("gunicorn-25.0.3", False), ("gunicorn-20.1.0", False)],
)
def test_gunicorn_s_control_socket(tmp_path: Path, distribution: str, expected: bool) -> None:
    """From 25.1 on gunicorn has a control socket, of which two generations would share the file: it is switched off
    where the installed files show such a version."""
    program = made_environment(tmp_path / "venv", distribution)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gunicorn").symlink_to(program)
    commands = [
        str(program),
        f"{tmp_path}/venv/bin/python3 -m gunicorn",
        f"{tmp_path}/bin/gunicorn",
        f"env A=1 {program}",
        "venv/bin/gunicorn",
    ]
    for command in commands:
        told = wrapped(f"{command} -b :1 a", f"WorkingDirectory={tmp_path}")
        assert ("gunicorn --no-control-socket --preload a" in told) == expected, command
        assert "version of gunicorn is not visible" not in told
    assert ("--no-control-socket " in run("env gunicorn a", f"Environment=PATH={tmp_path}/venv/bin:/bin")) == expected
    (tmp_path / ".venv").symlink_to("venv")
    assert ("--no-control-socket " in run("poetry run gunicorn a", f"WorkingDirectory={tmp_path}")) == expected


def test_very_many_interpreters(tmp_path: Path) -> None:
    """The version is searched below the first 20 of them."""
    program = made_environment(tmp_path, "gunicorn-25.1.0")
    for number in range(20):
        (tmp_path / "lib" / f"pypy3.{number}").mkdir()
        told = wrapped(f"{program} -b :1 a")
        assert ("version of gunicorn is not visible" in told) == (number == 19), number


def test_a_control_socket_that_is_asked_for() -> None:
    """A path for it goes, as a pid file does; who has switched it off already is left alone."""
    told = wrapped("gunicorn -b :1 --control-socket /run/a.ctl a")
    assert "gunicorn --no-control-socket --preload a" in told
    assert run("gunicorn -b :1 --no-control-socket a").endswith("gunicorn --no-control-socket --preload a")
    assert "25.1 on, add --no-control-socket" in wrapped("/srv/none/gunicorn -b :1 a")


@pytest.mark.parametrize(("version", "expected"), [("0.18.0", "--workers 0 "), ("0.15.0", "--workers 0 "),
                                                  ("0.14.4", ""), ("0.13.2", "")])  # fmt: skip
def test_hypercorn_s_one_process(tmp_path: Path, version: str, expected: str) -> None:
    """--workers 0 exists from 0.15 on; before, nothing is said, and one worker it is."""
    program = made_environment(tmp_path, f"hypercorn-{version}")
    assert f"hypercorn {expected}--bind fd://{{http}} a:a" in run(f"{program} -b :1 a:a")


def test_puma(tmp_path: Path) -> None:
    """puma knows its sockets by their addresses, on its command line or plainly in its file; else a reload is a stop
    and a start, and a note says what would change that."""
    where = f"WorkingDirectory={tmp_path}"
    expected = "overlap --listen http=127.0.0.1:3000 --ready-after 3 --stop-timeout 80 -- "
    assert run("puma -b tcp://127.0.0.1:3000 a.ru") == f"{expected}puma -b tcp://127.0.0.1:3000 a.ru"
    assert " --listen http=0.0.0.0:9292 " in run("puma", where)
    assert " --listen http=0.0.0.0:80 " in run("bundle exec puma -p 80", where)
    (tmp_path / "config").mkdir()
    file = tmp_path / "config" / "puma.rb"
    for line, address in (
        ("bind 'tcp://127.0.0.1:3000' # here", "127.0.0.1:3000"),
        ('bind("unix:///run/a.sock?umask=0111")', "/run/a.sock"),
        ("port 3000", "0.0.0.0:3000"),
        ("port ENV.fetch('PORT') { 3000 }", "0.0.0.0:1"),
        ('port ENV.fetch("OTHER", 3000)', "0.0.0.0:3000"),
        ("port ENV['OTHER'] || 3000", "0.0.0.0:3000"),
        ("port" + " " * 990 + "3000", "0.0.0.0:3000"),
    ):
        file.write_text(f"threads 1, 5\n# bind 'x'\n{line}\n")
        assert f" --listen http={address} " in run("puma", where, PORT="1"), line
        assert f" --listen http={address} " in run("puma -C config/puma.rb", where, PORT="1"), line
    for line in ('bind "tcp://#{x}:1"', "bind 'tcp://localhost:1' if x", "ssl_bind '0.0.0.0', 1", "port x",
                 "require 'x'", "bind 'unix://a.sock'", "bind 'tcp://localhost:1'",
                 "activate_control_app", f"port{' ' * 1000}3000", f"port{' ' * 100_000}x",
                 "bind 'unix:///run/a \tb.sock'"):  # fmt: skip
        file.write_text(line + "\n")
        told = wrapped("puma", where)
        assert "run --handover exclusive" in told and "each reload refuses clients" in told, line
    assert "run --handover exclusive" in wrapped("puma -C none.rb", where)
    assert "refuses clients" in wrapped("puma -b tcp://127.0.0.1:1 --control-url tcp://127.0.0.1:2")


def test_uwsgi() -> None:
    """uwsgi takes its sockets as descriptors, and finishes the requests under way: by a hook of its master, or by
    SIGHUP without one."""
    hook = '--hook-master-start "unix_signal:15 gracefully_kill_them_all"'
    times = "--stop-timeout 80 --start-timeout 90 --reload-timeout 90"
    unset = "-- /usr/bin/env --unset=LISTEN_PID"
    assert run("uwsgi --http-socket :80 --master -w a") == (
        f"overlap --listen http=0.0.0.0:80 --stop-signal SIGTERM {times} --name uwsgi {unset} uwsgi --need-app {hook} "
        "--http-socket fd://{http} --master -w a"
    )
    assert run("uwsgi --http-socket :80 -w a") == (
        f"overlap --listen http=0.0.0.0:80 --stop-signal SIGHUP {times} --name uwsgi {unset} uwsgi "
        "--need-app --http-socket fd://{http} -w a"
    )
    assert f"uwsgi --need-app --master {hook} " in run("uwsgi -s :80 -p 4 -w a --vacuum") and "vacuum" not in run(
        "uwsgi -s :1 --vacuum"
    )
    assert " --stop-signal SIGTERM " in run("uwsgi -s :1 --master -w a", "KillSignal=SIGQUIT")
    for command in ("uwsgi --ini /etc/a.ini", "uwsgi --emperor /etc/a", "uwsgi a.ini", "uwsgi --http :80 -w a"):
        told = wrapped(command)
        assert "run --handover exclusive --stop-signal SIGINT" in told and "each reload refuses clients" in told


def test_workers_beside_a_reloader() -> None:
    """uvicorn ignores --workers beside --reload: that several processes run now is said."""
    said = "uvicorn had one process until now: it ignores --workers beside --reload; 4 run now"
    assert said in wrapped("uvicorn --reload --workers 4 a:a")
    assert "had one process" not in wrapped("uvicorn --workers 4 a:a") + wrapped("uvicorn --reload a:a")


def test_daphne() -> None:
    """daphne takes a TCP socket; the file of a UNIX socket it would remove while its successor serves there."""
    assert run("daphne -b 0.0.0.0 -p 80 a:a").startswith("overlap --listen http=0.0.0.0:80,lanes --ready-after 3 ")
    assert run("python -m daphne a:a").endswith("-- python -m daphne --fd {http} a:a")
    for command in ("daphne -u /run/a.sock a:a", "daphne -e tcp:80 a:a"):
        told = wrapped(command)
        assert "run --handover exclusive" in told and "each reload refuses clients" in told
    assert "cuts those off" in wrapped("daphne a:a")


@pytest.mark.parametrize(
    ("command", "note"),
    [
        ("/bin/any --port 80", "opens its own socket"),
        ("/bin/any --port=80", "opens its own socket"),
        ("/bin/any --http-port ${PORT}", "opens its own socket"),
        ("/bin/any --bind 127.0.0.1:80", "opens its own socket"),
        ("/bin/any -p 8080", "opens its own socket"),
        ("/bin/any -l ${LISTEN_ADDR}", "opens its own socket"),
        ("/bin/any --listen unix:/run/a", "opens its own socket"),
        ("python manage.py runserver 0.0.0.0:8000", "gunicorn and uvicorn serve the same"),
        ("fastapi run a.py", "uvicorn serves the same"),
        ("flask --app a run", "gunicorn serves the same"),
        ("litestar run", "uvicorn serves the same"),
        ("granian a:a", "granian cannot take a socket"),
        ("waitress-serve a:a", "waitress-serve cannot take a socket"),
        ("bin/rails server", "puma serves the same"),
        ("node server.js", "listen({fd: 3})"),
        ("celery -A a flower --port=5555", "celery flower opens its own socket"),
        ("/bin/any -a :6081", "any opens its own socket"),
        ("/bin/any --web=[::]:9100", "opens its own socket"),
        ("/bin/any serve http://0.0.0.0:80", "opens its own socket"),
        ("bash -c 'source a && python3 manage.py runserver 127.0.0.1:80'", "gunicorn and uvicorn serve the same"),
        ("sh -c '[ -n \"$A\" ] && export B=$A; exec granian a:a'", "granian cannot take a socket"),
        ("bash -lc 'A=1 /srv/bin/any --port 80 & wait'", "any opens its own socket"),
        ("uv run fastapi run a.py", "uvicorn serves the same"),
        ("/bin/any /srv/node /srv/granian --url redis://:6379", ""),
        ("/bin/any -display :10 --upstream localhost:6379", ""),
        ("/bin/any -p /run/a.pid", ""),
        ("/bin/any -p $OPTIONS", ""),
        ("python manage.py rqworker", ""),
        ("/bin/any", ""),
    ],
)
def test_programs_that_open_their_own_socket(command: str, note: str) -> None:
    """A note says plainly that each reload refuses clients, and what would change that."""
    told = wrapped(command)
    assert ("each reload refuses clients for the time of one stop and one start" in told) == bool(note)
    assert note in told


def test_what_cannot_take_a_socket_of_systemd_either() -> None:
    """A .socket unit does not help a program that opens its own socket all the same; others take it."""
    for command, is_said in (("granian a:a", True), ("/bin/any --port 80", False), ("node a.js", False)):
        unit = text.parse("a.service", f"[Service]\nExecStart={command}")
        assert ("each reload refuses" in " ".join(wrap(unit, given=["a.socket"]).notes)) == is_said


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/bin/python3 -u /opt/a/serve.py --now", "serve.py"),
        ("python -m a.b", "a.b"),
        ("uv run python -m a.b", "a.b"),
        ("/bin/sh /opt/a/start.sh", "start.sh"),
        ("/usr/bin/env A=1 /bin/any", "any"),
        ("/bin/sh -c 'any | other'", "sh"),
        ("python -c pass", "python"),
    ],
)
def test_names_in_notes(command: str, name: str) -> None:
    """The notes name what runs in the end, not its interpreter: new code of python is not what is meant."""
    told = wrapped(command, "ExecReload=/bin/kill -HUP $MAINPID", "KillMode=process")
    assert f"{name} does not report when it is ready" in told and f"new code of {name} needs a restart" in told
    assert f"what {name} leaves running" in told


@pytest.mark.parametrize(
    ("reload", "option"),
    [
        ("/bin/kill -HUP $MAINPID", "--reload-signal SIGHUP"),
        ("+/bin/kill -s USR1 ${MAINPID}", "--reload-signal SIGUSR1"),
        ("/bin/sh -c 'kill -USR2 $MAINPID'", "--reload-signal SIGUSR2"),
        ("/usr/bin/any-client reload", ""),
        ("/bin/kill -HUP 1", ""),
    ],
)
def test_a_reload_that_the_program_did_itself(reload: str, option: str) -> None:
    """A signal goes on to the program; any other command becomes a stop and a start, which is said, as it is where the
    user chooses a handover. Of a program that overlaps, the new code then serves."""
    told = wrapped("/bin/any", f"ExecReload={reload}")
    stops = f"ExecReload was {reload}: a reload is now a stop and a start of any"
    assert ("--reload-signal" in told) == bool(option) and option in told and (stops in told) != bool(option)
    chosen = wrap(text.parse("a.service", f"[Service]\nExecStart=/bin/any\nExecReload={reload}"), handover="exclusive")
    assert "--reload-signal" not in chosen.text and stops in " ".join(chosen.notes)
    told = wrapped("gunicorn a", f"ExecReload={reload}")
    assert f"ExecReload was {reload}: a reload now waits until the new code serves" in told


def test_a_signal_starts_nothing_anew() -> None:
    """What is said of a reload is true of a program that goes on to reload itself by its signal, too."""
    lines = ["KillMode=process", "MemoryMax=1G", "[Unit]", "ReloadPropagatedFrom=b.target", "[Service]"]
    unit = text.parse("a.service", "\n".join(["[Service]", "ExecStart=/bin/any", *lines, "ExecReload="]))
    signal = text.parse(
        "a.service", "\n".join(["[Service]", "ExecStart=/bin/any", *lines, "ExecReload=kill -HUP $MAINPID"])
    )
    anew = " ".join(wrap(unit, given=["a.socket"]).notes)
    told = " ".join(wrap(signal, given=["a.socket"]).notes)
    for sentence, is_anew in (
        ("what any leaves running at a stop or a reload is killed", True),
        ("what any leaves running at a stop is killed", False),
        ("MemoryMax must have room for a second supervisor in a reload, and 20 MB for each", True),
        ("MemoryMax must have room for 20 MB of the supervisor", False),
        ("gets the sockets of a.socket, and a reload hands them on", True),
        ("gets the sockets of a.socket the switch", False),
        ("so it now brings new code", True),
    ):
        assert (sentence in anew) == is_anew and (sentence in told) == (not is_anew)
    assert "MemoryMax must have room for two generations" in wrapped("gunicorn a", "MemoryMax=1G")


@pytest.mark.parametrize(
    "command",
    ["/srv/venv/bin/rq worker", "/usr/bin/celery -A a beat", "/bin/python -m rq worker", "python manage.py rqworker"],
)
def test_a_signal_that_would_end_the_program(command: str) -> None:
    """It is no reload, although the unit sends it: a reload stops the program and starts it."""
    told = wrapped(command, "ExecReload=/bin/kill -s HUP $MAINPID")
    assert "--reload-signal" not in told and "a reload is now a stop and a start" in told


def test_a_directory_with_the_name_of_such_a_program() -> None:
    """Only what is run counts."""
    told = wrapped("/bin/any --home /srv/celery", "ExecReload=/bin/kill -s HUP $MAINPID")
    assert "--reload-signal SIGHUP" in told


def test_commands_before_the_signal() -> None:
    """A check that the unit ran before the signal is named, because it no longer runs."""
    told = wrapped("/bin/any", "ExecReload=/bin/any --check\nExecReload=/bin/kill -HUP $MAINPID")
    assert "--reload-signal SIGHUP" in told
    assert "the commands of ExecReload before it no longer run: /bin/any --check" in told


def test_a_rotation_that_reloads() -> None:
    """A postrotate line that reloads the unit stops and starts the program at each rotation, where ExecReload= was
    another command; where it was a signal, all is as before."""
    lines = "[Service]\nExecStart=/bin/any\nExecReload=/bin/any-client reload\n"
    for command, note in (
        ("systemctl reload any", "each rotation of its logs then stops any and starts it"),
        ("invoke-rc.d any reload", "each rotation of its logs then stops any and starts it"),
        ("kill -USR2 `cat /run/any.pid`", "which now starts a reload, and does not reach any"),
        ("any-reopen any", "check that it still finds the program"),
    ):
        unit = text.parse("any.service", lines)
        assert note in " ".join(wrap(unit, rotations=[Rotation("/etc/logrotate.d/any:3", command)]).notes)
    for command, note in (
        ("systemctl reload any", ""),
        ("kill -HUP `cat /run/any.pid`", "write instead: systemctl reload any"),
        ("kill -USR1 `cat /run/any.pid`", "write instead: systemctl kill --kill-whom=main --signal=USR1 any"),
    ):
        unit = text.parse("any.service", lines.replace("any-client reload", "kill -HUP $MAINPID"))
        notes = [note for note in wrap(unit, rotations=[Rotation("/x:3", command)]).notes if note.startswith("/x:3")]
        assert len(notes) == bool(note) and note in "".join(notes)


def test_a_gap_is_one_of_restarts() -> None:
    """Where a reload is a signal, no reload refuses clients, and the note on the program's socket says so."""
    told = wrapped("/bin/any --port 80", "ExecReload=/bin/kill -HUP $MAINPID")
    assert "each restart refuses clients" in told and "each reload refuses clients" not in told
