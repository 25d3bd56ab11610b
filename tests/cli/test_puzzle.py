"""`sparsenet puzzle`: a learner's way through it."""

from __future__ import annotations

import json

import pytest

from sparsenet.cli import main
from sparsenet.teach.puzzle import find


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *words: str) -> tuple[int, str]:
    code = main(["puzzle", *words])
    told = capsys.readouterr()
    return code, told.out + told.err


def test_from_the_list_to_a_solved_puzzle(capsys, folder):
    assert run(capsys)[1].endswith("0 of 20 solved ([x] solved, [.] begun).  Next: sparsenet puzzle start offsets\n")
    assert list(folder.iterdir()) == []
    code, told = run(capsys, "start", "offsets")
    assert code == 0 and "sparsenet puzzle check offsets.py" in told and "[.] offsets " in run(capsys)[1]
    assert run(capsys, "check", "offsets.py") == (1, (
        "offsets.py: not yet.\n\nthe hole at line 21 of offsets.py is still empty: one line is enough\n"
        "Write between the marks; `sparsenet puzzle hint offsets` helps.\n"))
    (folder / "offsets.py").write_text(find("offsets").solution)
    assert run(capsys, "check", "offsets") == (0, "offsets.py: solved (5 cases).\nNext: sparsenet puzzle start keys\n")
    assert "[x] offsets " in run(capsys)[1] and "1 of 20 solved" in run(capsys)[1]
    (folder / "offsets.py").write_text(find("offsets").solution + "# more\n")
    assert "(changed since)" in run(capsys)[1]
    assert {path.name for path in folder.iterdir()} == {"offsets.py", "progress.json"}


def test_hints_come_one_at_a_time(capsys):
    hints = find("keys").hints
    for number, hint in enumerate(hints, 1):
        assert run(capsys, "hint", "keys")[1].startswith(f"hint {number} of {len(hints)}: {hint}\n")
    assert "sparsenet puzzle solution keys" in run(capsys, "hint", "keys")[1]
    assert run(capsys, "solution", "keys") == (0, find("keys").solution)


def test_a_file_of_another_name_in_another_folder(capsys, folder):
    assert run(capsys, "start", "max-pool", "--folder", "deep/er")[0] == 0
    mine = folder / "deep" / "er" / "mine.py"
    (folder / "deep" / "er" / "max_pool.py").rename(mine)
    mine.write_text("# sparsenet puzzle: max_pool\n" + find("max_pool").solution)
    assert run(capsys, "check", "deep/er/mine.py")[0] == 0
    assert run(capsys, "check", "max_pool", "--folder", "deep/er")[0] == 0
    assert "[x] max_pool" in run(capsys, "--folder", "deep/er")[1] and "[ ] max_pool" in run(capsys)[1]


def test_what_is_written_is_kept(capsys, folder):
    run(capsys, "start", "offsets")
    (folder / "offsets.py").write_text("mine")
    assert run(capsys, "start", "offsets") == (
        1, "sparsenet puzzle: error: offsets.py is there already: go on with it, or remove it to begin anew\n")
    assert (folder / "offsets.py").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "[]", '{"puzzles": [1]}', '{"puzzles": {"keys": 1}}'])
def test_progress_that_is_none_is_told(capsys, folder, text):
    (folder / "progress.json").write_text(text)
    code, told = run(capsys)
    assert code == 1 and "progress.json is not a list of solved puzzles" in told


def test_all_solved(capsys, folder):
    from sparsenet.teach.puzzles import NAMES

    (folder / "progress.json").write_text(json.dumps({"puzzles": {name: {"solved": "1", "file": f"{name}.x"}
                                                                  for name in NAMES}}))
    assert run(capsys)[1].endswith("20 of 20 solved ([x] solved, [.] begun).\n")


@pytest.mark.parametrize(("words", "told"), [
    (["start"], "start needs the name of a puzzle"), (["list", "keys"], "list takes no puzzle, got 'keys'"),
    (["solve", "keys"], "invalid choice: 'solve'"), (["check", "keys", "--seconds", "0"], "0 is not a positive")])
def test_a_wrong_command_line(capsys, words, told):
    with pytest.raises(SystemExit) as ended:
        main(["puzzle", *words])
    assert ended.value.code == 2 and told in capsys.readouterr().err


@pytest.mark.parametrize(("words", "told"), [
    (["check", "keys"], "keys.py is not there: `sparsenet puzzle start keys` writes it"),
    (["check", "other.py"], "there is no puzzle 'other'"), (["hint", "other"], "there is no puzzle 'other'"),
    (["start", "offsetz"], "there is no puzzle 'offsetz': did you mean offsets?")])
def test_what_is_not_there(capsys, words, told):
    code, printed = run(capsys, *words)
    assert code == 1 and told in printed
