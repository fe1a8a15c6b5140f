"""The units that the package ships, and its configuration file for gunicorn."""

from pathlib import Path

from tests.support.machine import Machine

_TREE = Path(__file__).parents[2]
UNITS = _TREE / "units"
SHIPPED = ("sdsupervise@.service", "sdsupervise@.socket", "sdsupervise.target")
GUNICORN_READY = "/usr/share/sdsupervise/gunicorn_ready.py"
"""Where the packages put it."""


def install_units(machine: Machine) -> None:
    """Write the shipped units where the package puts them, and the file for gunicorn."""
    for name in SHIPPED:
        machine.write(f"/usr/lib/systemd/system/{name}", (UNITS / name).read_text())
    install_gunicorn_ready(machine)
    machine.run("systemctl", "daemon-reload")


def install_gunicorn_ready(machine: Machine) -> None:
    """Write the file for gunicorn where the package puts it."""
    machine.write(GUNICORN_READY, (_TREE / "sdsupervise" / "unitfiles" / "gunicorn_ready.py").read_text())
