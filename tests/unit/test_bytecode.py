"""Which compiled files the service's own code is loaded from: those that are proven to be of their source, and that
nobody wrote who may not write the source."""

from __future__ import annotations

import importlib.util
import marshal
import os
import py_compile
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdsupervise.code import bytecode, own_code
from sdsupervise.code.code_version import CodeVersion

BY_TIME, CHECKED, UNCHECKED = py_compile.PycInvalidationMode
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
SOMEBODY, OTHER = 12345, 12346


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No knowledge from another test, nor for one; compiled files are written."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(own_code, "_loaded", {})
    monkeypatch.setattr(own_code, "_unreported", [])
    bytecode._may_change.cache_clear()
    yield
    bytecode._may_change.cache_clear()


@pytest.fixture
def own() -> Iterator[Path]:
    """A directory that nobody else can lead us away from."""
    made = subprocess.run(["mktemp", "-d", "/var/tmp/sds-XXXXXX"], capture_output=True, text=True, check=True)
    place = Path(made.stdout.strip())
    place.chmod(0o755)
    yield place
    subprocess.run(["rm", "-r", place], check=True)


def source_in(place: Path, word: str = "new") -> Path:
    path = place / "module.py"
    path.write_text(f"WORD = {word!r}\n")
    return path


def compiled(path: Path, mode: py_compile.PycInvalidationMode = BY_TIME, word: str = "cached") -> Path:
    """Its compiled file as if it were right, with another word, so that its use shows."""
    file = Path(py_compile.compile(str(path), invalidation_mode=mode, doraise=True) or "")
    other = compile(f"WORD = {word!r}\n", str(path), "exec")
    file.write_bytes(file.read_bytes()[: bytecode.HEADER_BYTES] + marshal.dumps(other))
    return file


def loaded(path: Path) -> str:
    """The word that the module has for us."""
    spec = importlib.util.spec_from_file_location("module", path)
    assert spec is not None
    own_code.replace_loader(spec, str(path))
    module = importlib.util.module_from_spec(spec)
    assert spec.loader is not None
    spec.loader.exec_module(module)
    return str(module.WORD)


def is_by_hash(path: Path) -> bool:
    header = Path(importlib.util.cache_from_source(str(path))).read_bytes()[: bytecode.HEADER_BYTES]
    return header == bytecode.read_source(str(path))[0].hash_header


@pytest.mark.parametrize("mode", [CHECKED, UNCHECKED])
def test_by_hash(own: Path, mode: py_compile.PycInvalidationMode) -> None:
    """What has the source's hash is used; when the source is another, whatever its times, it is written anew."""
    path = source_in(own)
    compiled(path, mode)
    assert loaded(path) == "cached"
    before = path.stat()
    source_in(own, "two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert loaded(path) == "two" and is_by_hash(path)


def test_by_time(own: Path) -> None:
    """What only has the source's time and size is replaced by one with its hash, which the next start uses."""
    path = source_in(own)
    compiled(path)
    assert loaded(path) == "new" and is_by_hash(path)
    compiled(path, CHECKED)
    assert loaded(path) == "cached"


@pytest.mark.parametrize("why", ["installed", "none are written"])
def test_by_time_where_it_stays(own: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """Where it is not for us to replace, it is used if it was written after its source was last changed, by the
    kernel's clock, which `touch -d` does not set."""
    if why == "installed":
        own = own / "lib/site-packages"
        own.mkdir(parents=True)
    else:
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = source_in(own)
    wait_for_tick(path)
    file = compiled(path)
    assert loaded(path) == "cached"
    long_ago = (0, 1_000_000_000 * 10**9)
    os.utime(file, ns=long_ago)  # it came with a copy of the directory, say
    assert loaded(path) == "new"
    compiled(path)
    assert loaded(path) == "cached"
    wait_for_tick(path)
    before = path.stat()
    source_in(own, "two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert loaded(path) == "two"


def wait_for_tick(path: Path) -> None:
    """Until the clock of files has gone on."""
    probe = path.with_name("probe")
    while True:
        probe.write_text("")
        if probe.stat().st_ctime_ns > path.stat().st_ctime_ns:
            return


@pytest.mark.parametrize("how", ["clock set back", "another cache"])
def test_by_time_that_proves_nothing(own: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """A file from the future, or from a directory that files of several releases share, is not used."""
    path = source_in(own)
    wait_for_tick(path)
    if how == "another cache":
        monkeypatch.setattr(sys, "pycache_prefix", str(own / "cache"))
    file = compiled(path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    if how == "clock set back":
        later = time.time_ns() + 10**12
        os.utime(file, ns=(later, later))
        monkeypatch.setattr(time, "time_ns", lambda: path.stat().st_ctime_ns - 1)
    assert loaded(path) == "new"


@needs_root
@pytest.mark.parametrize(
    ("owner", "mode", "source_owner", "source_mode", "used"),
    [
        (0, 0o644, 0, 0o644, True),
        (SOMEBODY, 0o644, 0, 0o644, False),
        (SOMEBODY, 0o644, SOMEBODY, 0o644, True),
        (OTHER, 0o644, SOMEBODY, 0o644, False),
        (0, 0o664, 0, 0o644, False),
        (0, 0o664, 0, 0o664, True),
        (0, 0o646, 0, 0o644, False),
        (0, 0o666, 0, 0o666, True),
        (65534, 0o644, 65534, 0o644, False),
    ],
)
def test_whose_it_is(own: Path, owner: int, mode: int, source_owner: int, source_mode: int, used: bool) -> None:
    """Root uses no file that may be written by somebody who may not write the source; nor one of the nobody that
    stands for everybody who has no number in a user namespace."""
    path = source_in(own)
    file = compiled(path, CHECKED)
    os.chown(file, owner, 0)
    file.chmod(mode)
    os.chown(path, source_owner, 0)
    path.chmod(source_mode)
    assert loaded(path) == ("cached" if used else "new")


@pytest.mark.parametrize("what", ["fifo", "symlink", "cut short", "empty", "directory"])
def test_what_is_none(own: Path, what: str) -> None:
    """Whatever else lies there is left alone: nobody waits for a FIFO, or follows a symlink."""
    path = source_in(own)
    file = compiled(path, CHECKED)
    content = file.read_bytes()
    file.unlink()
    match what:
        case "fifo":
            os.mkfifo(file)
        case "symlink":
            (own / "elsewhere").write_bytes(content)
            file.symlink_to(own / "elsewhere")
        case "cut short":
            file.write_bytes(content[:9])
        case "empty":
            file.touch()
        case "directory":
            file.mkdir()
    assert loaded(path) == "new"


@needs_root
@pytest.mark.parametrize("how", ["owner", "parent's owner", "writable by others", "symlink"])
def test_where_root_writes_nothing(own: Path, how: str) -> None:
    """Root writes no file where somebody else could put another directory in its place."""
    release = own / "app/release"
    release.mkdir(parents=True)
    path = source_in(release)
    match how:
        case "owner":
            os.chown(release, SOMEBODY, 0)
        case "parent's owner":
            os.chown(own / "app", SOMEBODY, 0)
        case "writable by others":
            (own / "app").chmod(0o777)
        case "symlink":
            (own / "link").symlink_to(release)
            path = own / "link/module.py"
    assert loaded(path) == "new"
    assert not (release / "__pycache__").exists()


def test_mode_of_what_is_written(own: Path) -> None:
    """Who may not read the source may not read the compiled file; and nobody else may write it."""
    for mode, expected in ((0o600, 0o600), (0o664, 0o644), (0o755, 0o644)):
        path = source_in(own, f"{mode:o}")
        path.chmod(mode)
        assert loaded(path) == f"{mode:o}"
        assert Path(importlib.util.cache_from_source(str(path))).stat().st_mode & 0o777 == expected


def test_a_file_says_where_it_is(own: Path) -> None:
    """A compiled file that came from elsewhere with its source shows the source's place in tracebacks."""
    path = source_in(own)
    path.write_text("import sys\nWORD = sys._getframe().f_code.co_filename\n")
    py_compile.compile(str(path), dfile="/build/module.py", invalidation_mode=CHECKED)
    assert loaded(path) == str(path)


def test_what_is_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All below the directory that a service was found in, which may be /; but not Python's own, nor the system's
    packages, nor ours."""
    monkeypatch.setattr(own_code, "_directories", [])
    own_code.watch(["/"])
    assert own_code.is_own("/service.py") and own_code.is_own("/opt/venv/lib/python3.11/site-packages/x.py")
    for file in (os.__file__, "/usr/lib/python3/dist-packages/psutil/__init__.py", own_code.__file__):
        assert not own_code.is_own(own_code.resolved(file))
    monkeypatch.setattr(own_code, "_directories", ["/srv/app"])
    assert not own_code.is_own("/srv/application/x.py")
    monkeypatch.setattr(own_code, "_directories", ["", "/usr/lib/python3/dist-packages/app"])
    assert own_code.is_own("/usr/lib/python3/dist-packages/app/x.py")
    assert own_code.directories_of("/srv/app/one.py", None) == ["/srv/app"]
    assert own_code.directories_of("/srv/app/package/__init__.py", ["/srv/app/package"]) == ["/srv/app"]
    packages = tmp_path / "lib/python3.11/site-packages"
    assert own_code.directories_of(None, [str(packages / "app")]) == [str(packages / "app")]
    assert own_code.directories_of(str(packages / "app.py"), None) == [str(packages / "app.py")]


def test_a_hash_is_the_same_in_each_python(tmp_path: Path) -> None:
    """Who asks whether a service is outdated may run in another Python than the service; of a file of any size it is
    that of its content."""
    assert own_code.hash_of(b"print('hello')\n") == "f43beefdeb2556ba"
    for size in (0, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20):
        (tmp_path / "file").write_bytes(b"x" * size)
        assert own_code.hash_of_file(str(tmp_path / "file")) == own_code.hash_of(b"x" * size)
    os.mkfifo(tmp_path / "fifo")
    for path in str(tmp_path / "fifo"), "/dev/zero", str(tmp_path), str(tmp_path / "none"):
        with pytest.raises(OSError):
            own_code.hash_of_file(path)


def test_what_workers_say_of_their_code() -> None:
    """A code version grows by what workers have imported, whoever says it first; contradictions are told; and there is
    a limit to what they may say."""
    ours = [own_code.Loaded("a", "/srv/a.py", "1" * 16)]
    code_version = CodeVersion("/srv", "", ours)
    before = code_version.fingerprint
    assert code_version.add(ours) == [] and code_version.fingerprint == before
    late = own_code.Loaded("b", "/srv/b.py", "2" * 16)
    assert code_version.add([late]) == [] and code_version.add([late]) == []
    assert before != code_version.fingerprint == CodeVersion("/srv", "", [late, *ours]).fingerprint
    assert code_version.add([own_code.Loaded("a", "/srv/a.py", "3" * 16)]) == ["/srv/a.py"]
    assert code_version.modules == [("a", "/srv/a.py"), ("b", "/srv/b.py")]
    assert CodeVersion(*code_version.facts()).fingerprint == code_version.fingerprint
    for number in range(200):
        code_version.add([own_code.Loaded(f"{number}", "x" * 60_000, "")])
    assert len(code_version.modules) < 100
