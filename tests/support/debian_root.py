"""A minimal Debian root directory that `systemd-nspawn --boot` can start, built once and cached.

`debian_root("bookworm")` gives systemd 252, "trixie" gives 257. With `bare=True` nothing is installed that a fresh
Debian has not; what a package of ours asks for, and the tests of it, is in apt's cache. The directory is never written
to afterwards: machines put an overlay over it. Its name carries a hash of the recipe, so a changed recipe makes a new
one beside the old.

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
from collections.abc import Iterator, Sequence
from pathlib import Path

PACKAGES = (
    *("systemd-sysv", "dbus", "python3", "python3-systemd", "python3-sdnotify"),
    *("python3-psutil", "python3-setproctitle"),  # recommended
)
# Which tests/load has supervised or needs beside what it has, and tests/machines/units wraps.
PROGRAMS = ("haproxy", "redis-server", "puma", "uwsgi-core", "uwsgi-plugin-python3")

# What the page of recipes has supervised beside them, and tests/machines/units wraps. They have a root of their own.
OF_RECIPES = (
    *("nodejs", "gunicorn", "python3-uvicorn", "daphne", "python3-django", "python3-rq"),
    *("ruby-sd-notify", "ruby-sidekiq"),
    *("memcached", "mosquitto", "php-fpm"),
)

# What is in the cache of a bare root: what our package depends on, and a program to wrap.
DOWNLOADED = ("python3", "python3-systemd", "python3-sdnotify", "python3-psutil", "gunicorn", "rpm")

# The other Debian that the package is built on, with what debian/control names.
BUILDERS = {
    "trixie": (
        "build-essential",
        *("dpkg-dev", "debhelper", "dh-python", "pybuild-plugin-pyproject", "python3-all", "python3-docutils"),
        "python3-setuptools",
    )
}

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
MASKED_OF_RECIPES = ("memcached.service", "mosquitto.service", "php8.2-fpm.service", "php8.4-fpm.service")

# A test must see every line, also of a service that writes a thousand a second. The guardian is the syslog.
JOURNALD_SETTINGS = "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nForwardToSyslog=yes\n"

BUILD_LIMIT_SECONDS = 900


class RootUnavailable(Exception):
    """There is no Debian root and none can be built here; the message says why and what to do."""


def recipe(suite: str, more: Sequence[str] = ()) -> list[str]:
    """What mmdebstrap is told, but for the directory; `more` are packages."""
    masked = (*MASKED_UNITS, *MASKED_OF_RECIPES) if more else MASKED_UNITS
    mask = "".join(f' "$1/etc/systemd/system/{unit}"' for unit in masked)
    journald = '"$1/etc/systemd/journald.conf.d"'
    return [
        "--variant=minbase",
        "--mode=root",
        "--format=directory",
        f"--include={','.join((*PACKAGES, *PROGRAMS, *more))}",
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


def bare_recipe(suite: str) -> list[str]:
    """The same for a bare root; the suite may also be bookworm-backports, or sid."""
    base, _, addition = suite.partition("-")
    install = "apt-get --quiet --yes --no-install-recommends --download-only install"
    options = [
        "--variant=minbase",
        "--mode=root",
        "--format=directory",
        "--include=systemd-sysv,dbus,libpam-systemd",
        '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--skip=cleanup/apt",
        *(option for option in recipe(base) if option.startswith("--customize-hook=")),
        f'--customize-hook=chroot "$1" {install} {" ".join([*DOWNLOADED, *BUILDERS.get(suite, ())])}',
    ]
    if addition:
        mirror = f"deb http://deb.debian.org/debian {suite} main"
        options.append(f'--aptopt=APT::Default-Release "{suite}"')
        options.append(f"--setup-hook=echo '{mirror}' >\"$1/etc/apt/sources.list.d/{addition}.list\"")
    if base == "sid":
        options.append('--aptopt=Acquire::Check-Valid-Until "false"')  # signatures are still checked
    return [*options, base]


def cache_directory() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "sdsupervise"


def cached_path(suite: str, *, bare: bool = False, more: Sequence[str] = ()) -> Path:
    """Where the root of this suite is, or would be."""
    ingredients = bare_recipe(suite) if bare else recipe(suite, more)
    digest = hashlib.sha256(json.dumps(ingredients).encode()).hexdigest()[:12]
    return cache_directory() / f"debian-{suite}{'-bare' * bare}{'-more' * bool(more)}-{digest}"


def debian_root(suite: str, *, bare: bool = False, more: Sequence[str] = ()) -> Path:
    """The root of this suite, with more packages; built when it is not there yet, which takes about half a minute."""
    path = cached_path(suite, bare=bare, more=more)
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
            build(suite, path, bare_recipe(suite) if bare else recipe(suite, more))
    return path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on this file; the kernel lets it go with the process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(suite: str, path: Path, ingredients: list[str]) -> None:
    """Build the root beside its place and rename it, so that a directory of that name is always complete."""
    partial = Path(tempfile.mkdtemp(prefix=f"{path.name}.partial.", dir=path.parent))
    print(f"building a Debian {suite} root in {path} (once, about half a minute)", file=sys.stderr)
    try:
        done = subprocess.run(
            ["mmdebstrap", "--quiet", *ingredients, str(partial / "root")],
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
    """Print the path of the root of the suite named on the command line; of a bare one, if `bare` comes after that, and
    of that with the programs of the recipes, if `recipes` does."""
    suite = sys.argv[1] if len(sys.argv) > 1 else "bookworm"
    more = OF_RECIPES if sys.argv[2:] == ["recipes"] else ()
    try:
        print(debian_root(suite, bare=sys.argv[2:] == ["bare"], more=more))
    except RootUnavailable as error:
        print(error, file=sys.stderr)
        return 69
    return 0


if __name__ == "__main__":
    sys.exit(main())
