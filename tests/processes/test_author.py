"""What a service author writes and calls."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import pytest

from tests.support.harness import PYTHON, Ground, service

REPORTING_OPTIONS = """
options = (
    {"name": "port", "documentation": "Listen at 100% of it", "option_type": "integer", "default": 7},
    {"name": "ratio", "documentation": "A share", "option_type": "float", "default": 0.5},
    {"name": "label", "documentation": "A name", "option_type": "string", "display": "LABEL"},
    {"name": "bold", "documentation": "Shout", "option_type": "switch"},
    {"name": "aim", "documentation": "No type: a switch"},
)
def serve(self):
    report("options", **{name: repr(self.get_option(name)) for name in ("port", "ratio", "label", "bold", "aim")})
    try:
        self.get_option("bogus")
    except KeyError:
        report("unknown")
    report("arguments", parsed=self.parsed_args, original=self.orig_args, script=self.script_name)
    super().serve()
"""


def help_of(ground: Ground, *arguments: str) -> subprocess.CompletedProcess[str]:
    return ground.finish(ground.run(PYTHON, "current/service.py", *arguments))


@pytest.mark.parametrize(
    ("body", "run"),
    [
        ("pid_file = PID_FILE", "sys.exit(Service().run())"),
        ("", "daemon = Service()\ndaemon.pid_file = PID_FILE\nsys.exit(daemon.run())"),
        ("", "sys.exit(Service(pid_file=PID_FILE).run())"),
    ],
    ids=["class", "instance", "keyword"],
)
def test_attributes(ground: Ground, body: str, run: str) -> None:
    """An attribute counts wherever it is set: on the class, on the instance, by keyword to the constructor."""
    ground.deploy(1, service(body, run=run, before="PID_FILE = os.environ['GROUND'] + '/service.pid'"))
    running = ground.run(PYTHON, "current/service.py", "--no-fork")
    ground.expect("serves")
    assert ground.status()["pid_file"] == str(ground.pid_file)
    assert int(ground.pid_file.read_text()) == running.pid


def test_unknown_attribute(ground: Ground) -> None:
    """A keyword that is no attribute is an error and names itself."""
    ground.deploy(1, service(run="Service(pidfile='x')"))
    running = ground.run(PYTHON, "current/service.py")
    assert running.wait() == 1
    assert "Service has no attribute 'pidfile'" in running.err


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("stop_timeout = 'long'", "Service: stop_timeout is 'long'; it must be a number of seconds"),
        ("stop_timeout = -1", "Service: stop_timeout is -1; it must be a number of seconds from 0"),
        ("crash_limit = 2.5", "Service: crash_limit is 2.5; it must be a whole number"),
    ],
)
def test_wrong_setting(ground: Ground, setting: str, sentence: str) -> None:
    """A setting of a wrong type or size is one sentence and exit status 78; nothing was started."""
    ground.deploy(1, service(setting))
    running = ground.start()
    assert running.wait() == 78
    assert running.err.startswith(sentence) and running.err.count("\n") == 1
    assert not ground.pid_file.exists()


def test_options(ground: Ground) -> None:
    """get_option: the given value or the default, of the type asked for; KeyError for a name that was never defined.

    parsed_args is the rest, orig_args the whole, script_name the script's basename.
    """
    ground.deploy(1, service(REPORTING_OPTIONS))
    ground.start("one", "--port", "8", "--label=x", "--bold", "--", "--two")
    said = ground.expect("options").details
    assert said == {"port": "8", "ratio": "0.5", "label": "'x'", "bold": "True", "aim": "False"}
    ground.expect("unknown")
    said = ground.expect("arguments").details
    assert said["parsed"] == "['one', '--two']"
    assert "'one', '--port', '8', '--label=x', '--bold', '--', '--two'" in said["original"]
    assert said["script"] == "service.py"


def test_help(ground: Ground) -> None:
    """--help shows the documentation and the options, the built-in ones too, sorted; exit status 0, nothing started."""
    ground.deploy(1, service(REPORTING_OPTIONS))
    done = help_of(ground, "--help")
    assert done.returncode == 0
    assert "A service of a test." in done.stdout
    assert "Listen at 100% of it" in done.stdout
    names = re.findall(r"^  --([a-z-]+)", done.stdout, re.MULTILINE)
    built_in = {"help", "no-fork", "pid-file", "no-pid-file", "user", "group", "no-warn"}
    assert names == sorted({"port", "ratio", "label", "bold", "aim"} | built_in)
    assert re.search(r"--label LABEL +A name", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--bogus"], "--bogus"),
        (["--port", "seven"], "'seven'"),
        (["--port", "7.5"], "'7.5'"),
        (["--ratio", "half"], "'half'"),
        (["--label"], "--label"),
        (["--bold=yes"], "--bold"),
    ],
)
def test_bad_option(ground: Ground, arguments: list[str], sentence: str) -> None:
    """An unknown option, a value of a wrong type or a missing one: what is wrong, then the usage, on standard error;
    exit status 1."""
    ground.deploy(1, service(REPORTING_OPTIONS))
    done = help_of(ground, *arguments)
    assert done.returncode == 1 and done.stdout == ""
    first, _, rest = done.stderr.partition("\n")
    assert sentence in first
    assert "usage: service.py" in rest and "--no-pid-file" in rest


def test_documentation_attribute(ground: Ground) -> None:
    """`documentation` is the usage's text; the class docstring only where there is none."""
    ground.deploy(1, service("documentation = 'Said by the attribute.'"))
    done = help_of(ground, "--help")
    assert "Said by the attribute." in done.stdout and "A service of a test." not in done.stdout


def test_usage_method(ground: Ground) -> None:
    """usage() is the statement --help shows."""
    ground.deploy(1, service(run="sys.stdout.write(Service().usage())"))
    assert help_of(ground).stdout == help_of(ground, "--help").stdout != ""


@pytest.mark.parametrize("option", ["{'name': 'x', 'option_type': 'colour'}", "{'name': 'help'}"])
def test_bad_definition(ground: Ground, option: str) -> None:
    """An option defined with an unknown type, or twice, is an error that names it."""
    ground.deploy(1, service(f"options = ({option},)"))
    done = help_of(ground)
    assert done.returncode == 1
    assert re.search(r"Error: .*(colour|help)", done.stderr)


# ------------------------------------------------------------------------------------------- in worker and supervisor


def test_worker_and_its_pipe(ground: Ground) -> None:
    """is_supervisor is false in the worker, true before; supervisor_pipe is its end of an AF_UNIX stream socketpair
    and not inherited by what it executes."""
    ground.deploy(
        1,
        service(
            """
            def serve(self):
                end = self.supervisor_pipe
                report("pipe", family=end.family.name, type=end.type.name, peer=repr(end.getpeername()),
                       supervisor=self.is_supervisor, inheritable=end.get_inheritable(), parent=os.getppid())
                super().serve()
            """,
            run="daemon = Service()\nreport('before', supervisor=daemon.is_supervisor)\nsys.exit(daemon.run())",
        ),
    )
    running = ground.start()
    assert ground.expect("before").said("supervisor") == "True"
    worker = ground.expect("pipe")
    said = worker.details
    assert (said["family"], said["type"]) == ("AF_UNIX", "SOCK_STREAM")
    assert (said["supervisor"], said["inheritable"]) == ("False", "False")
    assert int(said["parent"]) == running.pid != worker.pid


def test_ping(ground: Ground) -> None:
    """ping_supervisor returns when the supervisor has answered; status tells how long ago that was."""
    ground.deploy(1, service("def serve(self):\n    self.ping_supervisor()\n    report('pinged')\n    super().serve()"))
    ground.start()
    ground.expect("pinged")
    workers = ground.status()["workers"]
    assert isinstance(workers, list) and workers[0]["last_ping"] is not None


@pytest.mark.parametrize("method", ["ping_supervisor", "ready_to_take_over", "retire"])
def test_no_link(ground: Ground, method: str) -> None:
    """Called where there is no link: error("Supervisor pipe is not defined")."""
    ground.deploy(1, service(run=f"Service().{method}()"))
    running = ground.run(PYTHON, "current/service.py")
    assert running.wait() == 255
    assert running.err == "Shutting down: Supervisor pipe is not defined\n"


def test_ready_to_take_over_is_immediate(ground: Ground) -> None:
    """In the first generation the turn comes at once; asked again, too."""
    ground.deploy(
        1, service("def serve(self):\n    self.ready_to_take_over()\n    report('again')\n    super().serve()")
    )
    ground.start()
    ground.expect("serves")
    ground.expect("again")


def test_error_in_the_worker(ground: Ground) -> None:
    """error() warns "Shutting down: ...", runs supervised_shutdown once, and exits with 255; another is started."""
    ground.deploy(1, service("def serve(self):\n    self.error('out of paper')"))
    running = ground.start()
    ground.expect("serves")
    ground.expect("shutdown")
    running.expect_line(r"^Service\[\d+\]: Shutting down: out of paper$")
    running.expect_line(r"Worker \(pid \d+\) exited with status 255$")
    ground.expect("serves")


def test_error_while_shutting_down(ground: Ground) -> None:
    """error() in supervised_shutdown ends the shutdown with 255; it does not begin another one."""
    ground.deploy(1, service("def supervised_shutdown(self):\n    report('down')\n    self.error('broken')"))
    running = ground.serving()
    os.kill(ground.worker_pids()[0], signal.SIGTERM)
    running.expect_line(r"Worker \(pid \d+\) exited with status 255$")
    assert len(ground.seen("down")) == 1


def test_signal_during_error(ground: Ground) -> None:
    """A shutdown signal that comes while error() shuts down does not shut down a second time."""
    ground.deploy(
        1,
        service(
            """
            def serve(self):
                self.error("enough")
            def supervised_shutdown(self):
                report("down")
                os.kill(os.getpid(), signal.SIGTERM)
                report("still here")
            """
        ),
    )
    running = ground.start()
    running.expect_line(r"Worker \(pid \d+\) exited with status 255$")
    ground.expect("still here")
    assert len(ground.seen("down")) == 1


def test_returning_worker(ground: Ground) -> None:
    """A worker whose code returns exits 0 and is replaced after delay_before_respawn, fractions allowed."""
    ground.deploy(1, service("delay_before_respawn = 0.125\ndef serve(self): pass"))
    running = ground.start()
    first = ground.expect("serves")
    running.expect_line(rf"Worker \(pid {first.pid}\) exited with status 0$")
    assert ground.expect("serves").pid != first.pid
    assert ground.status()["crashes"] == 0


def test_shutdown_signals(ground: Ground) -> None:
    """A class's own shutdown_signals stop the service; SIGTERM does so as well."""
    ground.deploy(1, service("shutdown_signals = (signal.SIGHUP,)"))
    running = ground.serving()
    running.signal(signal.SIGHUP)
    ground.expect("shutdown")
    assert running.wait() == 0
    running = ground.serving()
    os.kill(ground.worker_pids()[0], signal.SIGHUP)
    ground.expect("shutdown")
    ground.expect("serves")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


def test_broken_pipe(ground: Ground) -> None:
    """SIGPIPE is ignored in supervisor and worker: a write to a closed pipe is an error, not a death."""
    ground.deploy(
        1,
        service(
            """
            def serve(self):
                reader, writer = os.pipe()
                os.close(reader)
                try:
                    os.write(writer, b"x")
                except BrokenPipeError:
                    report("survived")
                super().serve()
            """
        ),
    )
    running = ground.serving()
    ground.expect("survived")
    running.signal(signal.SIGPIPE)
    assert ground.status()["pid"] == running.pid


def test_handle_shutdown_of_a_worker(ground: Ground) -> None:
    """A worker leaves with handle_shutdown's value; by default that runs supervised_shutdown and is 0."""
    ground.deploy(
        1, service("def handle_shutdown(self):\n    return super().handle_shutdown() or 7 * (not self.is_supervisor)")
    )
    running = ground.serving()
    os.kill(ground.worker_pids()[0], signal.SIGTERM)
    ground.expect("shutdown")
    running.expect_line(r"Worker \(pid \d+\) exited with status 7$")


def test_exit_status_of_a_worker(ground: Ground) -> None:
    """sys.exit() in the worker ends it as it would end a script."""
    ground.deploy(1, service("def serve(self):\n    sys.exit('no more')"))
    running = ground.start()
    running.expect_line("^no more$")
    running.expect_line(r"exited with status 1$")


def test_reason_given_to_exit(ground: Ground) -> None:
    """The text a worker of new code exits with is the reason its reload failed."""
    ground.serving()
    ground.deploy(2, service("def warm_up(self):\n    sys.exit('there is no configuration')"))
    failed = ground.reload()
    assert failed.returncode == 1
    assert "NOT RELOADED: there is no configuration." in failed.stderr


def test_children_of_a_worker_get_signals_of_their_own(ground: Ground) -> None:
    """A process the service forked, by multiprocessing say, ends by SIGTERM: shutting down is its parent's affair."""
    body = """
    def serve(self):
        begun = multiprocessing.Event()
        child = multiprocessing.Process(target=work_on, args=[begun])
        child.start()
        begun.wait()
        child.terminate()
        child.join()
        report("child", exitcode=child.exitcode)
        super().serve()
    """
    before = """
    import multiprocessing

    def work_on(begun):
        begun.set()
        while True:
            time.sleep(0.1)
    """
    ground.deploy(1, service(body, before=before))
    ground.serving()
    assert ground.expect("child").said("exitcode") == "-15"
    assert not ground.seen("shutdown")


def test_children_of_a_worker_that_are_ended_at_once(ground: Ground) -> None:
    """A pool of processes is sent SIGTERM as soon as nobody needs it, and waited for: none of them misses it, nor while
    other threads fork."""
    body = """
    def serve(self):
        threads = [threading.Thread(target=use_pools) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        report("done", blocked=signal.pthread_sigmask(signal.SIG_BLOCK, []))
        super().serve()
    """
    pools = """
    import multiprocessing
    def use_pools():
        for _ in range(40):
            pool = multiprocessing.get_context("fork").Pool(2)
            pool.map(abs, [1])
            pool.terminate()
            pool.join()
    """
    ground.deploy(1, service(body, before=pools))
    running = ground.start()
    assert ground.expect("done").said("blocked") == "set()"
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


def test_ready_without_hot_reload(ground: Ground) -> None:
    """A class that cannot be reloaded is not ready before it says so, either: systemd waits for its warm-up."""
    body = "can_do_hot_reload = False\ndef warm_up(self):\n    report('warming')\n    os.read(0, 1)"
    ground.deploy(1, service(body))
    reader, writer = os.pipe()
    ground.start(stdin=reader)
    ground.expect("warming")
    assert ground.status()["state"] == "opening"
    os.write(writer, b"x")
    ground.expect("serves")
    os.close(reader)
    os.close(writer)


def test_without_ready_to_take_over(ground: Ground) -> None:
    """A class that never calls ready_to_take_over is ready when it enters supervised_process, and enters it in its
    turn only."""
    text = service(
        """
        can_do_hot_reload = True
        delay_before_respawn = 0.05
        def supervised_process(self):
            be_the_only_one()
            report("serves", release=self.release)
            while True:
                wait_for_signal()
        def supervised_shutdown(self):
            report("shutdown")
        """,
        base="SupervisedDaemon",
    )
    ground.deploy(1, text)
    ground.serving()
    ground.deploy(2, text)
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2)


def test_unwritten_methods(ground: Ground) -> None:
    """A class without supervised_process or supervised_shutdown cannot be made."""
    ground.deploy(1, service(base="SupervisedDaemon"))
    running = ground.run(PYTHON, "current/service.py")
    assert running.wait() == 1
    assert "supervised_process" in running.err and "supervised_shutdown" in running.err


# ------------------------------------------------------------------------------------------------------ a plain Daemon


DAEMON = """
def daemon_run(self, *arguments):
    report("serves", arguments=arguments)
    self.work()
    return 3
def work(self):
    while True:
        wait_for_signal()
def handle_shutdown(self):
    report("shutdown")
    return 4
"""


def test_daemon_returns(ground: Ground) -> None:
    """run() of a plain Daemon calls daemon_run with the arguments; its value is the exit status."""
    ground.deploy(1, service(DAEMON + "def work(self): pass", base="Daemon"))
    running = ground.start("one", "two")
    assert ground.expect("serves").said("arguments") == "('one', 'two')"
    assert running.wait() == 3
    assert not ground.seen("shutdown")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGTERM])
def test_daemon_stops(ground: Ground, number: signal.Signals) -> None:
    """INT, QUIT and TERM run handle_shutdown, whose value is the exit status."""
    ground.deploy(1, service(DAEMON, base="Daemon"))
    running = ground.serving()
    running.signal(number)
    ground.expect("shutdown")
    assert running.wait() == 4


def test_daemon_error(ground: Ground) -> None:
    """error() in a plain Daemon warns, runs handle_shutdown, and exits with 255."""
    ground.deploy(1, service(DAEMON + "def work(self): self.error('no more')", base="Daemon"))
    running = ground.start()
    assert running.wait() == 255
    assert re.search(r"^Service\[\d+\]: Shutting down: no more$", running.err, re.MULTILINE)
    assert len(ground.seen("shutdown")) == 1


def test_daemon_ignores_a_broken_pipe(ground: Ground) -> None:
    """A plain Daemon ignores SIGPIPE."""
    ground.deploy(1, service(DAEMON + "def work(self): os.kill(os.getpid(), signal.SIGPIPE)", base="Daemon"))
    assert ground.start().wait() == 3


def test_daemon_is_alone(ground: Ground) -> None:
    """A second start of a plain Daemon fails and says why."""
    ground.deploy(1, service(DAEMON, base="Daemon"))
    running = ground.serving()
    second = ground.start()
    assert second.wait() == 69
    assert second.err == f"Couldn't lock {ground.pid_file}. Is another copy of this daemon already running?\n"
    assert running.alive
