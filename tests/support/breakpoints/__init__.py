"""Hold a supervisor under test between two effects of the takeover table, without sleeping.

The package knows nothing of this. A Python that finds `injected` on its PYTHONPATH runs the sitecustomize.py there as
it starts, and that wraps the one function that gives a supervisor its effects. Successors inherit the environment, and
so the breakpoint; what a service starts does not.
"""

from __future__ import annotations

import shutil
from pathlib import Path

VARIABLE = "TESTS_BREAKPOINT"  # its two forms: see injected/sitecustomize.py
INJECTED = Path(__file__).with_name("injected")


def inject_into(directory: Path) -> None:
    """Make this directory one that can be put on the PYTHONPATH of a supervisor under test."""
    shutil.copy(INJECTED / "sitecustomize.py", directory)


def environment(breakpoint: str, directory: Path | str = INJECTED) -> dict[str, str]:
    """What a supervisor's environment needs: the breakpoint, and the directory that was made for it."""
    return {VARIABLE: breakpoint, "PYTHONPATH": str(directory)}


def setting(breakpoint: str, directory: Path | str = INJECTED) -> str:
    """The same as a line of a unit file."""
    return "Environment=" + " ".join(f"{name}={value}" for name, value in environment(breakpoint, directory).items())
