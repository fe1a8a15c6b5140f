"""The units that the package ships."""

from pathlib import Path

from tests.support.machine import Machine

UNITS = Path(__file__).parents[2] / "units"
SHIPPED = ("sdsupervise@.service", "sdsupervise@.socket", "sdsupervise.target")


def install_units(machine: Machine) -> None:
    """Write the shipped units where the package puts them."""
    for name in SHIPPED:
        machine.write(f"/usr/lib/systemd/system/{name}", (UNITS / name).read_text())
    machine.run("systemctl", "daemon-reload")
