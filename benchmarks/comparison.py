"""Compares a run with a committed one, by figures that do not depend on the machine's clock."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.figures import Figure, Results

MIN_CHANGE = 0.15  # smaller changes count as noise, whatever the spreads are
WORDS = {"same": "within noise", "better": "BETTER", "worse": "WORSE", "new": "new", "gone": "not measured now"}


@dataclass(frozen=True)
class Comparison:
    """One ratio, before and now; either may be missing.

    noise : relative change explained by the two spreads;  verdict : a key of WORDS
    """

    before: Figure | None
    now: Figure | None
    noise: float
    verdict: str

    @property
    def figure(self) -> Figure:
        return self.now or self.before

    @property
    def change(self) -> float | None:
        """The relative change from before to now."""
        if self.before is None or self.now is None or not self.before.value:
            return None
        return self.now.value / self.before.value - 1


def compare(now: Results, before: Results) -> list[Comparison]:
    """Every ratio ("x" and "%" with a direction) of either run, in the order of the run now.

    Raises
    ------
    ValueError : the runs are of different devices.
    """
    if now.device != before.device:
        raise ValueError(f"benchmark: this run is on {now.device}, the committed one on {before.device}: compare with "
                         "a file of the same device")
    measured = set(now.sections())
    old = {figure.key: figure for figure in before.figures if figure.is_ratio}
    pairs = [(old.pop(figure.key, None), figure) for figure in now.figures if figure.is_ratio]
    pairs += [(figure, None) for figure in old.values() if figure.section in measured]
    return [_compared(*pair) for pair in pairs]


def _compared(before: Figure | None, now: Figure | None) -> Comparison:
    if before is None or now is None:
        return Comparison(before, now, 0.0, "new" if before is None else "gone")
    noise = max(MIN_CHANGE, 2 * (before.spread**2 + now.spread**2) ** 0.5)
    if not before.value or not now.value:
        return Comparison(before, now, noise, "same")
    gain = now.value / before.value
    if now.better == "lower":
        gain = 1 / gain
    verdict = "better" if gain > 1 + noise else "worse" if gain < 1 / (1 + noise) else "same"
    return Comparison(before, now, noise, verdict)


def report(comparisons: list[Comparison]) -> str:
    """One line for each change beyond noise, and a count of the others."""
    lines = []
    for one in comparisons:
        if one.verdict not in ("better", "worse"):
            continue
        figure = one.figure
        lines.append(f"  {WORDS[one.verdict]:6} {figure.section} | {figure.case} | {figure.name}: "
                     f"{one.before.value:.3g} -> {one.now.value:.3g} {figure.unit} "
                     f"({100 * one.change:+.0f}%, noise {100 * one.noise:.0f}%)")
    counts = {word: sum(one.verdict == verdict for one in comparisons) for verdict, word in WORDS.items()}
    summary = ", ".join(f"{count} {word.lower()}" for word, count in counts.items() if count)
    return "\n".join([f"against the committed figures: {summary or 'nothing to compare'}", *lines])
