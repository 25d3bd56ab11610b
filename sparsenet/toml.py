"""Reads untrusted TOML, with one-line errors for any problem, and writes values."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

MAX_BYTES = 100_000  # of a text; parsing this much takes well under a second
MAX_DOTS = 100  # on a line; the parsing time of a key is quadratic in its number of dots
_SHOWN = 60  # characters of a value in a message


class TomlError(ValueError):
    """The text is not TOML, or is longer than any settings file should be."""


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises
    ------
    TomlError : it is too long, not UTF-8, or see `parse_toml`; the message does not name the file.
    OSError : it cannot be read.
    """
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    try:
        return parse_toml(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        if len(content) > MAX_BYTES:
            raise _too_long() from None
        raise TomlError(f"not a text in UTF-8 ({error.reason} at byte {error.start})") from None


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises
    ------
    TomlError : it is not TOML, too long, nested too deeply, or has a number of thousands of digits.
    """
    if len(text) > MAX_BYTES:
        raise _too_long()
    for number, line in enumerate(text.splitlines(), start=1):
        if line.count(".") > MAX_DOTS:
            raise TomlError(f"line {number} has {line.count('.')} dots, expected at most {MAX_DOTS}")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TomlError(f"not TOML: {shortened(' '.join(str(error).split()), 2 * _SHOWN)}") from None
    except RecursionError:
        raise TomlError("not TOML that can be read: it is nested too deeply") from None
    except ValueError:  # from `int`; TOMLDecodeError, a subclass, is handled above
        raise TomlError("not TOML that can be read: it has a whole number of thousands of digits") from None


def as_toml(value: Any, indent: str = "") -> str:
    """A str, number, bool, or a list or table of these as TOML.  (The repr of a finite float is valid TOML.)

    A list that contains tables takes a line for each entry, after `indent`.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = "".join(f"\\u{ord(c):04X}" if ord(c) < 32 or c in '"\\\x7f' else c for c in value)
        return f'"{escaped}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {as_toml(entry, indent)}" for name, entry in value.items()) + "}"
    if isinstance(value, list | tuple) and any(isinstance(entry, dict) for entry in value):
        lines = "".join(f"{indent}    {as_toml(entry, indent + '    ')},\n" for entry in value)
        return f"[\n{lines}{indent}]"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return repr(value)


def shown(value: Any) -> str:
    """A value for a message: its shortened repr, or a description if it is large or nested."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        plain = len(value) <= _SHOWN and not any(isinstance(v, list | dict) or _is_huge(v) for v in value)
        return shortened(repr(value)) if plain else f"a list of {len(value)}"
    return f"a whole number of {value.bit_length()} bits" if _is_huge(value) else shortened(repr(value))


def _is_huge(value: Any) -> bool:
    """Whether the value is an integer too long for Python to print."""
    return isinstance(value, int) and value.bit_length() > 1000


def shortened(text: str, limit: int = _SHOWN) -> str:
    """A text with its middle left out if it is longer than `limit`."""
    return text if len(text) <= limit else f"{text[:limit - 20]}...{text[-17:]}"


def _too_long() -> TomlError:
    return TomlError(f"longer than {MAX_BYTES:,} bytes, expected the few lines of a settings file")
