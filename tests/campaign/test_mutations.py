"""Mutations change what a result depends on, each in one place and one way, and leave messages alone."""

from __future__ import annotations

from pathlib import Path

from campaign.mutations import mutations

PYTHON = '''"""A text with 1 < 2."""
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    LIMIT = 1

def f(x: "int < 3", many: bool = False) -> "int > 4":
    """x + 1"""
    if x != 0 and not many:
        raise ValueError(f"{x + 1} < 2")
    for a, b in zip(x, x[:5], strict=True):
        print(a)
    assert x > 6
    return x @ a
'''
CUDA = """// 1 < 2
#define TWO 2
__global__ void __launch_bounds__(256, 2) f(int* out) {
    static_assert(sizeof(int) == 4, "no");
    for (int i = 0; i < n; ++i) out[i] += i * width + 7;  /* 3 */
    __syncthreads();
}
"""


def changes(name: str, text: str) -> list[str]:
    found = mutations(Path(name), text)
    changed = [one.apply(text) for one in found]
    assert len({text, *changed}) == len(found) + 1  # no two are the same
    return [one.code for one in found]


def test_python_is_changed_where_a_result_comes_from():
    assert changes("f.py", PYTHON) == [
        'def f(x: "int < 3", many: bool = {False -> True}) -> "int > 4":',
        "if {x != 0 and not many -> (not (x != 0 and not many))}:",
        "if x {!= -> ==} 0 and not many:",
        "if x != {0 -> 1} and not many:",
        "if x != 0 {and -> or} not many:",
        "if x != 0 and {not many -> many}:",
        "for a, b in zip(x, x[:{5 -> 6}], strict=True):",
        "{print(a) -> pass}",
        "return x {@ -> *} a",
    ]


def test_cuda_is_changed_outside_comments_and_hints():
    assert changes("f.cu", CUDA) == [
        "for (int i = {0 -> 1}; i < n; ++i) out[i] += i * width + 7; /* 3 */",
        "for (int i = 0; i {< -> <=} n; ++i) out[i] += i * width + 7; /* 3 */",
        "for (int i = 0; i < n; ++i) out[i] {+= -> -=} i * width + 7; /* 3 */",
        "for (int i = 0; i < n; ++i) out[i] += i {* -> +} width + 7; /* 3 */",
        "for (int i = 0; i < n; ++i) out[i] += i * width {+ -> -} 7; /* 3 */",
        "for (int i = 0; i < n; ++i) out[i] += i * width + {7 -> 8}; /* 3 */",
        "{__syncthreads(); -> ;}",
    ]


def test_an_opposite_condition_is_drawn_once():
    assert changes("f.py", "if x is None:\n    y = 'a' if not x else x\n") == [
        "if x {is -> is not} None:", "y = 'a' if {not x -> x} else x"]
