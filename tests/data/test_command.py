"""How tools end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sparsenet.command import run


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


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(failing(ZeroDivisionError()))


def test_a_closed_pipe_is_no_error():
    code = "import sys; from sparsenet.command import run; sys.exit(run(lambda: print('x' * 100_000)))"
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
