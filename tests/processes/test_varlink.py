"""The control socket describes itself, as every Varlink service does, and is as it says."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping

import pytest

from sdsupervise import __version__
from sdsupervise.control.varlink import METHODS
from sdsupervise.core.takeover import State
from sdsupervise.supervisor.status_text import DOWN
from tests.support.descriptions import CONTROL, EVERY_SERVICE
from tests.support.harness import Ground
from tests.support.running import LIMIT_SECONDS
from tests.support.varlink_idl import Enum, Interface, Struct


class Caller:
    """A connection that says exactly what it is told to."""

    def __init__(self, ground: Ground) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(LIMIT_SECONDS)
        self._socket.connect(ground.control)
        self._data = b""

    def call(self, method: str, parameters: object = None, **more: object) -> Mapping[str, object]:
        """The first answer."""
        message = {"method": method, **({} if parameters is None else {"parameters": parameters}), **more}
        self._socket.sendall(json.dumps(message).encode() + b"\0")
        return next(self.answers())

    def answers(self) -> Iterator[Mapping[str, object]]:
        """One after the other."""
        while True:
            while b"\0" not in self._data:
                data = self._socket.recv(65536)
                assert data
                self._data += data
            text, _, self._data = self._data.partition(b"\0")
            answer = json.loads(text)
            yield answer
            if not answer.get("continues"):
                return

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def caller(ground: Ground) -> Iterator[Caller]:
    """Of a service that serves."""
    ground.serving()
    caller = Caller(ground)
    yield caller
    caller.close()


def assert_conforms(answer: Mapping[str, object], method: str) -> None:
    """The answer is what the description says of this method."""
    assert list(CONTROL.complaints(CONTROL.methods[method][1], answer.get("parameters", {}), method)) == []


def test_it_describes_itself(caller: Caller) -> None:
    """GetInfo names product, release and interfaces; each of them is described, and another is InterfaceNotFound."""
    info = caller.call("org.varlink.service.GetInfo")["parameters"]
    assert isinstance(info, dict)
    assert (info["product"], info["version"]) == ("sdsupervise", __version__)
    assert list(EVERY_SERVICE.complaints(EVERY_SERVICE.methods["GetInfo"][1], info)) == []
    describe = "org.varlink.service.GetInterfaceDescription"
    described = set()
    for name in info["interfaces"]:
        reply = caller.call(describe, {"interface": name})["parameters"]
        assert isinstance(reply, dict)
        interface = Interface(reply["description"])
        assert interface.name == name
        described |= {f"{name}.{method}" for method in interface.methods}
    assert described == set(METHODS)
    for unknown in "io.example", "../py.typed":
        answer = {"error": "org.varlink.service.InterfaceNotFound", "parameters": {"interface": unknown}}
        assert caller.call(describe, {"interface": unknown}) == answer


def test_parameters_are_those_described() -> None:
    """What a method takes stands once in the description and once in the code, and is the same."""
    names = {bool: "bool", int: "int", str: "string"}
    for method, parameters in METHODS.items():
        interface = CONTROL if method.startswith(CONTROL.name) else EVERY_SERVICE
        given = interface.methods[method.rpartition(".")[2]][0]
        assert isinstance(given, Struct)
        described = {name: getattr(kind, "what", kind) for name, kind in given.fields.items()}
        assert described == {name: names[kind] for name, kind in parameters.items()}


def test_every_state_is_described() -> None:
    """A supervisor can be in no state that the description does not know."""
    state = CONTROL.types["State"]
    assert isinstance(state, Enum) and set(state.words) == {DOWN, *(state.name.lower() for state in State)}


@pytest.mark.parametrize(
    ("method", "parameters", "error", "facts"),
    [
        ("io.sdsupervise.Fly", {}, "MethodNotFound", {"method": "io.sdsupervise.Fly"}),
        ("Status", {}, "MethodNotFound", {"method": "Status"}),
        ("io.sdsupervise.Scale", {"workers": "many"}, "InvalidParameter", {"parameter": "workers"}),
        ("io.sdsupervise.Scale", {"by": True}, "InvalidParameter", {"parameter": "by"}),
        ("io.sdsupervise.Reload", {"exec_reload": 7}, "InvalidParameter", {"parameter": "exec_reload"}),
        ("org.varlink.service.GetInterfaceDescription", {}, "InvalidParameter", {"parameter": "interface"}),
    ],
)
def test_errors(caller: Caller, method: str, parameters: object, error: str, facts: object) -> None:
    """A wrong call is answered by the error that the language has for it, nothing happens, and the connection stays."""
    assert caller.call(method, parameters) == {"error": f"org.varlink.service.{error}", "parameters": facts}
    assert_conforms(caller.call("io.sdsupervise.Status"), "Status")


def test_a_newer_caller(caller: Caller) -> None:
    """What a caller of a later release says beside what this one knows is ignored: upgrades go on."""
    assert_conforms(caller.call("io.sdsupervise.Status", {"depth": 3}), "Status")


def test_reload_by_exec_reload_expects_more(ground: Ground) -> None:
    """A call that the supervisor would answer by an order first must be ready for more answers than one."""
    ground.serving()
    caller = Caller(ground)
    answer = caller.call("io.sdsupervise.Reload", {"exec_reload": True, "spawns": True})
    assert answer == {"error": "org.varlink.service.ExpectedMore", "parameters": {}}
    caller.close()


def test_answers_are_as_described(ground: Ground, caller: Caller) -> None:
    """Status, Code, Scale, and every answer of a reload, good and bad, are what the description says."""
    assert_conforms(caller.call("io.sdsupervise.Code"), "Code")
    assert_conforms(caller.call("io.sdsupervise.Scale", {"workers": 1}), "Scale")
    refused = caller.call("io.sdsupervise.Scale", {"workers": 0})
    assert refused["error"] == "io.sdsupervise.ScaleRefused"
    assert list(CONTROL.complaints(CONTROL.errors["ScaleRefused"], refused["parameters"])) == []
    ground.deploy(2)
    assert_conforms(caller.call("io.sdsupervise.Reload", more=True), "Reload")
    for answer in caller.answers():
        assert_conforms(answer, "Reload")
    assert_conforms(caller.call("io.sdsupervise.Status"), "Status")
    ground.deploy(3, "1/0")
    failed = caller.call("io.sdsupervise.Reload")
    assert failed["error"] == "io.sdsupervise.ReloadFailed"
    assert list(CONTROL.complaints(CONTROL.errors["ReloadFailed"], failed["parameters"])) == []


def test_the_check_can_fail() -> None:
    """What is missing, of another type, or not described, is seen."""
    wanted = Interface("interface a.b\nmethod M() -> (a: int, b: ?[]string, c: (x, y))").methods["M"][1]
    assert list(CONTROL.complaints(wanted, {"a": 1, "c": "x"})) == []
    wrong = ({"a": 1}, {"a": "1", "c": "x"}, {"a": 1, "c": "z"}, {"a": 1, "c": "x", "d": 0})
    for value in ({"a": 1, "b": [2], "c": "y"}, {"a": True, "c": "x"}, *wrong):
        assert len(list(CONTROL.complaints(wanted, value))) == 1, value
