#!/usr/bin/env python3
"""Builds the site: runs the chapters of the course, looks into a trained network, collects all pages in build/docs, and
makes build/site of them.

    pip install ".[docs,plot,inspect]"
    python docs/build_site.py            # then open build/site/index.html
    python docs/build_site.py --serve    # the same, at http://localhost:8000
"""

from __future__ import annotations

import argparse
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(Path(__file__).parent)]

import notebooks  # noqa: E402

STAGED = ROOT / "build" / "docs"
PACKAGE = Path(find_spec("sparsenet").origin).parent  # where it is installed
# Pages outside docs/ and where they stand on the site.
ELSEWHERE = {"README.md": "overview.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md",
             "SECURITY.md": "security.md", "CITATION.cff": "CITATION.cff", "LICENSE": "LICENSE.txt"}
SHAPES_OF_CLASS = 6  # built-in ones, that are looked at for each channel
INSPECTED = "inspected_chair.html"  # the inspector page of a shipped model, which is written anew for each site
LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
FENCE = re.compile(r"(^ *```.*?^ *```)", re.DOTALL | re.MULTILINE)


def places() -> dict[str, str]:
    """The place on the site of each file of the repository that belongs to it, both relative to their roots."""
    found = {path.relative_to(ROOT).as_posix(): path.relative_to(ROOT / "docs").as_posix()
             for path in sorted((ROOT / "docs").rglob("*"))
             if path.is_file() and "__pycache__" not in path.parts and path not in code()}
    for chapter in chapters():
        found[chapter.relative_to(ROOT).as_posix()] = f"course/{chapter.stem}.md"
    cards = {f"sparsenet/models/{path.name}": f"models/{path.name}"
             for path in sorted((PACKAGE / "models").glob("*.md"))}
    return found | ELSEWHERE | cards


def file_of(source: str) -> Path:
    """The file of the repository, or of the package if that is installed elsewhere."""
    return PACKAGE.parent / source if source.startswith("sparsenet/") else ROOT / source


def code() -> set[Path]:
    """Files of docs/ that make the site and are not part of it."""
    return set((ROOT / "docs").glob("*.py"))


def chapters() -> list[Path]:
    """The sources of the course, in order."""
    return sorted((ROOT / "docs" / "course").glob("[0-9][0-9]_*.py"))


def relink(text: str, source: str, place: str, known: dict[str, str]) -> str:
    """A page's text with its links between files of the repository as links between pages of the site.

    source, place : of the page, in the repository and on the site
    known : see `places`

    Raises ValueError if a link leads to a file that is not on the site.
    """
    def linked(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        if target == f"docs/{INSPECTED}":
            return match[1] + posixpath.relpath(INSPECTED, posixpath.dirname(place)) + match[3]
        if target not in known:
            raise ValueError(f"{source} links to {match[2]}, which is not on the site: add it to docs/, or to "
                             "ELSEWHERE in docs/build_site.py")
        return match[1] + posixpath.relpath(known[target], posixpath.dirname(place)) + match[3]

    parts = FENCE.split(text)  # what is in fences is code
    return "".join(part if number % 2 else LINK.sub(linked, part) for number, part in enumerate(parts))


def stage(target: Path = STAGED) -> None:
    """Collect all pages in a folder, which is made anew."""
    shutil.rmtree(target, ignore_errors=True)
    known = places()
    for source, place in known.items():
        file = target / place
        file.parent.mkdir(parents=True, exist_ok=True)
        if source.endswith(".md"):
            file.write_text(relink(file_of(source).read_text(encoding="utf-8"), source, place, known), encoding="utf-8")
        elif source.endswith(".py"):
            stage_chapter(ROOT / source, file, known)
        else:
            shutil.copyfile(file_of(source), file)


def stage_chapter(chapter: Path, page: Path, known: dict[str, str]) -> None:
    """Run a chapter and write its page, its pictures, its notebook and its source."""
    print(f"running {chapter.name}", flush=True)
    cells = notebooks.read(chapter)
    outputs = list(notebooks.run(cells, chapter))
    text, pictures = notebooks.to_markdown(cells, outputs, chapter.stem)
    source = chapter.relative_to(ROOT).as_posix()
    own = {f"docs/course/{name}": f"course/{name}" for name in
           (*pictures, f"{chapter.stem}.ipynb", f"{chapter.stem}.py")}
    page.write_text(relink(text, source, known[source], known | own), encoding="utf-8")
    for name, picture in pictures.items():
        page.with_name(name).write_bytes(picture)
    page.with_suffix(".ipynb").write_text(notebooks.to_notebook(cells, outputs), encoding="utf-8")
    shutil.copyfile(chapter, page.with_suffix(".py"))


def stage_inspected(target: Path = STAGED) -> None:
    """Write the inspector page of a shipped model that looks at a built-in chair, with the built-in shapes that excite
    its channels most."""
    import numpy as np

    from sparsenet.cli import main as command
    from sparsenet.quickstart import write_off
    from sparsenet.shapes.parametric import CLASSES, parametric_mesh

    print(f"writing {INSPECTED}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        mesh, shapes = Path(folder) / "chair.off", Path(folder) / "shapes"
        shapes.mkdir()
        write_off(mesh, parametric_mesh("chair", np.random.default_rng(0)))
        for name in CLASSES:
            for number in range(1, 1 + SHAPES_OF_CLASS):
                write_off(shapes / f"{name} {number}.off", parametric_mesh(name, np.random.default_rng(number)))
        code = command(["inspect", "--checkpoint", "furniture", "--mesh", str(mesh), "--shapes", str(shapes), "--out",
                        str(target / INSPECTED)])
    if code:
        raise RuntimeError("the inspector page of the furniture model could not be written")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve", action="store_true", help="serve the site on localhost instead")
    serve = parser.parse_args().serve
    stage()
    stage_inspected()
    command = ["serve"] if serve else ["build", "--clean", "--strict"]
    path = os.pathsep.join(filter(None, (str(ROOT / "docs"), os.environ.get("PYTHONPATH"))))  # of header_cells.py
    return subprocess.run([sys.executable, "-m", "zensical", *command], cwd=ROOT, check=False,
                          env=os.environ | {"PYTHONPATH": path}).returncode


if __name__ == "__main__":
    sys.exit(main())
