"""Loads the class of a service by a TARGET such as `package.module:Class` or `path/to/file.py`."""

import importlib
import importlib.util
import os
import sys
import traceback
from types import FrameType, ModuleType

from ..code import own_code
from ..errors import ServiceNotLoadable
from ..linux import libraries
from .plain_daemon import Daemon

_SCRIPT_OF_CHILDREN = "__mp_main__"  # what multiprocessing calls a script in the processes that it starts


def load(target: str) -> type[Daemon]:
    """The class of a target: package.module:Class or path/to/file.py:Class. The class may be omitted if there is only
    one.

    Raises ServiceNotLoadable, with the traceback of the service's own code if there is one.
    """
    place, _, name = target.partition(":")
    is_file = place.endswith(".py") or "/" in place
    try:
        module = _import_file(place) if is_file else _import_module(place)
    except ServiceNotLoadable:
        raise
    except (Exception, SystemExit) as error:
        raise not_loadable(target, error) from error
    found = _classes_in(module) if not name else [getattr(module, name, None)]
    if len(found) != 1 or not (isinstance(found[0], type) and issubclass(found[0], Daemon)):
        known = ", ".join(cls.__name__ for cls in _classes_in(module)) or "none"
        raise ServiceNotLoadable(
            f"Cannot load {target}: name one subclass of Daemon or SupervisedDaemon; {place} defines: {known}."
        )
    return found[0]


def not_loadable(target: str, error: BaseException) -> ServiceNotLoadable:
    """An error of the service's own code as one sentence, with its traceback."""
    lines = traceback.format_exception(_without_our_frames(error))
    return ServiceNotLoadable(f"Cannot load {target}: {_last_line(error)}", traceback_text="".join(lines))


def _import_module(name: str) -> ModuleType:
    # As in `python -m`. The directory is resolved, so that a deployment does not change later imports.
    sys.path.insert(0, os.path.realpath(os.getcwd()))
    libraries.make_way()
    spec = importlib.util.find_spec(name.partition(".")[0])
    if spec is not None:
        own_code.watch(own_code.directories_of(spec.origin, spec.submodule_search_locations))
    return importlib.import_module(name)


def _import_file(path: str) -> ModuleType:
    real = os.path.realpath(path)
    if not os.path.isfile(real):
        raise ServiceNotLoadable(f"Cannot load {path}: there is no such file (looked for {real}).")
    directory, base = os.path.split(real)
    own_code.watch([directory])
    name = os.path.splitext(base)[0]
    # A service may be in a file json.py; `import json` must still find the standard library's.
    is_taken = name in sys.modules or name in sys.stdlib_module_names
    name = _SCRIPT_OF_CHILDREN if is_taken else name
    sys.path.insert(_place_after_standard_library() if is_taken else 0, directory)
    libraries.make_way()
    spec = importlib.util.spec_from_file_location(name, real)
    if spec is None:
        raise ServiceNotLoadable(f"Cannot load {path}: it is not a Python file.")
    own_code.replace_loader(spec, real)
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if is_taken:
        # If multiprocessing does not fork, its processes execute the parent's script under this name, and search the
        # script's names there. So the service becomes the script of this process.
        sys.modules["__main__"], module.__spec__ = module, None
    spec.loader.exec_module(module)
    return module


def _place_after_standard_library() -> int:
    library = os.path.dirname(os.path.realpath(os.__file__))
    places = [os.path.realpath(entry) for entry in sys.path]
    within = [place for place in places if f"{place}/".startswith(f"{library}/") and "-packages" not in place]
    return 1 + max((places.index(place) for place in within), default=-1)


def _classes_in(module: ModuleType) -> list[type[Daemon]]:
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Daemon) and value.__module__ == module.__name__
    ]


def _last_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()


def _without_our_frames(error: BaseException) -> BaseException:
    """The error with a traceback that begins in the service's code."""
    frames = error.__traceback__
    while frames is not None and _is_around_the_service(frames.tb_frame):
        frames = frames.tb_next
    return error.with_traceback(frames)


def _is_around_the_service(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__", "").partition(".")[0] in ("sdsupervise", "importlib")
