"""How a service's class is found, whatever its file is called."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.harness import PYTHON, SDSUPERVISE, Ground, service

TELLS = """
def serve(self):
    for method in "spawn", "forkserver":
        context = multiprocessing.get_context(method)
        process = context.Process(target=child, args=(method,))
        process.start()
        process.join()
    super().serve()
"""
CHILD = """
import multiprocessing

def child(method):
    import helper, json, queue
    report("child", method=method, pid=os.getppid(), word=helper.WORD, json=json.dumps([1]), queue=queue.Empty.__name__)
"""
WAYS: dict[str, Sequence[object]] = {
    "run": [SDSUPERVISE, "run"],
    "module": [PYTHON, "-m", "sdsupervise", "run"],
    "python": [SDSUPERVISE, "run", "--python", PYTHON],
    "script": [PYTHON],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["service", "json", "queue"])
def test_processes_that_do_not_fork(ground: Ground, name: str, way: str) -> None:
    """What multiprocessing starts anew finds the service's module again, and what lies beside it; though that is called
    as one of Python's own, of which both have the right one."""
    if way == "script" and name != "service":
        pytest.skip("then Python itself takes it for its own")
    ground.write(f"releases/1/{name}.py", service(TELLS, before=CHILD).replace("word=", "said="))
    ground.write("releases/1/helper.py", "WORD = 'beside'\n")
    fork = ["--no-fork"] if way == "script" else []
    ground.run(*WAYS[way], f"releases/1/{name}.py", *fork, "--pid-file", ground.pid_file)
    worker = ground.expect("serves").pid
    for method in "spawn", "forkserver":
        said = ground.expect("child", method=method).details
        assert (said["said"], said["json"], said["queue"]) == ("beside", "[1]", "Empty")
        assert method == "forkserver" or said["pid"] == str(worker)


@pytest.mark.parametrize("name", ["json", "queue"])
def test_name_of_python_s_own(ground: Ground, name: str) -> None:
    """Such a service is reloaded, and changed, like any other; it is no script that is called."""
    text = service(before=f"import {name} as theirs\nassert theirs.__file__ != __file__", run="report('called')")
    for release in 1, 2:
        ground.write(f"releases/{release}/{name}.py", text.replace('release = "1"', f'release = "{release}"'))
    ground.point_to(1)
    ground.run(SDSUPERVISE, "run", f"current/{name}.py:Service", "--pid-file", ground.pid_file)
    ground.expect("serves", release=1)
    assert "same code as before" in ground.reload().stdout
    ground.expect("serves", release=1)
    ground.point_to(2)
    assert "same code as before" not in ground.reload().stdout
    ground.expect("serves", release=2)
    assert not ground.seen("called")
