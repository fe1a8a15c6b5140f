"""What the product says of its formats: the control socket's description, and the recorded messages of a hand-over."""

from pathlib import Path

import sdsupervise
from tests.support.varlink_idl import Interface

_CONTROL = Path(sdsupervise.__file__).parent / "control"
FIXTURES = Path(__file__).with_name("fixtures")

CONTROL = Interface((_CONTROL / "io.sdsupervise.varlink").read_text())
EVERY_SERVICE = Interface((_CONTROL / "org.varlink.service.varlink").read_text())
HANDOVER_FIXTURES = sorted(FIXTURES.glob("handover-v*.json"))
