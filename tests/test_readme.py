"""The code, links and commands of the README work as printed."""

import re
import shlex
from pathlib import Path

import pytest

import sparsenet
from sparsenet.cli import main

README = Path(__file__).parents[1] / "README.md"


def test_the_interface_in_thirty_lines(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["grid"].shape == (1, 16, 14, 14, 14)
    assert "convolution1" in capsys.readouterr().out


def test_pictures_and_pages_it_links_to_are_there():
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert links
    installed = Path(sparsenet.__file__).parents[1]  # what of it lies in the package
    missing = [link for link in links if "://" not in link
               and not ((installed if link.startswith("sparsenet/") else README.parent) / link).exists()]
    assert not missing


def test_the_changelog_and_the_citation_have_one_date():
    (dated, *_) = re.findall(r"^## [\d.]+ \((\d{4}-\d\d-\d\d)\)$", (README.parent / "CHANGELOG.md").read_text("utf-8"),
                             re.MULTILINE)
    citation = (README.parent / "CITATION.cff").read_text("utf-8")
    assert re.search(r"^date-released: (.+)$", citation, re.MULTILINE).group(1) == dated


COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
            for line in block.splitlines() if line.startswith("sparsenet ")]


def test_each_command_is_in_a_block_that_says_bash():
    text = README.read_text(encoding="utf-8")
    assert len(COMMANDS) > 6
    assert not re.findall(r"^    (?:sparsenet|python|python3|pip) .*$", text, re.MULTILINE)


@pytest.mark.parametrize("line", [
    pytest.param(line, marks=pytest.mark.extra("inspect") if line.startswith("sparsenet inspect") else ())
    for line in COMMANDS])
def test_commands_are_understood(line, monkeypatch, tmp_path, capsys):
    """Each command parses: it gets as far as missing files."""
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(line)[1:]) == 1
    assert re.search("no such file|No such file|does not exist|is missing|not there", capsys.readouterr().err)
