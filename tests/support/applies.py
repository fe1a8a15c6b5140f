"""Which changes of a unit a reload applies, and which need a restart; packaging/doc/systemd.md shows the table.

Every row is held by a test. Those of SETTINGS are measured all alike: a unit with the old value is started, the value
on disk changed, `systemctl daemon-reload`, then a reload, then a restart; each time the worker is asked. A row says
that a reload applies the setting if the worker finds the same after the reload as after the restart.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple


class Applied(Enum):
    """When a change on disk comes into force, beside the `systemctl daemon-reload` that every change needs."""

    BY_RELOAD = "a reload"
    BY_RESTART = "a restart"
    REFUSED = "a restart; a reload fails, and the old code keeps serving"
    AT_ONCE = "nothing more"


class Setting(NamedTuple):
    """A setting that a worker can tell the value of."""

    name: str
    old: str
    new: str
    probe: str  # a Python expression; {home} is the service's directory
    applied: Applied = Applied.BY_RELOAD


# `{home}` holds a directory `one` and one `two`, each with a file `marker` and a file `token`.
SETTINGS: Sequence[Setting] = (
    Setting("Environment=", "COLOUR=red", "COLOUR=green", "os.environ.get('COLOUR')"),
    Setting("EnvironmentFile=", "{home}/one/token", "{home}/two/token", "os.environ.get('TOKEN')"),
    Setting("UnsetEnvironment=", "NOTHING", "LANG", "os.environ.get('LANG')"),
    Setting("WorkingDirectory=", "{home}/one", "{home}/two", "os.getcwd()"),
    Setting("LimitNOFILE=", "1000", "2000", "resource.getrlimit(resource.RLIMIT_NOFILE)"),
    Setting("LimitCORE=", "0", "1M", "resource.getrlimit(resource.RLIMIT_CORE)"),
    Setting("LimitSTACK=", "4M", "5M", "resource.getrlimit(resource.RLIMIT_STACK)"),
    Setting("LimitMEMLOCK=", "1M", "2M", "resource.getrlimit(resource.RLIMIT_MEMLOCK)"),
    Setting("UMask=", "0022", "0077", "status('Umask')"),
    Setting("Nice=", "0", "5", "read('/proc/self/stat').split()[18]"),
    Setting("CPUSchedulingPolicy=", "other", "batch", "os.sched_getscheduler(0)"),
    Setting("CPUAffinity=", "", "0", "sorted(os.sched_getaffinity(0))"),
    Setting("OOMScoreAdjust=", "100", "200", "read('/proc/self/oom_score_adj')"),
    Setting("TimerSlackNSec=", "50us", "60us", "read('/proc/self/timerslack_ns')"),
    Setting("CoredumpFilter=", "private-anonymous", "all", "read('/proc/self/coredump_filter')"),
    Setting("Group=", "daemon", "mail", "os.getgid()"),
    Setting("SupplementaryGroups=", "games", "audio video", "sorted(os.getgroups())"),
    Setting("StandardOutput=", "journal", "append:{home}/output", "os.readlink('/proc/self/fd/1').partition('[')[0]"),
    Setting("NoNewPrivileges=", "no", "yes", "status('NoNewPrivs')"),
    Setting("CapabilityBoundingSet=", "~CAP_SYS_BOOT", "~CAP_SYS_BOOT CAP_SYS_TIME", "status('CapBnd')"),
    Setting("SystemCallFilter=", "", "~getpriority", "can(lambda: os.getpriority(os.PRIO_PROCESS, 0))"),
    Setting("RestrictAddressFamilies=", "", "AF_UNIX AF_INET", "can(lambda: socket.socket(socket.AF_INET6))"),
    Setting("MemoryDenyWriteExecute=", "no", "yes", "can(lambda: mmap.mmap(-1, 4096, prot=7))"),
    Setting("ProtectSystem=", "no", "strict", "os.access('/srv', os.W_OK)"),
    Setting("ProtectHome=", "no", "yes", "os.path.exists('/root/marker')"),
    Setting("PrivateTmp=", "no", "yes", "os.path.exists('/tmp/marker')"),
    Setting("PrivateDevices=", "no", "yes", "os.path.exists('/dev/marker')"),
    Setting("PrivateNetwork=", "no", "yes", "os.readlink('/proc/self/ns/net') == os.readlink('/proc/1/ns/net')"),
    Setting("PrivateIPC=", "no", "yes", "os.readlink('/proc/self/ns/ipc') == os.readlink('/proc/1/ns/ipc')"),
    Setting("ProtectHostname=", "no", "yes", "os.readlink('/proc/self/ns/uts') == os.readlink('/proc/1/ns/uts')"),
    Setting("ReadOnlyPaths=", "", "{home}/one", "os.access('{home}/one', os.W_OK)"),
    Setting("InaccessiblePaths=", "", "{home}/hidden", "os.path.exists('{home}/hidden/marker')"),
    Setting("TemporaryFileSystem=", "", "/opt", "os.path.exists('/opt/marker')"),
    Setting("BindReadOnlyPaths=", "", "{home}/two:/mnt", "os.path.exists('/mnt/marker')"),
    Setting("StateDirectory=", "{name}", "{name} {name}-more", "os.environ.get('STATE_DIRECTORY')"),
    Setting("CacheDirectory=", "{name}", "{name} {name}-more", "os.environ.get('CACHE_DIRECTORY')"),
    Setting("LogsDirectory=", "{name}", "{name} {name}-more", "os.environ.get('LOGS_DIRECTORY')"),
    Setting("Slice=", "system.slice", "other.slice", "read('/proc/self/cgroup').split('/')[-2]", Applied.BY_RESTART),
)

# What has a test of its own, and the row it holds.
OTHERS: Sequence[tuple[str, Applied]] = (
    ("`User=`, `DynamicUser=`", Applied.REFUSED),
    ("RuntimeDirectory=", Applied.REFUSED),
    ("`ExecStart=` and its options", Applied.BY_RESTART),
    ("WatchdogSec=", Applied.BY_RESTART),
    ("`LoadCredential=`, `SetCredential=`", Applied.BY_RESTART),
    (
        "every setting of a unit that has credentials and a mount namespace (`PrivateTmp=`, `ProtectSystem=`, …)",
        Applied.BY_RESTART,
    ),
    ("ExecReload=", Applied.AT_ONCE),
    ("`ExecStop=`, `Restart=`, `RestartSec=`, `TimeoutStopSec=`, `KillMode=`", Applied.AT_ONCE),
)


def table() -> str:
    """The table in Markdown."""
    rows = [(setting.name, setting.applied) for setting in SETTINGS] + list(OTHERS)
    by_applied = sorted(rows, key=lambda row: list(Applied).index(row[1]))
    lines = ["| what changes in the unit | what applies it, after `systemctl daemon-reload` |", "|---|---|"]
    for applied, group in itertools.groupby(by_applied, key=lambda row: row[1]):
        names = ", ".join(name if "`" in name else f"`{name}`" for name, _ in group)
        lines.append(f"| {names} | {applied.value} |")
    return "\n".join(lines)
