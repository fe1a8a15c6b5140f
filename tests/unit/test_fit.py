"""What `unit wrap NAME` adds to the template for an instance: by its file alone, without a machine."""

from __future__ import annotations

from typing import Any

import pytest

from sdsupervise.instances.instance import Instance
from sdsupervise.settings.settings import check_settings
from sdsupervise.unitfiles import text
from sdsupervise.unitfiles.fit import fit
from sdsupervise.unitfiles.lint import lint
from tests.support.units import SHIPPED, UNITS

TEMPLATE = (UNITS / SHIPPED[0]).read_text()


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ({}, []),
        ({"user": "games", "group": "mail"}, ["User=games", "Group=mail"]),
        ({"listen": {"http": "127.0.0.1:80"}}, []),
        (
            {"user": "games", "listen": {"http": "0.0.0.0:80"}},
            ["User=games", "AmbientCapabilities=CAP_NET_BIND_SERVICE"],
        ),
        ({"user": "games", "listen": {"x": {"address": "/run/x", "group": "mail"}}}, []),
        ({"stop_timeout": 300.0}, ["TimeoutStopSec=320"]),
        ({"reload_timeout": 200.0}, ["TimeoutStartSec=225"]),
        (
            {"listen": {f"s{number}": f"127.0.0.1:{number}" for number in range(5000, 5100)}},
            ["FileDescriptorStoreMax=100"],
        ),
        ({"restart": "on-failure"}, ["Restart=on-failure"]),
        ({"restart": "on-abnormal", "restart_prevent": [3]}, ["Restart=on-abnormal", "RestartPreventExitStatus=3"]),
        ({"restart_prevent": [3, 0, 3]}, ["RestartPreventExitStatus=0 3"]),
        ({"listen": {"http": "10.0.0.1:8000"}}, ["Wants=network-online.target"]),
    ],
)
def test_each_setting(values: dict[str, Any], lines: list[str]) -> None:
    """The template is given what an instance needs beyond it, each with a note, and nothing else; it is then clean."""
    instance = Instance("web", "web.toml", values)
    settings = check_settings("web.toml", {**instance.settings, "listen": instance.listen})
    drop_in = fit(instance, settings)
    assert [*drop_in.settings, *drop_in.others] == lines
    assert drop_in.is_empty == (not lines)
    assert len(drop_in.notes) >= len(lines) - ("group" in values)
    assert lint(text.parse("sdsupervise@web.service", TEMPLATE + drop_in.file), settings) == []
