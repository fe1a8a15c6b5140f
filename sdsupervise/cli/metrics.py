"""`sdsupervise metrics`: numbers about the instances, for Prometheus and readers of its formats.

prometheus_client, which Debian and Fedora package, writes both formats. Rejected: text written by hand, which sooner or
later escapes wrongly. OpenMetrics is the standard, and ends with "# EOF". node_exporter's textfile collector reads
*.prom files only in the older text format, and rejects a whole file of OpenMetrics because of its "info" type. So a
FILE that ends in .prom gets the older format.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, ExitStatus, NotRunning
from ..instances import locations
from ..linux import files
from . import target
from .ask import ask_all
from .choice import one_of
from .process_usage import Processes, Usage

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

_FORMATS = ("openmetrics", "prometheus")
_WORKER_STATES = ("starting", "ready", "serving", "stopping", "spare", "draining")
_VERDICTS = ("done", "failed", "refused")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the command."""
    parser = commands.add_parser(
        "metrics",
        help="print metrics for Prometheus",
        description="Print the metrics of one instance, or of all running instances, as OpenMetrics text. If the "
        "supervisor of an instance does not answer, its sdsupervise_up is 0.",
    )
    target.add_arguments(parser)
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="replace FILE in one step; for node_exporter's textfile collector, its name must end in .prom",
    )
    parser.add_argument(
        "--format", **one_of(*_FORMATS), help="openmetrics, or the older format prometheus (default for a FILE.prom)"
    )
    parser.set_defaults(command=_metrics)


def _metrics(parsed: argparse.Namespace) -> int:
    older = parsed.format == "prometheus" or (not parsed.format and (parsed.output or "").endswith(".prom"))
    registry, write = _library(older=older)
    paths = _sockets(parsed)
    numbers = _Numbers()
    for asked in ask_all(paths):
        if asked.facts is None:
            print(f"{asked.name}: {asked.sentence}", file=sys.stderr)
        _tell_instance(numbers.of(asked.name), asked.facts, asked.uid)
    registry.register(numbers)  # type: ignore[arg-type]  # collect() is all it is asked for
    data = write(registry)
    if parsed.output:
        _replace(parsed.output, data)
    else:
        sys.stdout.write(data.decode())
    return ExitStatus.OK


def _library(*, older: bool) -> tuple["CollectorRegistry", Any]:
    try:
        from prometheus_client import CollectorRegistry, exposition
        from prometheus_client.openmetrics import exposition as openmetrics
    except ImportError:
        raise ConfigError(
            f"'sdsupervise metrics' needs prometheus_client, which {sys.executable} does not find: install it (Debian: "
            "python3-prometheus-client)."
        ) from None
    return CollectorRegistry(), exposition.generate_latest if older else openmetrics.generate_latest


def _sockets(parsed: argparse.Namespace) -> dict[str, str]:
    """The control sockets of the selected instances, by name.

    Raises NotRunning for an unknown name: a typing error must not look like an instance that is down.
    """
    if not parsed.name and not parsed.pid_file:
        return locations.control_sockets(locations.running())
    path = target.socket_path(parsed)
    if not parsed.name:
        return {os.path.splitext(os.path.basename(parsed.pid_file))[0]: path}
    name = locations.instance_name(parsed.name)
    if not os.path.exists(path) and locations.config_file(name) is None:
        raise NotRunning(f"There is no instance {name!r}: nothing listens on {path}, and no file describes it.")
    return {name: path}


def _replace(path: str, data: bytes) -> None:
    """Replace a file atomically. Its directory may belong to another user, such as the collector's.

    Raises ConfigError.
    """
    try:
        directory = files.open_directory(os.path.dirname(path))
        try:
            # Not durable: after a power failure old numbers are useless.
            files.replace(directory, os.path.basename(path), data, 0o644, durable=False)
        finally:
            os.close(directory)
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror}.") from error


class _Numbers:
    """Collects the numbers of one instance after another, by metric."""

    def __init__(self) -> None:
        self._families: dict[str, Any] = {}
        self._instance = ""

    def of(self, instance: str) -> "_Numbers":
        """Attribute the following numbers to this instance."""
        self._instance = instance
        return self

    def collect(self) -> Iterable["Metric"]:
        """All metrics, for prometheus_client."""
        return self._families.values()

    def gauge(self, name: str, meaning: str, value: float, /, **labels: object) -> None:
        """Add a number that goes up and down."""
        self._family("Gauge", name, meaning, labels).add_metric(self._texts(labels), value)

    def counter(self, name: str, meaning: str, value: float, /, **labels: object) -> None:
        """Add a number that only goes up, until its counter restarts."""
        self._family("Counter", name, meaning, labels).add_metric(self._texts(labels), value)

    def summary(self, name: str, meaning: str, count: float, seconds: float, /, **labels: object) -> None:
        """Add the number of events, and their total duration in seconds."""
        self._family("Summary", name, meaning, labels).add_metric(self._texts(labels), count, seconds)

    def info(self, name: str, meaning: str, /, **texts: object) -> None:
        """Add texts."""
        family = self._family("Info", name, meaning, {})
        family.add_metric(self._texts({}), {label: _text(text) for label, text in texts.items()})

    def _family(self, kind: str, name: str, meaning: str, labels: Mapping[str, object]) -> Any:  # noqa: ANN401
        from prometheus_client import metrics_core

        if name not in self._families:
            make = getattr(metrics_core, f"{kind}MetricFamily")
            self._families[name] = make(f"sdsupervise_{name}", meaning, labels=["instance", *labels])
        return self._families[name]

    def _texts(self, labels: Mapping[str, object]) -> list[str]:
        return [_text(value) for value in (self._instance, *labels.values())]


def _text(value: object) -> str:
    return str(value).encode(errors="backslashreplace").decode()


def _tell_instance(numbers: _Numbers, facts: Mapping[str, Any] | None, uid: int) -> None:
    """Add the numbers from an answer to Status; `uid` is that of the process that answered."""
    numbers.gauge("up", "Whether the supervisor answers.", facts is not None)
    if facts is None:
        return
    numbers.gauge("serving", "Whether at least one worker serves.", _serves(facts))
    numbers.gauge("healthy", "Whether all the wanted workers serve.", facts["healthy"])
    numbers.gauge("generation", "The generation that serves, counted from 1.", facts["generation"])
    version, code = facts["version"], facts["code"]
    numbers.info("build", "What runs.", version=version, name=facts["name"], handover=facts["handover"])
    numbers.info("code", "The code that runs.", path=code["path"], fingerprint=code["fingerprint"])
    for name, address in dict.fromkeys((listener["name"], listener["address"]) for listener in facts["sockets"]):
        numbers.gauge("socket", "Sockets the supervisor keeps open.", 1, socket=name, address=address)
    _tell_workers(numbers, facts, uid)
    _tell_reloads(numbers, facts)


def _serves(facts: Mapping[str, Any]) -> bool:
    return bool(facts.get("serves", facts["pool"]["serving"]))  # a release that does not say it


def _tell_workers(numbers: _Numbers, facts: Mapping[str, Any], uid: int) -> None:
    workers = facts["workers"]
    states = [worker["state"] for worker in workers]
    states += ["draining" for generation in facts["draining"] for _ in generation["workers"]]
    states += ["spare"] * (facts["spare"] is not None)
    for state in _WORKER_STATES:
        numbers.gauge("workers", "How many workers there are, by state.", states.count(state), state=state)
    numbers.gauge("workers_wanted", "How many workers are wanted.", facts["pool"]["workers"])
    processes = Processes(uid=uid)
    children = {worker.get("shim", worker["pid"]) for worker in workers} | {facts["spare"]}
    children |= {worker["pid"] for worker in workers}
    supervisor = processes.usage(facts["pid"], apart_from=children)
    _tell_process(numbers, supervisor, process="supervisor", worker="")
    if supervisor is not None:
        started = round(time.time() - supervisor.age)
        numbers.gauge("start_time_seconds", "When the main supervisor was started, since the epoch.", started)
    # If two workers have one index, one of them is leaving: show the younger one.
    by_index = {worker["index"]: worker for worker in sorted(workers, key=lambda worker: -worker["age"])}
    counted = {facts["pid"]}
    for index, worker in sorted(by_index.items()):
        pid = worker["pid"]
        if pid not in counted:  # count each process once, whatever the answer says
            counted.add(pid)
            usage = processes.usage(pid, apart_from=children)
            _tell_process(numbers, usage, process="worker", worker=index)
        if worker["last_ping"] is not None:
            numbers.gauge("worker_ping_age_seconds", "Time since a worker's ping.", worker["last_ping"], worker=index)
        numbers.gauge("worker_age_seconds", "Time since a worker was started.", worker["age"], worker=index)


def _tell_process(numbers: _Numbers, used: Usage | None, **labels: object) -> None:
    if used is None:
        return  # gone since the supervisor answered
    numbers.gauge("resident_memory_bytes", "Memory, with all shared memory (RSS).", used.resident, **labels)
    if used.proportional is not None:
        meaning = "Memory, with a share of the shared memory (PSS)."
        numbers.gauge("proportional_memory_bytes", meaning, used.proportional, **labels)
    numbers.counter("cpu_seconds", "CPU time; a worker's includes its children.", round(used.cpu_seconds, 2), **labels)


def _tell_reloads(numbers: _Numbers, facts: Mapping[str, Any]) -> None:
    counts: Mapping[str, Mapping[str, float]] = facts["counters"]
    reloads = counts.get("reloads", {})
    for verdict in _VERDICTS:
        numbers.counter("reloads", "Reloads, by verdict.", reloads.get(verdict, 0), verdict=verdict)
    for verdict, seconds in counts.get("reload_seconds", {}).items():
        meaning = "How long reloads took, by verdict."
        numbers.summary("reload_duration_seconds", meaning, reloads.get(verdict, 0), seconds, verdict=verdict)
    for phase, seconds in counts.get("phase_seconds", {}).items():
        meaning, count = "How long the phases of reloads took.", counts.get("phases", {}).get(phase, 0)
        numbers.summary("reload_phase_duration_seconds", meaning, count, seconds, phase=phase)
    last = facts["last_reload"]
    if last:
        numbers.gauge(
            "last_reload_time_seconds", "When the last reload was requested, since the epoch.", last["asked_at"]
        )
        numbers.gauge("last_reload_duration_seconds", "How long the last reload took.", last["seconds"])
        numbers.gauge("last_reload_successful", "Whether its code serves now.", last["verdict"] == "done")
    for cause, count in counts.get("crashes", {}).items():
        numbers.counter("worker_crashes", "Workers that crashed, by cause.", count, cause=cause)
    numbers.counter("worker_starts", "Workers that were started.", counts.get("starts", {}).get("all", 0))
    numbers.counter("crash_loops", "Crash loops that began.", counts.get("crash_loops", {}).get("all", 0))
