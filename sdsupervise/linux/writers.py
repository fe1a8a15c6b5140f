"""The users who may write a file that a process is about to load or execute, at every step of its path, with
symlinks."""

import os
import stat

_MOST_LINKS = 40  # as the kernel, path_resolution(7)


def who_else_may_write(path: str, *, or_add: bool = False) -> str:
    """Return the first place on a file's path that a user other than root may write, as a phrase.

    The phrase is like "uid 1000 may write /srv/app"; "" means that there is no such place, or no such file. With
    `or_add`, users also count who may create what is missing, or who may put files into a shared directory (/tmp).
    Access control lists are not checked.
    """
    at, links = "/", 0
    names = [name for name in os.path.abspath(path).split("/") if name]
    in_sticky, adds = False, ""
    while names:
        name = names.pop(0)
        if name == "..":
            at = os.path.dirname(at)  # `at` has no symlink in it
            continue
        here = os.path.join(at, name)
        try:
            found = os.lstat(here)
            if stat.S_ISLNK(found.st_mode):
                # The owner of a symlink may replace it, even in a directory where every user may create files.
                if in_sticky and found.st_uid != 0:
                    return f"uid {found.st_uid} may write {here}"
                target, links = os.readlink(here), links + 1
                if links > _MOST_LINKS:
                    return ""
                names = [name for name in target.split("/") if name not in ("", ".")] + names
                at = "/" if target.startswith("/") else at
                continue
        except OSError:
            return f"{adds} may make {here}" if adds and or_add else ""
        writer = _who_may_write(found)
        if writer:
            return f"{writer} may write {here}"
        in_sticky = stat.S_ISDIR(found.st_mode) and bool(found.st_mode & stat.S_ISVTX)
        at, adds = here, _who_adds(found)
    return f"{adds} may put files into {at}" if adds and or_add else ""


def _who_adds(found: os.stat_result) -> str:
    """Return the users who may create files in a sticky directory, where each may replace only their own."""
    if not (stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX):
        return ""
    if found.st_mode & stat.S_IWOTH:
        return "everybody"
    return f"group {found.st_gid}" if found.st_mode & stat.S_IWGRP and found.st_gid != 0 else ""


def _who_may_write(found: os.stat_result) -> str:
    shared = stat.S_ISDIR(found.st_mode) and bool(found.st_mode & stat.S_ISVTX)
    if found.st_uid != 0:
        return f"uid {found.st_uid}"
    if found.st_mode & stat.S_IWOTH and not shared:
        return "everybody"
    if found.st_mode & stat.S_IWGRP and found.st_gid != 0 and not shared:
        return f"group {found.st_gid}"
    return ""
