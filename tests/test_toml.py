"""A text that is not TOML, or a bomb, is reported in one short line, within a short time."""

from __future__ import annotations

import time

import pytest

from sparsenet.toml import MAX_BYTES, TomlError, parse_toml, read_toml, shortened, shown

BOMBS = {
    "nested lists": "a=" + "[" * 99_000,
    "nested tables": "a=" + "{a=" * 33_000,
    "dots": "a" + ".a" * 49_000 + "=1",
    "a header of dots": "[a" + ".a" * 49_000 + "]",
    "digits": "a=" + "1" * 99_000,
    "too long": " " * (MAX_BYTES + 1),
    "a key twice": f"{'a' * 45_000}=1\n{'a' * 45_000}=1",
    "unclosed": "a=[1,\n",
    "a lone quotation mark": 'a="' + "x" * 90_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_one_short_line_soon(name):
    begun = time.process_time()
    with pytest.raises(TomlError) as error:
        parse_toml(BOMBS[name])
    assert len(str(error.value)) < 200 and "\n" not in str(error.value)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("text", ["\n".join(f"k{i}{'.a' * 99}=1" for i in range(480)), "[[a]]\n" * 16_000,
                                  f"[{'.'.join('a' * 100)}]\n" + "\n".join(f"{'a.' * 99}c{i}=1" for i in range(470))])
def test_the_slowest_that_is_parsed_takes_seconds_at_most(text):
    begun = time.process_time()
    parse_toml(text)
    assert time.process_time() - begun < 5


def test_a_file_is_read_as_utf_8(tmp_path):
    (tmp_path / "a.toml").write_text('a = "é"', encoding="utf-8")
    assert read_toml(tmp_path / "a.toml") == {"a": "é"}
    (tmp_path / "a.toml").write_bytes(b"\xff" * 3)
    with pytest.raises(TomlError, match="not a text in UTF-8 .* at byte 0"):
        read_toml(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text("é" * MAX_BYTES, encoding="utf-8")  # cut off within a letter
    with pytest.raises(TomlError, match="longer than"):
        read_toml(tmp_path / "a.toml")


def test_values_are_shown_short():
    assert [shown(value) for value in (3, "a", [1, 2], {"a": 1}, [[1]], [1] * 999)] == [
        "3", "'a'", "[1, 2]", "a table", "a list of 1", "a list of 999"]
    assert shown(1 << 100_000) == "a whole number of 100001 bits" and shown([1 << 100_000]) == "a list of 1"
    assert shortened("x" * 60) == "x" * 60 and len(shortened("x" * 61)) == 60
