"""What reaches standard error and standard output, in which form, and when."""

from __future__ import annotations

import os
import signal

from tests.support.harness import SDSUPERVISE, Ground, service


def test_form(ground: Ground) -> None:
    """On standard error: who, which process, what; the same for the service's own records at INFO and above."""
    ground.deploy(
        1,
        service(
            """
            def serve(self):
                logging.getLogger("shop").info("open for %s", "all")
                logging.getLogger("shop").debug("nobody hears this")
                super().serve()
            """,
            before="import logging",
        ),
    )
    running = ground.serving()
    worker = ground.worker_pids()[0]
    running.expect_line(
        rf"^Service\[{running.pid}\]: Generation 1 starts from {ground.directory}/releases/1/service\.py"
    )
    running.expect_line(rf"^Service\[{running.pid}\]: Worker \(pid {worker}\) of generation 1 is ready$")
    running.expect_line(rf"^Service\[{worker}\]: open for all$")
    assert "nobody hears" not in running.err


def test_no_warn(ground: Ground) -> None:
    """--no-warn: nothing of ours is said, neither at a crash nor by error(), also after a reload."""
    text = service("def serve(self):\n    report('go')\n    self.error('silently')")
    ground.deploy(1, text)
    running = ground.start("--no-warn")
    ground.expect("go")
    ground.expect("go")
    ground.deploy(2, service())
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2)
    running.wait()
    assert running.err == ""


def test_a_service_with_its_own_logging(ground: Ground) -> None:
    """A service that configured logging keeps its handlers and levels, and its records come once, through them; ours
    come once, in our form."""
    own = (
        "import logging\n"
        "logging.basicConfig(filename=os.environ['GROUND'] + '/own.log', level=logging.DEBUG, format='own %(message)s')"
    )
    ground.deploy(
        1, service("def serve(self):\n    logging.debug('mine')\n    report('said')\n    super().serve()", before=own)
    )
    running = ground.serving()
    ground.expect("said")
    running.expect_line("is ready")
    assert (ground.directory / "own.log").read_text() == "own mine\n"
    assert "mine" not in running.err and "own" not in running.err


def test_print_is_heard_at_once(ground: Ground) -> None:
    """A worker's print() reaches a pipe line by line, while the worker goes on; also after a reload, and under
    `sdsupervise run`."""
    text = service("def serve(self):\n    print('served by', self.release)\n    super().serve()")
    ground.deploy(1, text)
    running = ground.run(SDSUPERVISE, "run", "current/service.py", "--pid-file", ground.pid_file)
    running.expect_line("^served by 1$", "out")
    ground.deploy(2, text)
    assert ground.reload().returncode == 0
    running.expect_line("^served by 2$", "out")


def test_print_before_a_death(ground: Ground) -> None:
    """What a worker printed is not lost when it is killed, and not said twice by the next."""
    ground.deploy(1, service("def serve(self):\n    print('last words')\n    os.kill(os.getpid(), signal.SIGKILL)"))
    running = ground.start()
    running.expect_line("^last words$", "out")
    running.expect_line("was killed by SIGKILL")
    running.expect_line("^last words$", "out")
    running.expect_line("was killed by SIGKILL")
    running.signal(signal.SIGTERM)
    running.wait()
    assert running.out.count("last words") == running.err.count("was killed by SIGKILL")


def test_debug_by_the_service(ground: Ground) -> None:
    """Our logger is "sdsupervise": a service may turn it up, or add a handler to it."""
    ground.deploy(
        1, service(before="import logging", run="logging.getLogger().setLevel(10)\nsys.exit(Service().run())")
    )
    running = ground.serving()
    os.kill(ground.worker_pids()[0], signal.SIGKILL)
    running.expect_line(r"^Service\[\d+\]: Worker \(pid \d+\) was killed by SIGKILL$")
