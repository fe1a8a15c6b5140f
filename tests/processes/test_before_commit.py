"""before_commit reaches the new code and nobody else, however it listens, while clients go on being served."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.docs.documents import CLONE
from tests.processes.test_sockets import ask, host, port
from tests.support.harness import PYTHON, SDSUPERVISE, Ground
from tests.support.running import wait_gone
from tests.support.site import (
    REQUESTS,
    Listens,
    Site,
    addresses,
    everybody_is_served_by,
    listens,
    load,
    mixed,
    nobody_is_held,
    site,
    site_of,
)

__all__ = ["host", "listens", "mixed", "port", "site"]  # fixtures


def test_every_request_of_a_check_reaches_the_new_release(site: Site, listens: Listens) -> None:
    """Also in the first reload to a release that has a check, and in those after it. A bad release never passes, a good
    one after it does, whatever the one that serves would say; and no client loses a request."""
    site.deploy(1, "bad", checks=0)
    site.start()
    addresses = listens.addresses
    expected = REQUESTS * len(site.listen)
    with load(*addresses) as met:
        for release, quality in (2, "good"), (3, "bad"), (4, "good"), (5, "bad"), (6, "bad"), (7, "good"):
            site.deploy(release, quality)
            before = int(str(site.status()["pid"]))
            done = site.reload()
            assert (done.wait() == 0) == (quality == "good"), done.err
            assert sum(site.answers().values()) == expected
            assert {answered for answered, _ in site.answers()} == {str(release)}
            serving = str(release) if quality == "good" else str(release - 1 if release < 6 else 4)
            for address in addresses:
                assert [ask(address)[0] for _ in range(5)] == [serving] * 5
            if quality == "good":
                wait_gone(before)  # else the next release would need its lane at once, and it could finish nothing
    assert met["lost"] == 0
    assert {"1", "2", "4"} <= set(met) <= {"1", "2", "4", "7"}
    site.stop()


def test_what_a_check_is_told(ground: Ground, host: str, port: int) -> None:
    """Where each listener can be reached from this host, from which ports, who is checked, and of how many workers. The
    socket beside a path has the mode of that path, is the one that takes it, and then has left its own place."""
    path = ground.directory / "app.sock"
    listen = {"web": f"0.0.0.0:{port}", "admin-x": {"address": str(path), "mode": "0640"}}
    with site_of(ground, "class", listen) as site:
        site.deploy(1)
        site.start()
        beside = Path(f"{path}.next")
        for release in 2, 3:
            ground.make_gate()
            site.deploy(release, workers=2)
            reload = site.reload_process()
            ground.expect("checks")
            assert stat.S_IMODE(beside.lstat().st_mode) == stat.S_IMODE(path.lstat().st_mode) == 0o640
            inode = beside.lstat().st_ino
            assert path.lstat().st_ino != inode
            ground.open_gate()
            assert reload.wait() == 0
            assert path.lstat().st_ino == inode and not beside.exists()
            (ground.directory / "gate").unlink()
            told = dict(ground.expect("checked").details)
            for name in "answers", "SDSUPERVISE_RUN_DIRECTORY":
                told.pop(name, None)
            assert told == {
                "SDSUPERVISE_GENERATION": str(release),
                "SDSUPERVISE_WORKERS": "2",
                "SDSUPERVISE_LOCAL_PORTS": "61000-61999",
                "SDSUPERVISE_LISTEN_WEB": f"127.0.0.1:{port}",
                "SDSUPERVISE_LISTEN_ADMIN_X": str(beside),
            }
            sockets = site.status()["sockets"]
            assert isinstance(sockets, list)
            assert [entry["address"] for entry in sockets] == [f"0.0.0.0:{port}", str(path)]
        site.stop()
        assert not path.exists()


def shown_on(page: str) -> list[str]:
    """The check that a page shows."""
    found = re.search(r'before_commit = (\["curl"[^]]*\])', (CLONE / page).read_text())
    assert found is not None
    words: list[str] = json.loads(found[1])
    return words


@pytest.mark.parametrize("page", ["README.md", "packaging/man/sdsupervise.toml.5.rst", "packaging/doc/guide.md", ""])
def test_what_the_pages_show(ground: Ground, host: str, port: int, page: str) -> None:
    """Each curl command that a page shows reaches the new release, as often as it runs; so does one at a path, as the
    manual page tells of it."""
    path = ground.directory / "app.sock"
    words = shown_on(page) if page else ["curl", "-fsS", "--unix-socket", f"{path}.next", "http://localhost/health"]
    words[-1] = re.sub(r"127\.0\.0\.1:\d+", f"{host}:{port}", words[-1])
    web = (CLONE / "units/example/web.py").read_text()
    with site_of(ground, "class", {"http": f"{host}:{port}" if page else str(path)}) as site:
        for release in 1, 2, 3:
            site.deploy(release, checks=0)
            code = web.replace("RELEASE = 1", f"RELEASE = {release}").replace("class Web", "class Service")
            ground.write(f"releases/{release}/service.py", code.replace('"127.0.0.1:8080"', "None"))
            loop = f"for n in $(seq {REQUESTS}); do {shlex.join(words)} || exit; done >{ground.directory}/said"
            with (ground.directory / f"{site.name}.toml").open("r+") as file:
                text = file.read()
                file.seek(0)
                file.write(f"before_commit = {json.dumps(['/bin/sh', '-c', loop])}\n{text}")
            if release == 1:
                site.start()
            else:
                assert site.reload().wait() == 0
                assert (ground.directory / "said").read_text() == f"release {release}\n" * REQUESTS


# ------------------------------------------------------------------------------------------------------- probation


def test_probation_has_clients(mixed: Site) -> None:
    """New code on probation gets the new clients. When a worker of it dies the old code gets them back; who waits then
    for a worker that does not live any more is hung up on, and not left waiting."""
    site = mixed
    site.deploy(1)
    site.start()
    for release in 2, 3:
        site.deploy(release, probation=60.0)
        reload = site.reload_process()
        worker = site.ground.expect("serves", release=release)
        site.ground.expect("checked", SDSUPERVISE_GENERATION=2)
        reload.expect_line("on probation", "out")
        with load(*addresses(site)) as met:
            for address in addresses(site):
                assert ask(address)[0] == str(release)
            os.kill(worker.pid, signal.SIGKILL)
            assert reload.wait() == 1
        assert set(met) <= {"1", str(release), "lost"}
        site.status()  # by now the old one has removed what is left of the new code's
        everybody_is_served_by(site, 1)
    site.stop()


# ----------------------------------------------------------------------------------------------- each of the workers


@pytest.mark.parametrize("listens", ["v4", "unix"], indirect=True)
def test_each_worker_is_checked(site: Site, listens: Listens) -> None:
    """The check runs once for each, is told whom it is about, and that one answers. A single bad worker is found; no
    client notices, and nobody stays held."""
    ground = site.ground
    site.deploy(1, workers=2, before_commit_each=True)
    site.start()
    with load(*listens.addresses) as met:
        for release, quality in (2, "good"), (3, "'good' if index != '1' else 'bad'"), (4, "good"):
            site.deploy(release, quality, workers=3, before_commit_each=True)
            before = int(str(site.status()["pid"]))
            done = site.reload()
            assert (done.wait() == 0) == (quality == "good"), done.err
            if quality == "good":
                wait_gone(before)
            runs = [ground.expect("checked") for _ in range(3 if quality == "good" else 2)]
            for index, run in enumerate(runs):
                assert run.said("SDSUPERVISE_WORKER_INDEX") == str(index)
                answers = Counter(tuple(answer.split()) for answer in run.said("answers").split(","))
                assert len(answers) == 1 and answers.total() == REQUESTS
                ((answered, _, pid, number),) = answers
                assert (answered, pid, number) == (str(release), run.said("SDSUPERVISE_WORKER_PID"), str(index))
            if quality != "good":
                assert "NOT RELOADED: before_commit for worker 1 (" in done.err
    assert met["lost"] == 0
    assert nobody_is_held(site)
    site.stop()


# Answers as the process that leads it, by children of which one has left its group.
PREFORK = """
import threading
release, leader, index = "RELEASE", os.getpid(), os.environ["SDSUPERVISE_WORKER_INDEX"]
listener = socket.socket(fileno=3)
for child in range(3):
    if os.fork() == 0:
        if child == 2:
            os.setsid()
        while True:
            client, _ = listener.accept()
            with client:
                client.sendall(f"{release} good {leader} {index}".encode())
leave_on(signal.SIGTERM)
report("serves", release=release)
notify("READY=1")
wait()
"""


def test_workers_are_held_with_all_their_processes(ground: Ground, host: str, port: int) -> None:
    """What a worker has started, and what has left its process group, does not answer for another one either."""
    with site_of(ground, "command", {"a": f"{host}:{port}"}) as site:
        for release in 1, 2:
            site.deploy(release, workers=3, before_commit_each=True)
            ground.program(release, PREFORK.replace("RELEASE", str(release)))
            if release == 1:
                site.start()
        assert site.reload().wait() == 0
        for _ in range(3):
            run = ground.expect("checked")
            assert {answer.split()[2] for answer in run.said("answers").split(",")} == {
                run.said("SDSUPERVISE_WORKER_PID")
            }
        assert nobody_is_held(site)


# --------------------------------------------------------------------------------------- where it cannot be promised

_NO = "With handover overlap, before_commit cannot reach only the new code at "


@pytest.mark.parametrize("kind", ["class", "command"])
@pytest.mark.parametrize(
    ("listen", "settings", "sentence"),
    [
        ({}, {}, "With handover overlap, before_commit can reach only the new code through the sockets in listen"),
        ({"a": "@a"}, {}, _NO + "the abstract address @a (listen 'a')"),
        ({"a": {"address": "1", "reuse_port": True}}, {}, _NO + "1 (listen 'a'), where other programs may listen"),
        ({"a-b": "1", "a_b": "2"}, {}, "listen 'a-b' and 'a_b' are both $SDSUPERVISE_LISTEN_A_B for before_commit"),
        ({"a": "/" + 102 * "x"}, {}, "is too long for before_commit"),
        ({"a": "/x.next"}, {}, "'/x.next' ends in .next, which stands for the socket of the next generation."),
        (
            {"a": "1"},
            {"handover": "exclusive", "before_commit_each": True},
            "before_commit_each is for handover overlap",
        ),
        ({"a": "ROOTS"}, {"user": "nobody"}, "/roots: put the socket into a directory of the service's own"),
    ],
)
def test_what_is_refused(
    ground: Ground, kind: str, listen: dict[str, object], settings: dict[str, Any], sentence: str
) -> None:
    """Before it starts, by `check`, and by a reload, with one sentence; the old code serves on."""
    roots, file = ground.directory / "roots", f"{ground.directory.name}.toml"
    roots.mkdir()
    listen = {name: f"{roots}/x" if address == "ROOTS" else address for name, address in listen.items()}
    sdsupervise: tuple[str, ...] = (SDSUPERVISE,)
    with site_of(ground, kind, listen) as site:
        site.deploy(1, **settings)
        if "user" in settings:  # one who may not enter the directory of our own Python
            python = ground.public_python()
            sdsupervise = (python, "-m", "sdsupervise")
            for script in ground.current.iterdir():
                script.write_text(script.read_text().replace(f"#!{PYTHON}", f"#!{python}"))
        for command in ("run",), ("check", "--import"):
            refused = ground.run(*sdsupervise, *command, "--config", file)
            assert refused.wait() == 78
            assert sentence in refused.err and refused.err.count("\n") == 1
        if "user" in settings:
            return  # no reload changes the user
        site.listen = {"a": str(ground.directory / "app.sock")}
        site.deploy(2)
        site.start()
        site.listen = listen
        site.deploy(3, **settings)
        reloaded = site.reload()
        assert reloaded.wait() == 1
        why = "a reload does not change the user" if "user" in settings else sentence
        assert why in reloaded.out + reloaded.err
        assert ask(str(ground.directory / "app.sock"))[0] == "2"


@pytest.mark.parametrize("kind", ["class", "command"])
@pytest.mark.parametrize("place", ["port", "path"])
def test_words_that_reach_the_old_code(ground: Ground, host: str, port: int, kind: str, place: str) -> None:
    """`check` warns of them, and so do the start and each reload, in one sentence that says what to write instead;
    nothing is refused, for a program may bind to the ports itself."""
    path = ground.directory / "app.sock"
    with site_of(ground, kind, {"a": f"{host}:{port}" if place == "port" else str(path)}) as site:
        named = f"http://127.0.0.1:{port}/" if place == "port" else f"--unix-socket={path}"
        instead = "curl does with --local-port 61000-61999" if place == "port" else f"write {path}.next, the socket of"
        site.deploy(1, checks=0, before_commit=["true", named])
        checked = ground.run(SDSUPERVISE, "check", "--config", f"{site.name}.toml")
        assert (checked.wait(), checked.out) == (0, f"{site.name}: ok\n")
        warning = re.compile(rf"before_commit names .* \(listen 'a'\), where the old code .*; .*{re.escape(instead)}")
        assert len(warning.findall(checked.err)) == checked.err.count("\n") == 1
        running = site.start()
        assert len(warning.findall(running.err)) == 1
        site.deploy(2, checks=0, before_commit=["true", named])
        assert site.reload().wait() == 0
        assert running.wait() == 0
        assert len(warning.findall(running.err)) == 2
        site.stop()
