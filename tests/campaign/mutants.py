"""Mutation testing: plant small faults in the sources, and see whether the tests notice them.

    python tests/campaign/mutants.py --folder FOLDER                      # goes on if it was killed
    python tests/campaign/mutants.py --folder FOLDER --only survivors.txt # these again, after tests were added

A seeded draw takes a third of the mutants from each of three areas: ops and sparse; retrieval, data and training;
kernels (Python, Numba, CUDA).  First the tests run once on the sources as they are, which records the lines that each
executes (reached.py).  Each mutant is then planted in a copy of the checkout, and the tests that reach it run, those
named after its file first, as many as take some seconds; when all mutants had their turn, those that survived meet more
tests, which take minutes.  A mutant is killed if a test fails, or does not end in time: since all these tests are among
those of `pytest`, that kills it too.  One that survives is to be answered by a test, or by the reason why it is no
fault, in no_fault.toml.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from mutations import Mutation, mutations
from reached import digest

ROOT = Path(__file__).parents[2]
AREAS = {"engine": ("ops", "sparse"), "data": ("retrieval", "data", "training"), "kernels": ("kernels",)}
TESTED = ("sparse", "ops", "nn", "data", "training", "retrieval", "cli", "kernels", "cuda_host", "cuda", ".")
NOT_COMPILED = (  # into Numba's functions
    "contract", "reference", "guards", "arguments", "table", "full_check", "quick_check")
NEAR, WIDE = 20.0, 240.0  # seconds of tests, as recorded
VARIANTS = 4  # of a parametrized test, before those of others
SPARE = 240  # seconds that a run may need besides, to compile


def draw(areas: list[str], count: int, seed: int) -> list[Mutation]:
    """A third of the count from each of these areas; the same for the same sources, count and seed."""
    drawn = []
    for number, area in enumerate(AREAS):
        if area not in areas:
            continue
        every = [one for part in AREAS[area] for path in sorted((ROOT / "sparsenet" / part).rglob("*"))
                 if path.suffix in (".py", ".cu", ".cuh")
                 for one in mutations(path.relative_to(ROOT), path.read_text(encoding="utf-8"))]
        rng = random.Random(f"{seed} {area}")
        drawn += rng.sample(every, count // len(AREAS) + (number < count % len(AREAS)))
    return drawn


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Of tests that run in a copy of the checkout."""
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{folder / 'tests/campaign'}",
            "PYTHONDONTWRITEBYTECODE": "1", **more}


def run_tests(folder: Path, words: list[str], seconds: float | None = None, **more: str) -> tuple[int, str]:
    """The exit code of pytest, and what it printed; raises subprocess.TimeoutExpired."""
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "reached", *words]
    done = subprocess.run(words, cwd=folder, env=environment(folder, **more), capture_output=True, text=True,
                          timeout=seconds, check=False)
    return done.returncode, done.stdout + done.stderr


def run_chosen(folder: Path, tests: list[str], *words: str, seconds: float | None = None,
               **more: str) -> tuple[int, list[str], str]:
    """Run these tests alone: the exit code of pytest, those that fail, and what it printed."""
    with tempfile.TemporaryDirectory() as scratch:
        chosen = Path(scratch) / "chosen.json"
        chosen.write_text(json.dumps(tests), encoding="utf-8")
        files = sorted({test.partition("::")[0] for test in tests})
        code, output = run_tests(folder, [*words, *files], seconds, REACHED_CHOSEN=str(chosen), **more)
        failed = chosen.with_suffix(".failed")
        return code, failed.read_text("utf-8").splitlines() if failed.exists() else [], output


class Reached:
    """Which tests reach which lines, as recorded in a template: a copy of the checkout with compiled kernels in it."""

    def __init__(self, template: Path, folder: Path):
        self.seconds: dict[str, float] = {}
        self.lines: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        folder.mkdir(exist_ok=True)
        files = [path for part in TESTED for path in sorted((template / "tests" / part).glob("test_*.py"))]
        records = {path: folder / (".".join(path.relative_to(template).parts) + ".json") for path in files}
        stale = [path for path, record in records.items()
                 if not record.exists() or json.loads(record.read_text("utf-8"))["digest"] != digest(path)]
        for part in dict.fromkeys(path.parent for path in stale):
            print(f"recording what {part.relative_to(template)} reaches", flush=True)
            run_tests(template, [str(path.relative_to(template)) for path in stale if path.parent == part],
                      REACHED_RECORD=str(folder))
        for record in map(json.loads, (path.read_text("utf-8") for path in records.values())):
            self.seconds |= record["seconds"]
            names = list(record["seconds"])
            for path, lines in record["lines"].items():
                for line, tests in lines.items():
                    self.lines[path][int(line)] |= {names[test] for test in tests}

    def tests(self, mutant: Mutation) -> list[str]:
        """Those that reach a mutant, nearest and quickest first."""
        path, first = mutant.path, set()
        if path.suffix == ".py":
            first = self._of_line(mutant)
            found = first or self._of_files(path)
            if "numba" in (ROOT / path).read_text(encoding="utf-8"):  # the lines of compiled functions are not recorded
                found = first | self._of_files(*compiled_with(path, module_level=True))
        else:  # a header is part of the sources that include it
            names = {path.stem} | {source.stem for source in (ROOT / "sparsenet/kernels").rglob("*.cu")
                                   if path.suffix == ".cuh" and includes(source, path.name)}
            found = self._of_files(*(Path(one) for one in self.lines if Path(one).stem in names and one.endswith("u")))
        found = found or self._of_files(*(Path(one) for one in self.lines if Path(one).parent == path.parent
                                          and Path(one).stem != "cuda")) or set(self.seconds)
        near = {path.stem, path.parent.name, *(one.stem for one in (ROOT / path.parent).glob("*.cu"))}
        near -= {"cpu", "cuda", "kernels"}
        variants: Counter[str] = Counter()
        order = []
        for test in sorted(found, key=self.seconds.__getitem__):
            function = test.partition("[")[0]
            variants[function] += 1
            named = any(word in Path(test.partition("::")[0]).stem for word in near)
            order.append((test not in first, not named, variants[function] > VARIANTS, self.seconds[test], test))
        return [test for *_, test in sorted(order)]

    def _of_files(self, *paths: Path) -> set[str]:
        return {test for path in paths for tests in self.lines.get(path.as_posix(), {}).values() for test in tests}

    def _of_line(self, mutant: Mutation) -> set[str]:
        """Those that execute its line, or the nearest above it in its function; those that may see a constant."""
        tree = ast.parse((ROOT / mutant.path).read_text(encoding="utf-8"))
        around = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
                  and node.body[0].lineno <= mutant.line <= (node.end_lineno or 0)]
        if not around:
            return self._of_importers(mutant.path) | self._of_files(mutant.path)
        first = max(node.body[0].lineno for node in around)
        lines = self.lines.get(mutant.path.as_posix(), {})
        executed = [line for line in lines if first <= line <= mutant.line and lines[line]]
        return lines[max(executed)] if executed else set()

    def _of_importers(self, path: Path) -> set[str]:
        """Those in files that import a module: they need not execute a line of it to see its constants.  A family
        exports those of its contract."""
        name = path.parent.name if path.stem == "contract" else path.stem
        imports = re.compile(rf"^(?:from|import) .*\b{name}\b", re.MULTILINE)
        files = {test.partition("::")[0] for test in self.seconds}
        importing = {file for file in files if imports.search((ROOT / file).read_text(encoding="utf-8"))}
        return {test for test in self.seconds if test.partition("::")[0] in importing}


def includes(source: Path, header: str) -> bool:
    """Whether a CUDA source includes a header, directly or not."""
    found = re.findall(r'#include "([^"]+)"', source.read_text(encoding="utf-8"))
    folders = (source.parent, ROOT / "sparsenet/kernels/cuda")
    return header in found or any(includes(folder / name, header) for name in found for folder in folders
                                  if (folder / name).exists())


def compiled_with(path: Path, module_level: bool) -> Iterator[Path]:
    """The modules of kernels whose compiled functions may hold code or constants of one of them, itself included."""
    if path.stem in NOT_COMPILED and not module_level:
        return
    modules = {file.relative_to(ROOT): file.read_text("utf-8") for file in (ROOT / "sparsenet/kernels").rglob("*.py")}
    waiting, seen = [path], {path}
    while waiting:
        module = waiting.pop()
        yield module
        parent, name = ".".join(module.parent.parts), module.stem
        imports = re.compile(rf"from {parent}\.{name} import|from {parent} import [^\n]*\b{name}\b")
        found = [one for one, text in modules.items() if imports.search(text) and one not in seen]
        seen.update(found)
        waiting += found


def result(mutant: Mutation, tests: list[str], seconds: float, template: Path, folder: Path) -> dict[str, object]:
    """Whether the tests notice a mutant, planted in a copy of the template; `seconds` is what they take without it."""
    text = (ROOT / mutant.path).read_text(encoding="utf-8")
    shutil.copytree(template, folder, copy_function=os.link)  # whoever writes, writes a new file
    begun, failed, output = time.monotonic(), [], ""
    try:
        (folder / mutant.path).unlink()
        (folder / mutant.path).write_text(mutant.apply(text), encoding="utf-8")
        if mutant.path.suffix == ".py" and "kernels" in mutant.path.parts:
            indented = text[text.rfind("\n", 0, mutant.start) + 1].isspace()
            for module in compiled_with(mutant.path, module_level=not indented):
                for kept in (folder / module.parent / "__pycache__").glob(f"{module.stem}.*.nb?"):
                    kept.unlink()
        more = {"REACHED_UNPINNED": "1"} if mutant.path.stem == "numba_cache" else {}
        code, failed, output = run_chosen(folder, tests, "-x", seconds=5 * seconds + SPARE, **more)
        noticed = "survived" if code in (0, 5) else "killed"  # 5: no test was collected
    except subprocess.TimeoutExpired:
        noticed = "out of time"
    finally:
        shutil.rmtree(folder)
    by = "" if noticed == "survived" else failed[0] if failed else output[-300:]
    return {"mutant": str(mutant), "result": noticed, "by": by, "tests": len(tests),
            "seconds": round(time.monotonic() - begun, 1)}


def within(tests: list[str], seconds: dict[str, float], most: float) -> list[str]:
    """The first of the tests, as many as take that long."""
    chosen, total = [], 0.0
    for test in tests:
        total += seconds[test]
        if chosen and total > most:
            break
        chosen.append(test)
    return chosen


def synchronise(template: Path) -> None:
    """Make the template a copy of the checkout; what stays the same is not touched, so its kernels stay compiled."""
    def left_out(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if name in (".git", "__pycache__", "runs") or name.startswith(".venv")}

    with tempfile.TemporaryDirectory(dir=template.parent) as scratch:
        now = Path(scratch) / "now"
        shutil.copytree(ROOT, now, ignore=left_out)
        files = {path.relative_to(now) for path in now.rglob("*") if path.is_file()}
        for path in files:
            there = template / path
            if not there.exists() or there.read_bytes() != (now / path).read_bytes():
                there.parent.mkdir(parents=True, exist_ok=True)
                (now / path).replace(there)
        for path in [path for path in template.rglob("*") if path.is_file() and "__pycache__" not in path.parts]:
            if path.relative_to(template) not in files:
                path.unlink()


def test(drawn: list[Mutation], reached: Reached, template: Path, results: dict[str, dict], file: Path,
         quick: bool) -> None:
    """Test those without a result: all with the nearest tests, then the survivors with more; each result is kept."""
    for wide in (False,) if quick else (False, True):
        for mutant in drawn:
            before = results.get(str(mutant), {})
            if before and not (wide and before["result"] == "survived" and not before["wide"]):
                continue
            tests = reached.tests(mutant)
            near = within(tests, reached.seconds, NEAR)
            chosen = within(tests[len(near):], reached.seconds, WIDE) if wide else near
            seconds = sum(reached.seconds[test] for test in chosen)
            found = result(mutant, chosen, seconds, template, template.parent / "mutant") | {"wide": wide}
            results[str(mutant)] = found
            with file.open("a", encoding="utf-8") as kept:
                kept.write(json.dumps(found) + "\n")
            print(f"{found['result']:11} {mutant}", flush=True)


def report(drawn: list[Mutation], results: dict[str, dict[str, object]], no_fault: dict[tuple[str, str], str]) -> int:
    """Print the figures of each area, and the names of what is left; the exit code."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant in drawn:
        area = next(name for name, parts in AREAS.items() if mutant.path.parts[1] in parts)
        found = str(results.get(str(mutant), {}).get("result", "not tested"))
        why = no_fault.get((mutant.path.as_posix(), mutant.code))
        if found == "survived" and why:
            found = "no fault"
        for one in (area, "all"):
            counts[one]["killed" if found == "out of time" else found] += 1
        if found in ("survived", "not tested", "no fault"):
            print(f"{found}: {mutant}" + (f": {why}" if found == "no fault" else ""))
    for area, found in counts.items():
        faults = found.total() - found["no fault"]
        words = ", ".join(f"{number} {name}" for name, number in found.most_common())
        print(f"mutants of {area}: {words}: {100 * found['killed'] / max(faults, 1):.1f}% of the faults killed")
    return int(20 * counts["all"]["killed"] < 19 * (counts["all"].total() - counts["all"]["no fault"]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--area", choices=AREAS, action="append", help="its third only (default: all three)")
    parser.add_argument("--only", type=Path, metavar="FILE", help="test these again: mutants, one a line, as printed")
    parser.add_argument("--folder", type=Path, help="keeps the record, compiled kernels and results for the next run")
    parser.add_argument("--quick", action="store_true", help="the nearest tests alone: more survive")
    parser.add_argument("--report", action="store_true", help="print what results there are")
    arguments = parser.parse_args()
    drawn = draw(arguments.area or list(AREAS), arguments.count, arguments.seed)
    listed = tomllib.loads(Path(__file__).with_name("no_fault.toml").read_text("utf-8"))
    no_fault = {(path, code): why for path, codes in listed.items() for code, why in codes.items()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.folder or Path(scratch)).resolve()
        file, template = folder / "results.jsonl", folder / "template"
        template.mkdir(parents=True, exist_ok=True)
        file.touch()
        results = {one["mutant"]: one for one in map(json.loads, file.read_text("utf-8").splitlines())}
        if not arguments.report:
            synchronise(template)
            reached = Reached(template, folder / "reached")
            again = set(arguments.only.read_text("utf-8").splitlines()) if arguments.only else None
            chosen = [mutant for mutant in drawn if again is None or str(mutant) in again]
            if again is not None:
                for mutant in chosen:
                    results.pop(str(mutant), None)
            test(chosen, reached, template, results, file, arguments.quick)
            killers = {str(results[str(one)]["by"]) for one in chosen} & set(reached.seconds)
            _, failed, _ = run_chosen(template, sorted(killers))
            for mutant in chosen:  # a test that fails by itself kills nothing
                if results[str(mutant)]["by"] in failed:
                    results[str(mutant)] = {"result": f"not tested ({results[str(mutant)]['by']} fails without it)"}
        return report(drawn, results, no_fault)


if __name__ == "__main__":
    sys.exit(main())
