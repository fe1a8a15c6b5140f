"""Reads the file of an instance without keeping the memory that reading takes."""

import marshal
import sys
from collections.abc import Mapping
from typing import Any

from ..errors import BadFile, ConfigError, SdsuperviseError
from ..linux.unpatched import os, signal
from .instance import Instance, name_of


def read_apart(file: str, *, directory: str | None = None) -> Instance:
    """Read an instance in a forked process, as instance_file.read does.

    A supervisor reads one file in its life, and the TOML reader and checks would keep 1 MB of its memory. Raises
    UsageError, ConfigError, BadFile.
    """
    name = name_of(file)
    reader, writer = os.pipe()
    parent_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_reader(file, directory, writer, parent_pid)
    os.close(writer)
    with open(reader, "rb") as answer:
        data = answer.read()
    os.waitpid(pid, 0)
    if not data:
        raise SdsuperviseError(f"A bug in sdsupervise: it cannot read {file}. Please report this.")
    values, mistakes, why_unreadable = marshal.loads(data)
    if mistakes:
        raise BadFile(mistakes)
    if why_unreadable:
        raise ConfigError(why_unreadable)
    return Instance(name, file, values)


def _be_reader(file: str, directory: str | None, writer: int, parent_pid: int) -> None:
    try:
        from ..linux import prctl, process_title

        if not prctl.die_with_parent(parent_pid, signal.SIGKILL):
            os._exit(0)  # else no process would end us if we hung
        process_title.introduce(name_of(file))
        process_title.show("reader")
        from . import instance_file

        values: Mapping[str, Any] = {}
        mistakes: list[str] = []
        why_unreadable = ""
        try:
            values = instance_file.read(file, directory=directory).values
        except BadFile as error:
            mistakes = error.mistakes
        except ConfigError as error:
            why_unreadable = str(error)
        with open(writer, "wb") as answer:
            answer.write(marshal.dumps((dict(values), mistakes, why_unreadable)))
    except BaseException:  # a forked child must never unwind into its parent's stack
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)
