"""A campaign in sixty lines."""

from __future__ import annotations

import pytest

from benchmarks import Figure, Results, summary
from benchmarks.figures import line, read_lines
from benchmarks.stage import Outcome

FACTS = {"machine": {"gpu": "NVIDIA H200", "cuda": "runtime 13000, driver 13000"}, "commit": "abc", "began": "2030"}


def test_stages_failures_and_figures_in_this_order(tmp_path):
    (tmp_path / "smoke.txt").write_text("PASS hash table  error 0\nFAIL leaky ReLU  error 1.0, limit 2e-05\n")
    figures = [Figure("ceilings", "copy", "rate", 4300.0, "GB/s"),
               Figure("ceilings", "our launch", "host time", 12.0, "us"),
               Figure("S3DCNN steps", "render 40", "prepared", 21_000.0, "samples/s", better="higher", goal=20_000.0),
               Figure("large convolution", "64 -> 64, tf32", "forward", 1.5, "ms"),
               Figure("large convolution", "64 -> 64, tf32", "forward, rate", 98.0, "TFLOP/s"),
               Figure("large convolution", "64 -> 64, tf32", "forward, of matrix rate", 25.0, "%"),
               Figure("large convolution", "64 -> 64, tf32", "floor: L2 gather", 1.35, "ms"),
               Figure("beside peers", "64 -> 64, tf32", "forward, spconv / ours", 1.2, "x", better="higher", goal=1.5)]
    (tmp_path / "figures.jsonl").write_text("".join(f"{line(figure)}\n" for figure in figures))
    Results("cuda", notes=["peer spconv left out: it ended"]).save(tmp_path / "large.json")
    outcomes = [Outcome("smoke", False, "exit code 1: x", 3.2), Outcome("large", True, "", 50.0),
                Outcome("wgmma", None, "no time left")]
    assert summary.lines(FACTS, outcomes, tmp_path) == [
        "NVIDIA H200, runtime 13000, driver 13000, commit abc, 2030",
        "smoke      FAILED      3.2 s  exit code 1: x",
        "large      passed     50.0 s",
        "wgmma      left out    0.0 s  no time left",
        "  FAIL leaky ReLU  error 1.0, limit 2e-05",
        "  peer spconv left out: it ended",
        "large convolution",
        "  64 -> 64, tf32: forward 1.5 ms, floor: L2 gather 1.35 ms, forward, of matrix rate 25 %",
        "beside peers",
        "  64 -> 64, tf32: forward, spconv / ours 1.2 x (goal 1.5)",
        "ceilings",
        "  copy: rate 4,300 GB/s; our launch: host time 12 us",
        "S3DCNN steps",
        "  render 40: prepared 21,000 samples/s (goal met)"]


def test_it_is_never_longer_than_sixty_lines_nor_wider_than_a_screen(tmp_path):
    (tmp_path / "smoke.txt").write_text("".join(f"FAIL part {i} {'x' * 300}\n" for i in range(40)))
    figures = [Figure(section, f"case {i}", "rate", float(i), "ms") for section in summary.SECTIONS for i in range(50)]
    (tmp_path / "figures.jsonl").write_text("".join(f"{line(figure)}\n" for figure in figures))
    told = summary.lines(FACTS, [Outcome(f"stage {i}", False, "y" * 500) for i in range(12)], tmp_path)
    assert len(told) == summary.MAX_LINES == 60
    assert max(map(len, told)) <= summary.MAX_CHARACTERS
    assert told[-1].endswith("more lines in the archive")


@pytest.mark.parametrize("written", ["", '{"section": "a", "case": "b", "name": "c", "val'])
def test_a_line_that_was_cut_off_is_left_out(tmp_path, written):
    path = tmp_path / "figures.jsonl"
    path.write_text(f'{{"section": "a", "case": "b", "name": "c", "value": 1}}\n{written}')
    assert read_lines(path) == [Figure("a", "b", "c", 1)]
    assert read_lines(tmp_path / "nothing") == []
