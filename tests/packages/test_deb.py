"""The Debian package: what is in it, and that whoever builds it gets the same."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import sdsupervise
from tests.packages.built import SHIPPED, TREE, build, built

# What it consists of beside the Python package; directories end in a slash.
FILES = {
    "/etc/default/sdsupervise",
    "/etc/needrestart/conf.d/sdsupervise.conf",
    "/etc/sdsupervise/",
    "/usr/bin/sdsupervise",
    "/usr/libexec/sdsupervise/removing",
    "/usr/libexec/sdsupervise/upgraded",
}
FOR_READERS_OF_THE_CODE = {"architecture.md", "invariants.md"}


def deb() -> Path:
    (path,) = built("deb").glob("*.deb")
    return path


def field(name: str) -> str:
    return subprocess.run(["dpkg-deb", "--field", deb(), name], stdout=subprocess.PIPE, text=True).stdout.strip()


def listed() -> set[str]:
    lines = subprocess.run(["dpkg-deb", "--contents", deb()], stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return {line.split(maxsplit=5)[5].removeprefix(".") for line in lines}


def test_contents() -> None:
    """It has the program, the Python package with its type marker, what an operator configures, and the examples."""
    files = listed()
    assert files >= FILES
    assert files >= {f"/usr/lib/python3/dist-packages/{name}" for name in SHIPPED}
    examples = {f"/usr/share/doc/sdsupervise/examples/{path.name}" for path in (TREE / "units/example").iterdir()}
    assert files >= {name for name in examples if "__pycache__" not in name}
    assert not [name for name in files if "/tests/" in name or name.endswith(".pyc")]


def test_all_that_is_shipped_is_in_it() -> None:
    """Each unit, catalog, completion and page of the tree is in the package."""
    names = {Path(name).name.removesuffix(".gz") for name in listed()}
    shipped = [
        *TREE.glob("units/*.*"),
        TREE / "packaging/example.toml",
        *TREE.glob("packaging/completion/*"),
        *(path for path in TREE.glob("packaging/doc/*.md") if path.name not in FOR_READERS_OF_THE_CODE),
        *TREE.glob("packaging/man/*.[1-8]"),
        *TREE.glob("packaging/man/*.[1-8].rst"),
    ]
    assert {path.name.removesuffix(".rst") for path in shipped} <= names


def test_dependencies() -> None:
    """It is for all architectures and of this version, and asks for what it imports."""
    assert (field("Architecture"), field("Version")) == ("all", f"{sdsupervise.__version__}-1")
    wanted = {word.split()[0] for word in field("Depends").split(", ")}
    assert wanted >= {"python3", "python3-psutil", "python3-sdnotify", "python3-systemd", "systemd"}


def test_lintian() -> None:
    """lintian finds neither an error nor a warning; each override says why."""
    (changes,) = built("deb").glob("*.changes")
    command = ["lintian", "--fail-on", "error,warning", "--info", str(changes)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout


def test_overrides_are_explained() -> None:
    """Each of lintian's tags that is overridden has a comment above it."""
    for path in (TREE / "packaging" / "debian").rglob("*lintian-overrides"):
        lines = path.read_text().splitlines()
        for before, line in zip(["", *lines], lines, strict=False):
            assert line.startswith("#") or before.startswith("#"), f"{path.name}: {line}"


def test_reproducible(tmp_path: Path) -> None:
    """Built again from the same tree, it and its source package are the same bytes."""
    build("deb", tmp_path / "again")
    for pattern in ("*.deb", "*.orig.tar.gz", "*.debian.tar.xz", "*.dsc"):
        (first,), (second,) = built("deb").glob(pattern), (tmp_path / "again").glob(pattern)
        assert digest(first) == digest(second), pattern


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_needrestart() -> None:
    """needrestart, whose settings are Perl, defers what we supervise, and nothing else."""
    config = str(TREE / "packaging/etc/needrestart/sdsupervise.conf")
    script = "our %nrconf; do $ARGV[0]; die $@ if $@; print grep { $ARGV[1] =~ /$_/ } keys %{$nrconf{override_rc}}"
    for unit, is_ours in (("sdsupervise@web.service", True), ("web.service", False), ("sdsupervised.service", False)):
        done = subprocess.run(["perl", "-we", script, config, unit], stdout=subprocess.PIPE, check=True)
        assert bool(done.stdout) is is_ours, unit


def test_scripts_are_for_any_shell() -> None:
    """sh can read the scripts that run as root on everybody's machine; that of Debian, which is no bash."""
    scripts = [TREE / "packaging" / "install", *(TREE / "packaging" / "scripts").iterdir()]
    scripts += [TREE / "packaging" / "debian" / name for name in ("postinst", "postrm", "prerm", "tests/service")]
    for script in scripts:
        assert subprocess.run(["dash", "-n", script]).returncode == 0
