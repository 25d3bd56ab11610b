"""What the README shows works as it stands."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest

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
    missing = [link for link in links if "://" not in link and not (README.parent / link).exists()]
    assert not missing


COMMANDS = re.findall(r"^    (python tools/.*)$", README.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("line", [
    pytest.param(line, marks=pytest.mark.extra("inspect") if "inspect_network" in line else ()) for line in COMMANDS])
def test_tools_understand_their_commands(line, monkeypatch, tmp_path):
    """Each command parses: the tool gets as far as missing files."""
    _, script, *arguments = shlex.split(line)
    spec = importlib.util.spec_from_file_location("tool", README.parent / script)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    with pytest.raises((OSError, ValueError)):
        tool.main()
