"""The reference of a config's keys, as `sparsenet train --keys` prints it."""

from __future__ import annotations

from dataclasses import fields

from sparsenet.nn.layer_list import describe_layers
from sparsenet.toml import as_toml
from sparsenet.training.schema import Config
from sparsenet.training.terms import describe_terms


def describe_keys() -> str:
    """A reference of all keys: TOML, with each key's meaning in a comment above it."""
    lines = []
    for section in fields(Config):
        lines += [f"# {' '.join((type(section.default).__doc__ or '').split())}", f"[{section.name}]"]
        for f in fields(section.default):
            choices = f" Choices: {', '.join(f.metadata['choices'])}." if f.metadata["choices"] else ""
            lines += [f"# {f.metadata['meaning']}.{choices}"]
            if f.name == "layers":
                lines += [f"#     {line}" for line in describe_layers()]
            if f.name == "terms":
                lines += [f"#     {line}" for line in describe_terms()]
            lines += [f"{f.name} = {as_toml(f.default)}"]
        lines.append("")
    return "\n".join(lines)
