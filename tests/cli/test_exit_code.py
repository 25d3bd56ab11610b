"""The exit codes and error lines of tools."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sparsenet.cli.exit_code import run
from sparsenet.interrupts import deferred_interrupt

posix = pytest.mark.skipif(os.name != "posix", reason="sends signals")


def failing(error: BaseException):
    def main():
        raise error
    return main


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_the_exit_code_is_what_main_returns(returned, code: int):
    assert run(lambda: returned) == code


@pytest.mark.parametrize(("error", "line"), [
    (ValueError("size is 0,\n  expected 1"), "tool: error: size is 0, expected 1"),
    (FileNotFoundError(2, "No such file or directory", "x.off"), "tool: error: x.off: No such file or directory"),
    (OSError("disk full"), "tool: error: disk full"), (RuntimeError(), "tool: error: RuntimeError"),
])
def test_an_error_is_one_line(capsys, error: Exception, line: str):
    assert run(failing(error), "tool") == 1
    assert capsys.readouterr().err == line + "\n"


def test_an_interruption_is_130(capsys):
    assert run(failing(KeyboardInterrupt()), "tool") == 130
    assert capsys.readouterr().err == "\ntool: interrupted\n"


@posix
@pytest.mark.parametrize("code", ["exec('raise KeyboardInterrupt')", "eval('signal.raise_signal(signal.SIGINT)')"])
def test_an_interruption_within_the_exec_of_a_text_is_130(tmp_path: Path, code: str):
    """`dataclass` runs such an exec while a module is imported."""
    (tmp_path / "module.py").write_text("import signal, sys\nfrom sparsenet.cli.exit_code import run\n"
                                        f"sys.exit(run(lambda: {code}, 'tool'))\n")
    done = subprocess.run([sys.executable, "-m", "module"], cwd=tmp_path, capture_output=True, check=False, text=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])})
    assert (done.returncode, done.stderr) == (130, "\ntool: interrupted\n")


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(failing(ZeroDivisionError()))


def test_a_closed_pipe_is_no_error():
    code = "import sys; from sparsenet.cli.exit_code import run; sys.exit(run(lambda: print('x' * 100_000)))"
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE,
                            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
    os.close(write)
    assert (result.returncode, result.stderr) == (0, b"")


def test_an_import_that_ctrl_c_broke_is_an_interruption(capsys):
    def main():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("numpy failed to import") from error

    assert run(main, "tool") == 130 and capsys.readouterr().err == "\ntool: interrupted\n"
    with pytest.raises(ImportError):
        run(failing(ImportError("no module")))


ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def tool(body: str, *, console: str = "utf-8", **options) -> subprocess.CompletedProcess:
    """A tool whose `main` has this body."""
    lines = "\n    ".join(body.splitlines())
    code = ("import os, signal, sys\nfrom sparsenet.cli.exit_code import run\n"
            "from sparsenet.interrupts import deferred_interrupt, uninterrupted\n"
            f"def main():\n    {lines}\n")
    return subprocess.run([sys.executable, "-c", f"{code}sys.exit(run(main, 'tool'))"], text=True, check=False,
                          timeout=60, env={**ENVIRONMENT, "PYTHONIOENCODING": console}, stderr=subprocess.PIPE,
                          **{"stdout": subprocess.PIPE, **options})


@pytest.mark.parametrize(("console", "printed"), [
    ("ascii", "T\\xfcr \\u6905 \\udce9"), ("utf-8", "Tür 椅 \\udce9"), ("cp1252", "T\ufffdr \\u6905 \\udce9")])
def test_success_does_not_depend_on_the_console_s_encoding(console: str, printed: str):
    body = "for stream in sys.stdout, sys.stderr:\n    print('T\\xfcr \\u6905 \\udce9', file=stream)"
    done = tool(body, console=console, errors="replace", encoding="utf-8")
    assert (done.returncode, done.stdout.strip(), done.stderr.strip()) == (0, printed, printed)


def test_an_error_is_one_line_whatever_the_console_s_encoding():
    done = tool("raise ValueError('T\\xfcr')", console="ascii")
    assert (done.returncode, done.stderr) == (1, "tool: error: T\\xfcr\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a file that is always full")
def test_output_to_a_full_disk_is_one_error():
    with open("/dev/full", "w") as full:
        done = tool("print('x')", stdout=full)
    assert (done.returncode, done.stderr) == (1, "tool: error: [Errno 28] No space left on device\n")




@posix
@pytest.mark.parametrize(("number", "code", "word"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
class TestSignals:
    def test_the_exit_code_tells_which_came(self, number: str, code: int, word: str):
        done = tool(f"try:\n    signal.raise_signal(signal.{number})\nfinally:\n    print('cleaned')")
        assert (done.returncode, done.stdout, done.stderr) == (code, "cleaned\n", f"\ntool: {word}\n")

    def test_a_deferred_one_is_a_flag_until_it_is_read(self, number: str, code: int, word: str):
        done = tool(f"""with deferred_interrupt() as interrupted:
    print(interrupted())
    signal.raise_signal(signal.{number})
    print(interrupted())
    raise KeyboardInterrupt""")
        assert (done.returncode, done.stdout, done.stderr) == (code, "False\nTrue\n", f"\ntool: {word}\n")

    def test_a_second_one_interrupts_at_once(self, number: str, code: int, word: str):
        done = tool(f"""with deferred_interrupt():
    signal.raise_signal(signal.{number})
    print('first')
    signal.raise_signal(signal.{number})
    print('second')""")
        assert (done.returncode, done.stdout) == (code, "first\n")

    def test_one_that_nobody_read_is_not_lost(self, number: str, code: int, word: str):
        done = tool(f"""with deferred_interrupt() as interrupted:
    with deferred_interrupt() as inner:
        print(inner())
        signal.raise_signal(signal.{number})
    print(interrupted())
print('left')""")
        assert (done.returncode, done.stdout) == (0, "False\nTrue\nleft\n")  # read: whoever read it decides
        done = tool(f"with deferred_interrupt():\n    signal.raise_signal(signal.{number})\nprint('left')")
        assert (done.returncode, done.stdout, done.stderr) == (code, "", f"\ntool: {word}\n")

    def test_one_that_got_lost_is_raised_again_at_the_next_block(self, number: str, code: int, word: str):
        done = tool(f"""class Lost:
    def __del__(self):
        signal.raise_signal(signal.{number})
Lost()
print('went on')
with deferred_interrupt():
    print('still')""")
        assert (done.returncode, done.stdout) == (code, "went on\n") and done.stderr.endswith(f"\ntool: {word}\n")

    def test_one_that_an_import_replaced_by_an_error_of_its_own(self, number: str, code: int, word: str):
        done = tool(f"""try:
    signal.raise_signal(signal.{number})
except KeyboardInterrupt:  # as a compiled module does, without a cause
    pass
raise ImportError('numba._devicearray failed to import')""")
        assert (done.returncode, done.stdout, done.stderr) == (code, "", f"\ntool: {word}\n")

    def test_work_that_must_not_be_interrupted_is_not(self, number: str, code: int, word: str):
        done = tool(f"""with uninterrupted():
    for _ in range(3):
        signal.raise_signal(signal.{number})
    print('whole')
print('left')""")
        assert (done.returncode, done.stdout, done.stderr) == (code, "whole\n", f"\ntool: {word}\n")
        done = tool(f"""with deferred_interrupt() as interrupted:
    with uninterrupted():
        signal.raise_signal(signal.{number})
        print(interrupted())
    print(interrupted())""")
        assert (done.returncode, done.stdout) == (0, "False\nTrue\n")

    def test_a_tool_that_ends_cannot_be_interrupted_again(self, number: str, code: int, word: str):
        done = tool(f"import atexit\natexit.register(signal.raise_signal, signal.{number})\n"
                    f"signal.raise_signal(signal.{number})")
        assert (done.returncode, done.stderr) == (code, f"\ntool: {word}\n")

    def test_what_was_ignored_from_the_start_stays_so(self, number: str, code: int, word: str):
        def ignore():
            signal.signal(signal.Signals[number], signal.SIG_IGN)

        done = tool(f"with deferred_interrupt() as interrupted:\n    signal.raise_signal(signal.{number})\n"
                    "    print(interrupted())", preexec_fn=ignore)
        assert (done.returncode, done.stdout) == (0, "False\n")


@posix
def test_signal_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def main():
        assert signal.getsignal(signal.SIGTERM) != before[1]
        with deferred_interrupt():
            assert signal.getsignal(signal.SIGINT) != before[0]
        raise ValueError

    assert run(main, "tool") == 1
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
