"""`sparsenet info` and `selfcheck`, and the command line as a whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
import reference
from command_line import ENVIRONMENT, invoke

import sparsenet
from sparsenet import info as info_module
from sparsenet import selfcheck as selfcheck_module
from sparsenet.cli import main
from sparsenet.cli.commands import COMMANDS
from sparsenet.info import cupy_cache, info
from sparsenet.kernels.cpu import numba_cache
from sparsenet.kernels.cpu.numba_cache import cache_folder, cache_folders
from sparsenet.selfcheck import Finding, dense_forward, selfcheck

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for path in (ROOT / "tools").glob("*.py") if path.stem != "start")


class TestInfo:
    def test_versions_devices_threads_and_caches_are_reported(self):
        lines = {line.split()[0]: line for line in info().splitlines() if line.strip()}
        assert np.__version__ in lines["numpy"] and sys.executable in lines["Python"]
        assert "cores" in lines["cpu"] and "sn.set_num_threads" in lines["threads"]
        assert "NUMBA_CACHE_DIR" in info() and "CUPY_CACHE_DIR" in info()

    def test_what_is_missing_comes_with_what_to_do(self, monkeypatch):
        def missing():
            raise RuntimeError("device 'cuda' needs CuPy: pip install 'sparsenet[cuda12x]'")

        monkeypatch.setattr("sparsenet.backend.cupy", missing)
        monkeypatch.setattr(info_module, "_version", lambda name: None)
        text = info()
        assert "cuda          not available; everything runs on the CPU.\n" in text
        assert "pip install 'sparsenet[cuda12x]'" in text
        assert "plotly        not installed, needed for the inspector page: pip install 'sparsenet[inspect]'" in text
        assert "numba         missing, needed for kernels on the CPU: pip install numba" in text

    def test_caches_go_where_the_environment_says(self, monkeypatch, tmp_path):
        monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "a"))  # as Numba reads NUMBA_CACHE_DIR
        monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "b"))
        assert cupy_cache() == tmp_path / "b" and all(tmp_path / "a" in folder.parents for folder in cache_folders())
        assert f"{tmp_path / 'a'} (empty so far)" in info() and f"{tmp_path / 'b'} (empty so far)" in info()
        for family, size in (("rows", 2_000_000), ("cpu", 500_000)):
            (cache_folder(family) / "kernel.nbi").write_bytes(bytes(size))
        (tmp_path / "a/of_another_package.nbi").write_bytes(bytes(size))
        assert f"{tmp_path / 'a'} (files: 2, 2.5 MB)" in info()

    def test_a_file_of_the_cache_that_cannot_be_read_is_passed_over(self, monkeypatch, tmp_path):
        monkeypatch.setattr(numba_cache, "cache_folders", lambda: [tmp_path])
        (tmp_path / "gone.nbi").symlink_to(tmp_path / "nowhere")  # as one that another process removes meanwhile
        (tmp_path / "whole.nbc").write_bytes(bytes(100_000))
        (tmp_path / "other.txt").write_bytes(bytes(900_000))
        assert f"{tmp_path} (files: 1, 100.0 kB)" in info()

    def test_a_cache_folder_that_is_not_there_is_empty(self, monkeypatch, tmp_path):
        monkeypatch.setattr(numba_cache, "cache_folders", lambda: [tmp_path / "absent"])
        assert f"{tmp_path / 'absent'} (empty so far)" in info()

    def test_without_a_home_it_works_too(self):
        """A container may have no home folder, and a user that the system does not know."""
        environment = {name: value for name, value in ENVIRONMENT.items() if name not in ("HOME", "XDG_CACHE_HOME")}
        done = subprocess.run([sys.executable, "-c", "import os, runpy, sys; sys.argv = ['sparsenet', 'info']; "
                               "os.path.expanduser = lambda path: path; "
                               "runpy.run_module('sparsenet', run_name='__main__')"],
                              env=environment, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, "") and "CPU kernels" in done.stdout


class TestSelfcheck:
    def test_passes_here_and_says_so(self):
        lines = []
        assert selfcheck(lines.append)
        checked = [line for line in lines if line.startswith("cpu")]
        assert len(checked) == 5 and all(" PASS " in line for line in checked)
        assert lines[-1].startswith("All checks passed on: cpu")

    def test_its_dense_network_is_the_reference_s(self):
        net, x = selfcheck_module._example(np.float64)
        grid = x.to_dense().numpy()
        first, relu, pool, last = net.layers
        weights = [(layer.weight.array, layer.bias.array) for layer in (first, last)]
        expected = reference.convolution(grid, *weights[0], 3, 2)
        expected, _ = reference.max_pool(reference.leaky_relu(expected, relu.negative_slope), 3, 1)
        expected = reference.convolution(expected, *weights[1], 2)
        reference.assert_close(dense_forward(net, grid), expected)
        assert pool.geometry.size == (3, 3, 3)

    def test_a_wrong_network_fails(self, monkeypatch):
        monkeypatch.setattr(selfcheck_module, "dense_forward", lambda net, grid: dense_forward(net, grid) * 1.001)
        lines = []
        assert not selfcheck(lines.append)
        assert " FAIL " in lines[1] and "largest difference 1.0e-03" in lines[1]
        assert lines[-1].startswith("1 of ") and "do not trust results from it" in lines[-1]

    def test_a_device_that_breaks_fails_with_its_words(self, monkeypatch):
        def broken(device):
            raise RuntimeError("out of memory")

        broken.__name__ = "same_bits"
        monkeypatch.setattr(selfcheck_module, "same_bits", broken)
        lines = []
        assert not selfcheck(lines.append)
        assert any("FAIL" in line and "same bits: out of memory" in line for line in lines)

    @pytest.mark.gpu
    def test_a_gpu_is_checked_too(self):
        pytest.importorskip("cupy", reason="needs CuPy and a CUDA device")
        found = [finding for finding in selfcheck_module.findings_of_all_devices() if finding.device == "cuda"]
        assert len(found) == 3 and all(finding.passed for finding in found), "\n".join(map(str, found))


class TestCommandLine:
    def test_info(self):
        done = invoke("info")
        assert done.returncode == 0 and done.stdout.startswith("sparsenet") and not done.stderr

    @pytest.mark.parametrize(("passed", "code"), [(True, 0), (False, 1)])
    def test_selfcheck_s_exit_code_is_its_verdict(self, monkeypatch, capsys, passed, code):
        monkeypatch.setattr(selfcheck_module, "findings_of_all_devices", lambda: [Finding("cpu", passed, "words")])
        assert main(["selfcheck"]) == code
        assert ("PASS" if passed else "FAIL") in capsys.readouterr().out

    @pytest.mark.parametrize("command", COMMANDS)
    def test_each_command_explains_itself(self, capsys, command):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        told = capsys.readouterr().out
        assert ended.value.code == 0 and told.startswith(f"usage: sparsenet {command} ") and "examples:" in told

    def test_help_lists_them_all(self, capsys):
        with pytest.raises(SystemExit) as ended:
            main(["--help"])
        told = capsys.readouterr().out
        assert ended.value.code == 0 and set(COMMANDS) <= set(told.split())

    def test_the_page_lists_them_all(self):
        page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
        table = page.partition("\nThe exit code")[0]
        assert re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE) == list(COMMANDS)

    def test_the_version(self, capsys):
        with pytest.raises(SystemExit) as ended:
            main(["--version"])
        assert (ended.value.code, capsys.readouterr().out) == (0, f"sparsenet {sparsenet.__version__}\n")

    @pytest.mark.parametrize(("arguments", "told"), [
        ([], "the following arguments are required: COMMAND"), (["nothing"], "invalid choice: 'nothing'"),
        (["--quiet", "train"], "unrecognized arguments"), (["info", "more"], "sparsenet info: error: unrecognized")])
    def test_a_wrong_command_line_ends_with_2(self, capsys, arguments, told):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2 and told in capsys.readouterr().err

    def test_without_a_clone_there_are_no_benchmarks(self, monkeypatch, capsys, tmp_path):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sparsenet, "__file__", str(tmp_path / "site" / "sparsenet" / "__init__.py"))
        assert main(["benchmark", "--quick"]) == 1
        assert "run it in a clone of the repository" in capsys.readouterr().err
        with pytest.raises(SystemExit) as ended:
            main(["benchmark", "--help"])
        assert ended.value.code == 0 and "not installed with the package" in capsys.readouterr().out

    @pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
    def test_each_script_of_tools_starts_its_command(self, path):
        done = subprocess.run([sys.executable, str(path), "--help"], capture_output=True, text=True, timeout=120,
                              env=ENVIRONMENT, check=False)
        assert done.returncode == 0 and "examples:" in done.stdout and not done.stderr
