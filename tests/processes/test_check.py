"""`sdsupervise check` and `config`: what can be known of an instance before it runs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from typing import NamedTuple

import pytest

from sdsupervise.cli.connections import connections
from tests.support.harness import SDSUPERVISE, Ground, service
from tests.support.running import Running

CLASS = "directory = 'current'\nservice = 'service.py:Service'\n"


def sdsupervise(ground: Ground, *words: object) -> Running:
    """A command, to its end."""
    running = ground.run(SDSUPERVISE, *words)
    running.wait()
    return running


def check(ground: Ground, text: str, *options: str) -> Running:
    """`sdsupervise check` of a file with this text."""
    return sdsupervise(ground, "check", *options, "--config", ground.write("app.toml", text))


def test_all_is_well(ground: Ground) -> None:
    """One line says so; nothing was started, and no directory made."""
    ground.deploy(1)
    for options in ([], ["--import"]):
        checked = check(ground, CLASS, *options)
        assert (checked.wait(), checked.out, checked.err) == (0, "app: ok\n", "")
    assert not ground.history and not os.path.exists("/run/sdsupervise/app")


def test_all_mistakes_are_said(ground: Ground) -> None:
    """On standard error, a line each, with exit status 78."""
    checked = check(ground, "service = 'x.py:X'\nworkers = 0\n\nuser = 'no such'\n")
    assert (checked.wait(), checked.out) == (78, "")
    places = [line.partition(": ")[0] for line in checked.err.splitlines()]
    assert places == [f"{ground.directory}/app.toml:{place}" for place in ("1:11", "2:11", "4:8")]


class Broken(NamedTuple):
    """A class, or a file, that only an import shows to be wrong."""

    sentence: str
    before: str = ""  # the class
    body: str = ""
    text: str = CLASS


BROKEN = {
    "raises": Broken("ModuleNotFoundError: No module named 'nowhere_at_all'", before="import nowhere_at_all"),
    "exits": Broken("service.py:Service cannot be loaded: its process exited with status 3", before="os._exit(3)"),
    "dies": Broken("cannot be loaded: its process was killed by SIGKILL", before="os.kill(os.getpid(), 9)"),
    "hangs": Broken(
        r"cannot be loaded within 0.5 s \(reload_timeout\)",
        before="signal.pause()",
        text=f"{CLASS}reload_timeout = 0.5",
    ),
    "class": Broken("Cannot load service.py:Servise: .* defines: Service", text=CLASS.replace("vice'", "vise'")),
    "setting": Broken("app: Service: crash_limit is 'x'; it must be a whole number", body="crash_limit = 'x'"),
    "user": Broken("app: There is no user 'no such' on this host", body="user = 'no such'"),
    "options": Broken("Unrecognized arguments: --no-such", text=f"{CLASS}arguments = ['--no-such']"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_classes(ground: Ground, case: str) -> None:
    """They are said with the service's own traceback, whatever the import does, and in time."""
    broken = BROKEN[case]
    ground.deploy(1, service(broken.body, before=broken.before))
    assert check(ground, broken.text).out == "app: ok\n"
    checked = check(ground, broken.text, "--import")
    assert (checked.wait(), checked.out) == (78, "")
    checked.expect_line(broken.sentence)
    assert ("Traceback" in checked.err) == (case == "raises")
    ground.expect_nothing_left()


def test_what_an_import_writes(ground: Ground) -> None:
    """It is not taken for ours: it goes to standard error."""
    ground.deploy(1, service(before="print('hello')"))
    checked = check(ground, CLASS, "--import")
    assert (checked.out, checked.err) == ("app: ok\n", "hello\n")
    shown = sdsupervise(ground, "config", "--json", "--config", "app.toml")
    assert json.loads(shown.out)["name"] == "app"


def test_what_an_import_writes_is_printable(ground: Ground) -> None:
    """Its code may be somebody else's, and the terminal is ours; nor is it shown without an end."""
    says = "os.write(2, b'\\x1b]0;owned\\x07\\xe2\\x80\\xaeok\\n' + b'x' * 2_000_000)"
    ground.deploy(1, service(before=says))
    checked = check(ground, CLASS, "--import")
    assert checked.out == "app: ok\n"
    assert checked.err.startswith("?]0;owned??ok\nxxx") and len(checked.err) < 300_000


def test_an_import_elsewhere(ground: Ground) -> None:
    """The class's own interpreter imports it, found from the directory."""
    ground.deploy(1, service(before="print(sys.executable)"))
    (ground.directory / "releases/1/python").symlink_to(os.path.realpath(sys.executable))
    checked = check(ground, f"{CLASS}python = './python'\n", "--import")
    assert checked.wait() == 0, checked.err
    assert checked.err.strip().endswith("/python")


def test_commands(ground: Ground) -> None:
    """The program is there and can be executed, and its descriptors are those of listeners."""
    text = 'command = ["/bin/sh", "-c", "exec prog --fd {http}"]\n'
    checked = check(ground, text)
    assert checked.wait() == 78
    checked.expect_line(r"app: \{http\} in the command names no listener; there are: none")
    assert check(ground, f"{text}listen.http = 8000\n", "--import").out == "app: ok\n"


def test_which_instances(ground: Ground) -> None:
    """One sentence for each that is not there, or cannot be; --config names one alone."""
    checked = sdsupervise(ground, "check", "nosuch_1", "nosuch_2@")
    assert checked.wait() == 78
    assert re.findall(r"There is no instance (\S+): no /\S+\.toml\.", checked.err) == ["nosuch_1"]
    assert "\nAn instance cannot be called 'nosuch_2@'; " in checked.err
    assert sdsupervise(ground, "check", "x", "--config", "y.toml").wait() == 64
    assert sdsupervise(ground, "config").wait() == 64
    assert sdsupervise(ground, "config", "nosuch_1").wait() == 78
    example = sdsupervise(ground, "config", "--example", "--json")
    assert (example.wait(), example.out) == (64, "")
    example.expect_line(r"^--example has no JSON form; leave out --json\.$")


def test_verdicts_as_json(ground: Ground) -> None:
    """One object on a line for each instance, whatever is wrong, and nothing else on standard output."""
    ground.deploy(1, service(before="print('hello')"))
    good, bad = ground.write("good.toml", CLASS), ground.write("bad.toml", f"{CLASS}workers = 0\n")
    checked = sdsupervise(ground, "check", "--json", "--import", good, bad, "nosuch_1")
    assert checked.wait() == 78
    first, second, third = map(json.loads, checked.out.splitlines())
    assert first == {"name": "good", "file": str(good), "mistakes": [], "notes": []}
    assert second["mistakes"][0].startswith(f"{bad}:3:11: workers is 0; ")
    assert (third["name"], third["file"], len(third["mistakes"])) == ("nosuch_1", "", 1)


SAYS = """
crash_limit = 7
stop_timeout = 12.5
before_commit = ["true"]
listen = {"a": "@a", "b": "@b"}
group = "daemon"
"""


def test_where_values_come_from(ground: Ground) -> None:
    """Each has the line of the file where it stands, or the class that says it, or is said to be the default; what is
    printed is a file that says the same."""
    ground.deploy(1, service(SAYS))
    file = ground.write("app.toml", f"{CLASS}\nstop_timeout = 9\n# c\nlisten.b = '@c'\nmax_memory = '1K'\n")
    shown = sdsupervise(ground, "config", "--config", file)
    found = {line.split()[0]: line.split("# ")[1] for line in shown.out.splitlines()}
    assert {key: found[key] for key in ("directory", "service", "max_memory")} == {
        "directory": f"{file}:1",
        "service": f"{file}:2",
        "max_memory": f"bytes, {file}:7",
    }
    assert (found["stop_timeout"], found["crash_limit"]) == (f"seconds, {file}:4", "class Service")
    assert (found["listen"], found["group"]) == (f"class Service, {file}:6", "class Service")
    assert (found["pid_file"], found["handover"], found["start_timeout"]) == ("default", "default", "seconds, default")
    assert not found.keys() & {"stop_signal", "command", "python", "user"}
    values = tomllib.loads(shown.out)
    assert (values["listen"], values["stop_timeout"]) == ({"a": "@a", "b": "@c"}, 9)
    assert (values["before_commit"], values["max_memory"]) == (["true"], 1024)
    assert check(ground, shown.out).out == "app: ok\n"
    assert tomllib.loads(sdsupervise(ground, "config", "--config", file).out) == values
    facts = json.loads(sdsupervise(ground, "config", "--json", "--config", file).out)
    assert {key: each["value"] for key, each in facts["values"].items()} == values
    assert facts["values"]["stop_timeout"]["unit"] == "seconds"


def test_what_a_command_runs_by(ground: Ground) -> None:
    """What is for a class only is not shown; nothing is imported."""
    file = ground.write("app.toml", 'command = ["/bin/sh"]\nready_after = 2\n')
    values = tomllib.loads(sdsupervise(ground, "config", "--config", file).out)
    assert (values["command"], values["ready_after"], values["stop_signal"]) == (["/bin/sh"], 2, "SIGTERM")
    assert not values.keys() & {"service", "arguments", "python"}


def test_no_half_truth(ground: Ground) -> None:
    """What a class says that cannot be imported is not known: then nothing is shown."""
    ground.deploy(1, service(before="1 / 0"))
    shown = sdsupervise(ground, "config", "--config", ground.write("app.toml", CLASS))
    assert (shown.wait(), shown.out) == (78, "")
    shown.expect_line("ZeroDivisionError")


# ------------------------------------------------------------------------------------- what a start would refuse

SLEEPS = "#!/bin/sh\nexec sleep 1000\n"


class Refused(NamedTuple):
    """A file with which nothing is wrong but on this host; `starts` is what a start says."""

    text: str
    sentence: str
    starts: str = ""  # "" = the same


REFUSED = {
    "directory of a socket": Refused(
        CLASS + "listen.a = '{ground}/none/a.sock'\n",
        r"Cannot listen on {ground}/none/a.sock \(listen 'a'\): its directory",
    ),
    "file for a directory": Refused(
        CLASS + "listen.a = '{ground}/file/a.sock'\n",
        r"Cannot listen on {ground}/file/a.sock \(listen 'a'\): its directory",
    ),
    "no socket": Refused(
        CLASS + "listen.a = '{ground}/file'\n",
        r"\(listen 'a'\): a file is there that is not a "
        "socket",
    ),
    "address": Refused(
        CLASS + "listen.a = '203.0.113.7:80'\n", r"203.0.113.7:80 \(listen 'a'\): this host has no such"
    ),
    "two ports": Refused(
        CLASS + "listen.a = '[::]:80'\nlisten.b = '0.0.0.0:80'\n",
        r"listen 'a' and 'b' cannot both be open: "
        r"\[::\]:80 and 0",
    ),
    "two paths": Refused(
        CLASS + "listen.a = '{ground}/a'\nlisten.b = '{ground}/lib/../a'\n", r"listen 'a' and 'b' have the same address"
    ),
    "own control socket": Refused(
        CLASS + "listen.a = '/run/sdsupervise/{name}/control'\n", r"where sdsupervise has its own control socket"
    ),
    "directory of a pid file": Refused(
        CLASS + "pid_file = '/none/x.pid'\n", "Cannot open the pid file /none/x.pid: No such"
    ),
    "pid file": Refused(
        CLASS + "pid_file = '{ground}/lib'\n",
        "The pid file {ground}/lib is not a regular file",
        "Cannot open the pid file {ground}/lib: Is a directory",
    ),
    "pid file's symlink": Refused(
        CLASS + "pid_file = '{ground}/current'\n",
        "The pid file {ground}/current is not a regular file",
        "Cannot open the pid file {ground}/current",
    ),
    "interpreter": Refused(
        "command = ['{ground}/interpreter']\nready_after = 0.1\n",
        "Cannot execute {ground}/interpreter: its first line names /no/such, which cannot be executed",
        "Cannot execute {ground}/interpreter: No such file",
    ),
    "interpreter in PATH": Refused(
        "command = ['{ground}/env']\nready_after = 0.1\n",
        "Cannot execute {ground}/env: its first line names no-such-interpreter, which is not in PATH",
        "no-such-interpreter",
    ),
    "Windows": Refused(
        "command = ['{ground}/windows']\nready_after = 0.1\n",
        "Cannot execute {ground}/windows: its first line, #!/bin/sh, ends in CR LF",
        "Cannot execute {ground}/windows: No such file",
    ),
    "no program": Refused(
        "command = ['{ground}/text']\nready_after = 0.1\n",
        "Cannot execute {ground}/text: it is neither a program nor a script",
        "Cannot execute {ground}/text: Exec format error",
    ),
    "ready too late": Refused(
        "command = ['{ground}/sleeps']\nready_after = 61\n",
        "2:15: ready_after is 61 s, but start_timeout ends a command that is not ready within 60 s; raise it",
    ),
    "module": Refused(
        "directory = 'current'\nservice = 'nowhere.at_all:X'\n",
        "There is no module nowhere in {ground}/current",
        "No module named 'nowhere'",
    ),
    "no package": Refused(
        "directory = 'current'\nservice = 'service.at_all:X'\n",
        "{ground}/current/service.py is not a package",
        "No module named 'service.at_all'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_start_refuses(ground: Ground, case: str) -> None:
    """`check` says it before, without --import; and so it is."""
    ground.deploy(1)
    for name, text in {
        "file": "",
        "sleeps": SLEEPS,
        "interpreter": "#!/no/such\n",
        "env": "#!/usr/bin/env no-such-interpreter\n",
        "windows": "#!/bin/sh\r\nsleep 1000\r\n",
        "text": "sleep 1000\n",
    }.items():
        ground.write(name, text, 0o755)
    known = {"ground": str(ground.directory), "name": ground.directory.name}
    text, sentence, starts = REFUSED[case]
    file = ground.write(f"{known['name']}.toml", text.format(**known))
    checked = sdsupervise(ground, "check", "--config", file)
    assert (checked.wait(), checked.out) == (78, "")
    checked.expect_line(sentence.format(**known))
    started = ground.run(SDSUPERVISE, "run", "--config", file)
    started.expect_line((starts or sentence).format(**known))
    started.signal(signal.SIGTERM)
    started.wait()


SAYS_READY = {
    "sends it": "#!/bin/sh\nsystemd-notify --ready\nexec sleep 1000\n",
    "asks": "#!/bin/sh\nsdsupervise ready; exec sleep 1000\n",
    "library": "#!/usr/bin/python3\nimport sdnotify\n",
}


def test_whether_a_command_says_when_it_is_ready(ground: Ground) -> None:
    """Where nothing shows that it does, that is said; it may do so all the same, so nothing is refused."""
    for name, text in {**SAYS_READY, "sleeps": SLEEPS}.items():
        ground.write(name, text, 0o755)
    for words in ["./sleeps"], ["sleep", "1000"], ["/bin/sh", "-c", "sleep 1000"], ["/bin/sh", "./sleeps"]:
        checked = check(ground, f"command = {words!r}\nstart_timeout = 7\n")
        assert (checked.wait(), checked.out) == (0, "app: ok\n")
        checked.expect_line(
            f"^app: The command is ready when {os.path.basename(words[0])} sends READY=1, but none of its files seems "
            "to send it. A command that does not send it is ended after start_timeout, 7 s. If it cannot send READY=1, "
            "set ready_after.$"
        )
        assert check(ground, f"command = {words!r}\nready_after = 1\n").err == ""
    says = [
        *([f"./{name}"] for name in SAYS_READY),
        ["/bin/sh", "./asks"],
        ["sh", "-c", "sdsupervise ready && sleep 9"],
    ]
    for words in [*says, ["gunicorn", "app:app"], ["haproxy", "-Ws", "-f", "/x"]]:
        ground.write("bin/gunicorn", SLEEPS, 0o755)
        ground.write("bin/haproxy", SLEEPS, 0o755)
        ground.write("app.toml", f"command = {words!r}\n")
        path = f"{ground.directory}/bin:{os.environ['PATH']}"
        checked = ground.run(SDSUPERVISE, "check", "--config", "app.toml", environment={"PATH": path})
        assert (checked.wait(), checked.err) == (0, ""), words


def test_a_variable_that_nobody_replaces(ground: Ground) -> None:
    """A command of a file has no shell: a remark names a word that seems to want one. What a shell gets is its own."""
    for words, variable in (
        ("'--port', '$PORT'", "$PORT"),
        ("'-b', '127.0.0.1:${PORT}'", "${PORT}"),
        ("'--port=$PORT'", "$PORT"),
        ("'/bin/sh', '-c', '$PORT'", ""),
        ("'{ print $1 }'", ""),
        ("'a$'", ""),
    ):
        checked = check(ground, f"command = ['/bin/true', {words}]\nready_after = 1\n")
        assert (checked.wait(), checked.out) == (0, "app: ok\n")
        assert (f"no shell replaces {variable} in it" in checked.err) == bool(variable), checked.err


def test_an_import_of_a_command(ground: Ground) -> None:
    """Nothing of a command is imported, and `--import` says so instead of a mere ok."""
    checked = check(ground, "command = ['/bin/true']\nready_after = 1\n", "--import")
    assert (checked.wait(), checked.out) == (0, "app: ok\n")
    assert checked.err == "app: --import imports nothing of a command; its files are checked, and it is not run.\n"


def test_what_is_so_only_now(ground: Ground) -> None:
    """An address that somebody has is said; who wants it for later may. One's own is not meant."""
    ground.deploy(1)
    name = ground.directory.name
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        checked = check(ground, CLASS + f"listen.a = '0.0.0.0:{port}'\n")
        assert (checked.wait(), checked.out) == (0, "app: ok\n")
        checked.expect_line(f"^app: A start would fail now: Cannot listen on 0.0.0.0:{port} .* it is in use")
    text = CLASS + f"listen.a = '127.0.0.1:{port}'\nlisten.b = '{ground.directory}/b'\nnotify_command = ['no-such']\n"
    file = ground.write(f"{name}.toml", text)
    ground.run(SDSUPERVISE, "run", "--config", file)
    ground.expect("serves")
    checked = sdsupervise(ground, "check", "--config", file)
    assert (checked.wait(), checked.out) == (0, f"{name}: ok\n")
    assert re.fullmatch(
        rf"{name}: notify_command: Cannot run no-such: there is no such program in PATH .*\n", checked.err
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("case", ["directory", "file", "port", "pid file"])
def test_what_the_user_may_not(ground: Ground, case: str) -> None:
    """The code of a class is loaded as the user that its file names: what that may not is said before, and is so."""
    ground.public_python()
    body = {"port": "listen = {'a': '127.0.0.1:81'}", "pid file": f"pid_file = '{ground.directory}/own.pid'"}
    place = ground.deploy(1, service(body.get(case, ""))).parent.resolve()
    if case == "directory":
        place.chmod(0o700)
    if case == "file":
        (place / "service.py").chmod(0o600)
    file = ground.write(f"{ground.directory.name}.toml", f"{CLASS}user = 'nobody'\n")
    python = ["/usr/bin/python3", "-m", "sdsupervise"]
    checked = ground.run(*python, "check", *["--import"] * (case in ("port", "pid file")), "--config", file)
    assert checked.wait() == 78
    checked.expect_line(
        {
            "directory": f"Cannot change to the directory {ground.current}: Permission denied",
            "file": f"Cannot load service.py:Service: uid [0-9]+ may not read {ground.current}/service.py",
            "port": r"Cannot listen on 127.0.0.1:81 \(listen 'a'\): port 81 needs a privilege",
            "pid file": f"Its code names the pid file {ground.directory}/own.pid, but that code is loaded as another "
            f"user",
        }[case]
    )
    started = ground.run(*python, "run", "--config", file)
    assert started.wait() != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("command", [["check", "--import"], ["config"]], ids=lambda words: words[0])
@pytest.mark.parametrize("user", ["nobody", "root"])
def test_an_import_gets_nothing_of_roots(ground: Ground, command: list[str], user: str) -> None:
    """The code of another user finds the environment of that user, and nobody's finds a descriptor of the caller's."""
    ground.public_python()
    says = """
        print(sorted(os.environ), os.environ.get("HOME"), os.environ["PATH"])
        print([os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")])
        """
    ground.deploy(1, service(before="\n".join(map(str.strip, says.splitlines()))))
    file = ground.write("app.toml", f"{CLASS}user = {user!r}\n")
    secret = ground.write("secret", "root's", 0o600)
    with secret.open() as held:
        python = ["/usr/bin/python3", "-m", "sdsupervise"]
        own = {"AWS_SECRET_ACCESS_KEY": "secret", "SSH_AUTH_SOCK": "/root/agent", "HOME": "/root", "LC_TIME": "C"}
        done = ground.run(*python, *command, "--config", file, environment=own, pass_fds=[held.fileno()])
        assert done.wait() == 0, done.err
    names = done.err.splitlines()[0]
    assert ("AWS_SECRET_ACCESS_KEY" in names, "SSH_AUTH_SOCK" in names) == (user == "root", user == "root")
    assert "'LC_TIME'" in names and names.endswith(os.environ["PATH"])
    assert ("] /root " in names) == (user == "root")
    assert str(secret) not in done.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
@pytest.mark.parametrize("case", ["file", "directory", "module", "python", "command", "before_commit", "app.toml"])
def test_code_that_others_may_write(ground: Ground, case: str) -> None:
    """A note names code that root would load, and that others may write; none does where root alone may, or where the
    file names the user as whom it is loaded. The file itself is always root's to read."""
    ground.deploy(1)
    release = ground.current.resolve()
    program = ground.write("program", "#!/bin/sh\n", mode=0o755)
    by_name = CLASS.replace("service.py:", "service:")
    venv = f"{CLASS}python = '{program}'\n"
    hook = f"{CLASS}before_commit = ['{program}']\n"
    text, written = {
        "file": (CLASS, release / "service.py"),
        "directory": (CLASS, release),
        "module": (by_name, release / "service.py"),
        "python": (venv, program),
        "command": (f"command = ['{program}']\nready_after = 0.1\n", program),
        "before_commit": (hook, program),
        "app.toml": (CLASS, ground.directory / "app.toml"),
    }[case]
    assert check(ground, text).err == ""
    os.chown(written, 61234, 61234)
    checked = check(ground, text)
    assert checked.wait() == 0
    assert checked.err.startswith(f"app: uid 61234 may write {written}, and root ")
    assert len(checked.err.splitlines()) == 1
    of_user = check(ground, f"user = 'daemon'\n{text}")
    assert (f"may write {written}, and root follows it" in of_user.err) == (case == "app.toml")
    assert ("may write" in of_user.err) == (case == "app.toml")


@pytest.mark.parametrize(
    "name",
    [
        "x\na b c ZZ e f g /h",
        "x\r0000: 00000002 00000000 000100ZZ 0001 01 7 /h",
        "\n0000000000000000: 00000002 00000000 00010000 0001 01 7 {taken}",
        "\n\n: \n0: 1 2 3",
        "\x85\u2028a b c d e f g h",
    ],
    ids=repr,
)
def test_a_socket_with_an_evil_name(ground: Ground, name: str) -> None:
    """Whatever another user calls his socket, the check of an instance is not for him to fail: at the most he has a
    note said."""
    ground.deploy(1)
    taken = str(ground.directory / "taken.sock")
    with socket.socket(socket.AF_UNIX) as evil:
        evil.bind(b"\0" + name.replace("{taken}", taken).encode()[:106])
        evil.listen()
        checked = check(ground, CLASS + f"listen.a = '{taken}'\n")
    assert (checked.wait(), checked.out) == (0, "app: ok\n")
    assert "A start would fail now" in checked.err if "{taken}" in name else not checked.err


def test_connections_that_somebody_makes_up() -> None:
    """A row in a name of another user's does not count a connection twice, nor what is none of these processes'."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as evil:
        listener.bind(f"\0sdsupervise-test-{os.getpid()}")
        listener.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(listener.getsockname())
            accepted, _ = listener.accept()
            with accepted, subprocess.Popen(["sleep", "1000"], pass_fds=[accepted.fileno()]) as process:
                inode = os.fstat(accepted.fileno()).st_ino
                rows = "".join(f"\n0: 00000003 00000000 00000000 0001 03 {each} /h" for each in (inode, 1))
                evil.bind(b"\0" + rows.encode())
                try:
                    assert connections([process.pid]) == 1
                finally:
                    process.kill()
