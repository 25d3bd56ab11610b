"""The table of tile sizes: what it must hold, which line is chosen, and that it can be tuned."""

from dataclasses import replace

import numpy as np
import pytest

import sparsenet as sn
from sparsenet.kernels.convolution import tuning
from sparsenet.kernels.cuda import precompile, tiles
from sparsenet.kernels.cuda.source import use_driver
from sparsenet.teach.cuda_host.host_driver import HostDriver

COMMITTED = tiles.load_tile_table(tiles.COMMITTED)


@pytest.fixture(autouse=True)
def restore():
    yield
    sn.set_tile_table(None)


def test_the_committed_table_is_the_default():
    assert tiles.tile_table() == COMMITTED


@pytest.mark.parametrize("kind", tiles.KINDS)
@pytest.mark.parametrize("precision", [*tiles.ITEM_SIZES, *tiles.TENSOR_CORES])
@pytest.mark.parametrize("channels", [1, 32, 33, 64, 96, 128, 129, 1000])
def test_every_number_of_channels_has_a_line(kind, precision, channels):
    tile = COMMITTED.choose(kind, "sm_90", precision, channels)
    assert tile.precision == precision and (tile.channels == 0 or tile.channels >= channels)


def test_the_lowest_sufficient_line_and_the_architecture_s_own_before_any():
    base = COMMITTED.choose("forward", "any", "float32", 64)
    assert base.channels == 64
    own = replace(base, architecture="sm_90", stages=2)
    table = replace(COMMITTED, forward=(*COMMITTED.forward, own))
    assert table.choose("forward", "sm_90", "float32", 64) == own
    assert table.choose("forward", "sm_90", "float32", 33) == own
    assert table.choose("forward", "sm_90", "float32", 65).channels == 96
    assert table.choose("forward", "sm_90", "float32", 32).channels == 32
    assert table.choose("forward", "sm_80", "float32", 64) == base


@pytest.mark.parametrize("kind", tiles.KINDS)
@pytest.mark.parametrize("precision", [*tiles.ITEM_SIZES, "fp16"])
@pytest.mark.parametrize("channels", [1, 33, 64, 96, 128, 192, 1000])
def test_what_sm_75_multiplies_fits_its_shared_memory(kind, precision, channels):
    tile = COMMITTED.choose(kind, "sm_75", precision, channels)
    assert tile.shared_bytes(kind) <= 64 << 10


def test_a_written_table_reads_back(tmp_path):
    path = tmp_path / "mine.toml"
    changed = replace(COMMITTED, forward=COMMITTED.forward[::-1], split_blocks=7)
    tiles.write_tile_table(changed, path, "two lines\nof heading")
    assert path.read_text().startswith("# two lines\n# of heading\n")
    sn.set_tile_table(path)
    assert tiles.tile_table() == changed
    sn.set_tile_table(None)
    assert tiles.tile_table() == COMMITTED


@pytest.mark.parametrize(("old", "new", "words"), [
    ("rows = 128", "rows = 127", "multiples of own_rows"),
    ("stages = 3", "stages = 1", "stages is below 2"),
    ("stages = 3", "stages = 30", "bytes of shared memory"),
    ('"sm_90"', '"sm_86"', "bytes of shared memory, the limit is 101376"),
    ("stages = 3", "stages = 3, speed = 1", "unknown keys ['speed']"),
    ("stages = 3", "stages = '3'", "stages = '3', expected a whole number"),
    ('"tf32", channels = 0', '"tf32", channels = 7', "no line for tf32"),
    ('"tf32", channels = 0', '"tf16", channels = 0', "precision 'tf16', expected one of"),
    ("own_rows = 64", "own_rows = 8", "not multiples of 16, or depth is not a multiple of 8"),
    ("depth = 16", "depth = 12", "128 threads cannot share 12 copies"),
    ("[split]", "[spilt]", "unknown keys ['spilt'] and lacks ['split']"),
    ("blocks = 1024", "blocks = 0", "expected whole numbers from 1 up"),
    ("[split]", "[split", "Expected"),
])
def test_what_the_kernels_cannot_use_is_refused(tmp_path, old, new, words):
    path = tmp_path / "wrong.toml"
    text = tiles.COMMITTED.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(tiles.TileError) as error:
        sn.set_tile_table(path)
    assert "wrong.toml" in str(error.value) and words in str(error.value)
    assert tiles.tile_table() == COMMITTED


@pytest.mark.parametrize("kind", tiles.KINDS)
@pytest.mark.parametrize("precision", [*tiles.ITEM_SIZES, *tiles.TENSOR_CORES])
def test_candidates_are_many_and_all_can_be_used(kind, precision):
    found = list(tuning.candidates(kind, precision, "sm_90", 64))
    assert len(found) > 10 and len(set(found)) == len(found)
    assert all(not tile.fault(kind) and tile.architecture == "sm_90" and tile.channels == 64 for tile in found)


def test_tuning_keeps_the_fastest_that_is_right():
    """On the host, with a clock that makes the second candidate the faster one."""
    small = tiles.Tile("sm_90", "float32", 4, 32, 32, 8, 4, 4, 2, 1)
    times, said, ahead, kept, launched = iter([2.0, 1.0, 1.0, 2.0]), [], [], [], set()

    class Driver(HostDriver):
        def compile(self, kernel):
            launched.add(precompile.variant_of(kernel))
            return super().compile(kernel)

    with use_driver(Driver()):
        table = tuning.tune("sm_90", ["float32"], [4], rows=20, seconds_of=lambda run: next(times), xp=np,
                            choose=lambda *_: (small, replace(small, stages=3)), say=said.append,
                            compile_ahead=ahead.extend, keep=kept.append)
    for kind, stages in (("forward", 3), ("weight_gradient", 2)):
        best = replace(small, stages=stages)
        assert table.lines(kind) == (best, replace(best, channels=0), *COMMITTED.lines(kind))
    assert [line.split(":")[0] for line in said] == ["float32", "forward float32 4", "weight_gradient float32 4"]
    assert [name for _, name, _ in ahead] == 2 * ["convolution_forward"] + 2 * ["convolution_weight_gradient"]
    assert launched >= set(ahead)
    assert kept[0].forward == table.forward and kept[0].weight_gradient == COMMITTED.weight_gradient
    assert kept[1] == table
    assert sn.get_float32_matmul_precision() == "highest" and tiles.tile_table() == COMMITTED


def test_tuning_stops_at_a_wrong_result(monkeypatch):
    results = iter([np.zeros((2, 2)), np.ones((2, 2))])
    monkeypatch.setattr(tuning.convolution_cuda, "forward", lambda *_: next(results))
    with pytest.raises(RuntimeError, match="forward with Tile.* differs"):
        tuning.tune("sm_90", ["float32"], [4], rows=20, xp=np, seconds_of=lambda run: 1.0,
                    choose=lambda *_: COMMITTED.forward[:1], compile_ahead=lambda variants: None)


@pytest.mark.parametrize("kind", tiles.KINDS)
@pytest.mark.parametrize("precision", ["float32", *tiles.TENSOR_CORES])
def test_some_candidates_are_those_most_like_the_line_in_use(kind, precision):
    for channels in (64, 128):
        some = tuning.nearest(40)(kind, precision, "sm_90", channels)
        assert len(set(some)) == 40 and set(some) < set(tuning.candidates(kind, precision, "sm_90", channels))
        line = COMMITTED.choose(kind, "sm_90", precision, channels)
        assert replace(line, architecture="sm_90", channels=channels) in some[:2]


def test_what_is_compiled_ahead_is_what_a_launch_asks_for():
    tile = COMMITTED.choose("forward", "sm_90", "tf32", 128)
    source, name, macros = tuning._variant("forward", tile, "float32")
    listed = [(source, {key: str(value) for key, value in macros}) for source, _, macros in precompile.variants(90)]
    assert (source, dict(macros)) in listed and name == "convolution_forward_mma"
