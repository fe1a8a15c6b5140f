"""Another interpreter imports this as `sdsupervise`; it replaces itself with the real package."""

import importlib.util
import os
import sys

_place = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
_spec = importlib.util.spec_from_file_location(
    "sdsupervise", f"{_place}/__init__.py", submodule_search_locations=[_place]
)
assert _spec is not None and _spec.loader is not None
sys.modules["sdsupervise"] = _module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
