"""A minimal Debian root directory that `systemd-nspawn --boot` can start, built once and cached.

`debian_root("bookworm")` gives systemd 252, "trixie" gives 257. The directory is never written to afterwards:
machines put an overlay over it. Its name carries a hash of the recipe, so a changed recipe makes a new one
beside the old.

Alternatives considered: debootstrap takes twice as long; an overlay over the host's own root needs no
building but tests whatever is installed there; a container registry would be one more place that must be
reachable.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("systemd-sysv", "dbus", "python3", "python3-systemd", "python3-sdnotify", "python3-psutil")
PROGRAMS = ("haproxy", "redis-server")  # which tests/load has supervised, or needs beside what it has

# Work that systemd would start by itself in the middle of a test, and services that only a test starts.
MASKED_UNITS = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "haproxy.service",
    "redis-server.service",
)

# A test must see every line, also of a service that writes a thousand a second. The guardian is the syslog.
JOURNALD_SETTINGS = "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nForwardToSyslog=yes\n"

BUILD_LIMIT_SECONDS = 900


class RootUnavailable(Exception):
    """There is no Debian root and none can be built here; the message says why and what to do."""


def recipe(suite: str) -> list[str]:
    """What mmdebstrap is told, but for the directory."""
    mask = "".join(f' "$1/etc/systemd/system/{unit}"' for unit in MASKED_UNITS)
    journald = '"$1/etc/systemd/journald.conf.d"'
    return [
        "--variant=minbase",
        "--mode=root",
        "--format=directory",
        f"--include={','.join(PACKAGES + PROGRAMS)}",
        '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        # Not chroot: these run on the outside, with the root as $1.
        f'--customize-hook=for unit in{mask}; do ln -sf /dev/null "$unit"; done',
        f"--customize-hook=mkdir -p {journald} && printf '%s' '{JOURNALD_SETTINGS}' >{journald}/tests.conf",
        # Present but empty: every boot gets an id of its own, and is not a first boot, which would enable
        # units.
        '--customize-hook=: >"$1/etc/machine-id"',
        suite,
    ]


def cache_directory() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "sdsupervise"


def cached_path(suite: str) -> Path:
    """Where the root of this suite is, or would be."""
    digest = hashlib.sha256(json.dumps(recipe(suite)).encode()).hexdigest()[:12]
    return cache_directory() / f"debian-{suite}-{digest}"


def debian_root(suite: str) -> Path:
    """The root of this suite; built when it is not there yet, which takes about half a minute."""
    path = cached_path(suite)
    if path.is_dir():
        return path
    if os.geteuid() != 0:
        raise RootUnavailable(
            "Only root can build the Debian root to boot: run packaging/provision as root, or set SYSTEMD=no."
        )
    if shutil.which("mmdebstrap") is None:
        raise RootUnavailable("mmdebstrap is missing; packaging/provision installs it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(path.name + ".lock")):
        if not path.is_dir():  # somebody else may have built it while we waited for the lock
            build(suite, path)
    return path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on this file; the kernel lets it go with the process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(suite: str, path: Path) -> None:
    """Build the root beside its place and rename it, so that a directory of that name is always complete."""
    partial = Path(tempfile.mkdtemp(prefix=f"{path.name}.partial.", dir=path.parent))
    print(f"building a Debian {suite} root in {path} (once, about half a minute)", file=sys.stderr)
    try:
        done = subprocess.run(
            ["mmdebstrap", "--quiet", *recipe(suite), str(partial / "root")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILD_LIMIT_SECONDS,
            # Not pyenv's python or somebody's apt: only what Debian installed.
            env={
                **os.environ,
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "TMPDIR": str(partial),
                "LC_ALL": "C.UTF-8",
            },
        )
        if done.returncode != 0:
            tail = "\n".join(done.stdout.splitlines()[-20:])
            raise RootUnavailable(f"mmdebstrap could not build Debian {suite} (status {done.returncode}):\n{tail}")
        (partial / "root").rename(path)
    except subprocess.TimeoutExpired as error:
        raise RootUnavailable(f"mmdebstrap did not build Debian {suite} in {BUILD_LIMIT_SECONDS} s.") from error
    finally:
        # Should mmdebstrap have died with /dev still mounted in there, then not the host's /dev.
        subprocess.run(["rm", "-rf", "--one-file-system", str(partial)], check=False)


def main() -> int:
    """Print the path of the root of the suite named on the command line."""
    suite = sys.argv[1] if len(sys.argv) > 1 else "bookworm"
    try:
        print(debian_root(suite))
    except RootUnavailable as error:
        print(error, file=sys.stderr)
        return 69
    return 0


if __name__ == "__main__":
    sys.exit(main())
