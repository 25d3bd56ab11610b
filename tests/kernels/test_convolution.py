"""Convolution kernels against a plain loop in float64, on each backend and in each precision."""

from dataclasses import replace

import numpy as np
import pytest
import reference
from convolution_cases import Table, case, forward, rounded, through, weight_gradient
from cuda_host import cupy_of_numpy, device
from cuda_host.storage import HALF, in_half, precise

import sparsenet as sn
from sparsenet.backend import to_device
from sparsenet.kernels.convolution import cuda as convolution_cuda
from sparsenet.kernels.convolution import order as convolution_order
from sparsenet.kernels.cuda import tiles
from sparsenet.sparse import ActiveSites, Geometry

# N, M, K, C_in, C_out
SHAPES = [(0, 0, 8, 3, 5), (0, 4, 8, 3, 5), (5, 0, 8, 3, 5), (1, 1, 1, 1, 1), (50, 70, 8, 1, 32), (60, 40, 27, 7, 3),
          (30, 45, 40, 4, 8), (80, 70, 8, 20, 36)]
LARGE = (3000, 2500, 8, 16, 24)  # in several blocks of rows; a GPU's tests on the host leave it out
SMALL = dict(rows=32, columns=32, depth=16, own_rows=4, own_columns=4, stages=2, resident=1)
SMALL_WARPS = SMALL | dict(own_rows=16, own_columns=16)


def small_table(order_work=1 << 60, split_blocks=1, **changes):
    """Tiles of few threads for any architecture, precision and number of channels."""
    lines = tuple(
        tiles.Tile("any", precision, 0, **((SMALL_WARPS if precision in tiles.TENSOR_CORES else SMALL) | changes))
        for precision in (*tiles.ITEM_SIZES, *tiles.TENSOR_CORES))
    return tiles.TileTable(lines, lines, order_window=64, order_work=order_work, split_blocks=split_blocks,
                           wgmma_work=1, wgmma_architectures=())


@pytest.fixture
def use_table(tmp_path):
    """Puts a TileTable in place of the committed one."""
    def use(table):
        tiles.write_tile_table(table, tmp_path / "tiles.toml")
        sn.set_tile_table(tmp_path / "tiles.toml")

    yield use
    sn.set_tile_table(None)


@pytest.fixture(autouse=True)
def setting(backend, use_table):
    """Fewer threads on the host, where each is a fiber; restores the number of threads and the precision."""
    before = sn.get_num_threads()
    if backend == "cuda":
        use_table(small_table())
    with through("neighbours"):
        yield
    sn.set_num_threads(before)
    sn.set_float32_matmul_precision("highest")


@pytest.fixture
def precision(request):
    sn.set_float32_matmul_precision(request.param)
    return request.param


NO_GPU = device.missing()
CUDA = ["cuda", *([] if NO_GPU else [pytest.param("gpu", marks=pytest.mark.gpu)])]
each_precision = pytest.mark.parametrize("precision", ["tf32", "fp16", "bf16"], indirect=True)
on_cuda = pytest.mark.parametrize("backend", CUDA, indirect=True)
on_the_host = pytest.mark.parametrize("backend", ["cuda"], indirect=True)
on_cpu = pytest.mark.parametrize("backend", ["cpu"], indirect=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [*SHAPES, LARGE])
def test_forward(launch, backend, shape, dtype):
    if shape == LARGE and backend == "cuda":
        pytest.skip("too large for fibers")
    rulebook, features, weights, _, constant = case(*shape, dtype=dtype)
    for given in (constant, None):
        out = launch("convolution_forward", features, weights, rulebook, given)
        assert out.dtype == dtype
        reference.assert_close(out, forward(features, weights, rulebook, given))


@pytest.mark.parametrize("setting_", ["highest", "tf32"])
@pytest.mark.parametrize("given", [True, False])
def test_a_leaky_relu_comes_along(launch, setting_, given):
    sn.set_float32_matmul_precision(setting_)
    rulebook, features, weights, _, constant = case(*SHAPES[-1], dtype=np.float32)
    constant = constant if given else None
    out = launch("convolution_forward", features, weights, rulebook, constant)
    assert (out < 0).any() and (out > 0).any()
    found = launch("convolution_forward", features, weights, rulebook, constant, 0.3)
    assert np.array_equal(found, np.where(out > 0, out, out * np.float32(0.3)))
    empty = Table(np.full_like(rulebook.neighbours, -1), 0)
    nothing = launch("convolution_forward", features[:0], weights, empty, constant, 0.3)
    row = np.zeros(out.shape[1], np.float32) if constant is None else constant
    assert np.array_equal(nothing, np.broadcast_to(np.where(row > 0, row, row * np.float32(0.3)), out.shape))


@pytest.mark.parametrize("split_blocks", [1, 1 << 20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_the_weights_get_from_the_background(launch, backend, use_table, dtype, split_blocks):
    if backend == "cuda":
        use_table(small_table(split_blocks=split_blocks))
    rulebook, features, _, gradient, constant = case(*SHAPES[-1], dtype=dtype)
    background = np.linspace(-1, 1, features.shape[1]).astype(dtype)
    out = launch("convolution_weight_gradient", features, gradient, rulebook, background, constant)
    reference.assert_close(out, weight_gradient(features, gradient, rulebook) + np.outer(background, constant))
    nothing = launch("convolution_weight_gradient", features, gradient[:0],
                     Table(rulebook.neighbours[:0], len(features)), background, constant)
    reference.assert_close(nothing, np.broadcast_to(np.outer(background, constant), out.shape))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [*SHAPES, LARGE])
def test_weight_gradient(launch, backend, shape, dtype):
    if shape == LARGE and backend == "cuda":
        pytest.skip("too large for fibers")
    rulebook, features, _, gradient, _ = case(*shape, dtype=dtype)
    out = launch("convolution_weight_gradient", features, gradient, rulebook)
    assert out.dtype == dtype
    reference.assert_close(out, weight_gradient(features, gradient, rulebook))


@pytest.mark.parametrize("filled", [0.0, 0.05, 1.0])
def test_any_share_of_filled_entries(launch, filled):
    rulebook, features, weights, gradient, constant = case(60, 70, 8, 8, 12, filled)
    reference.assert_close(launch("convolution_forward", features, weights, rulebook, constant),
                           forward(features, weights, rulebook, constant))
    reference.assert_close(launch("convolution_weight_gradient", features, gradient, rulebook),
                           weight_gradient(features, gradient, rulebook))


@pytest.mark.parametrize("geometry", [Geometry.make(3, 2, stride=2), Geometry.make(2, 3, padding=1),
                                      Geometry.make_submanifold(2, 3)], ids=str)
def test_the_input_gradient_is_the_adjoint(launch, geometry):
    """<conv(x), g> = <x, input gradient of g>, with turned weights or without."""
    rng = np.random.default_rng(1)
    cells = np.argwhere(rng.random((2, *(6,) * geometry.dimension)) < 0.2).astype(np.int32)
    rulebook = ActiveSites(cells, (6,) * geometry.dimension, 2).rulebook(geometry)
    x = rng.standard_normal((len(cells), 5))
    weights = rng.standard_normal((geometry.volume, 5, 3))
    y = launch("convolution_forward", x, weights, rulebook, None)
    g = rng.standard_normal(y.shape)
    turned = weights.transpose(0, 2, 1)
    turned = np.ascontiguousarray(turned[::-1] if geometry.submanifold else turned)
    for given in ((), (None,), (turned,)):
        back = launch("convolution_input_gradient", g, weights, rulebook, *given)
        assert (y * g).sum() == pytest.approx((x * back).sum(), rel=1e-12)


@on_cuda
@each_precision
@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (30, 40, 35, 7, 3), (80, 70, 8, 24, 36)])
def test_operands_are_rounded_and_nothing_else(launch, precision, shape):
    rulebook, features, weights, gradient, constant = case(*shape)
    left, right, outer = (rounded(array, precision) for array in (features, weights, gradient))
    out = launch("convolution_forward", features, weights, rulebook, constant)
    assert out.dtype == np.float32
    reference.assert_close(out, forward(left, right, rulebook, constant))
    assert shape[0] == 1 or reference.relative_error(out, forward(features, weights, rulebook, constant)) > 1e-4
    reference.assert_close(launch("convolution_weight_gradient", features, gradient, rulebook),
                           weight_gradient(left, outer, rulebook))


@in_half
@pytest.mark.parametrize("setting_", ["highest", "bf16"])
@pytest.mark.parametrize("shape", [*SHAPES, (40, 50, 8, 16, 33), (40, 50, 8, 32, 16)])
def test_float16_is_multiplied_as_it_is_whatever_the_setting(launch, dtype, shape, setting_):
    """float16 is summed in float32: only the result is rounded."""
    sn.set_float32_matmul_precision(setting_)
    rulebook, *arrays = case(*shape, dtype=dtype)
    features, weights, gradient, constant = arrays
    wide = precise(*arrays)
    for given, precise_constant in ((constant, wide[3]), (None, None)):
        out = launch("convolution_forward", features, weights, rulebook, given)
        assert out.dtype == HALF
        reference.assert_close(out, forward(wide[0], wide[1], rulebook, precise_constant))
    out = launch("convolution_weight_gradient", features, gradient, rulebook)
    assert out.dtype == HALF
    reference.assert_close(out, weight_gradient(wide[0], wide[2], rulebook))


@in_half
def test_a_float16_result_is_rounded_once(launch, dtype, use_table):
    """Sums of 2048 and ones, and parts of them: in float16 the ones would be lost."""
    use_table(small_table(split_blocks=6))
    rulebook = Table(np.zeros((2500, 1), np.int32), 1)
    one, weights = np.ones((1, 1), dtype), np.ones((1, 1, 1), dtype)
    assert launch("convolution_weight_gradient", one, np.ones((2500, 1), dtype), rulebook).tolist() == [[[2500]]]
    rows = Table(np.zeros((3, 200), np.int32), 1)
    weights = np.broadcast_to(weights, (200, 1, 1)).copy()
    out = launch("convolution_forward", one, weights, rows, np.full(1, 2048, dtype))
    assert out.tolist() == [[2248]] * 3


@in_half
def test_float16_forward_bits_depend_neither_on_tiles_nor_on_the_order_nor_on_addresses(launch, dtype, use_table):
    rulebook, features, weights, _, constant = case(40, 70, 6, 32, 20, filled=0.3, dtype=dtype)
    shifted = np.append(dtype.type(0), features)[1:].reshape(features.shape)
    results = []
    for table, given in ((small_table(), features), (small_table(), shifted), (small_table(order_work=1), features),
                         (small_table(rows=64, columns=64, stages=3, depth=8, own_rows=32), features)):
        use_table(replace(table, weight_gradient=small_table().weight_gradient))
        convolution_order.forget_orders()
        results.append(launch("convolution_forward", given, weights, rulebook, constant))
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_a_cpu_refuses_float16():
    rulebook, features, weights, _, constant = case(5, 6, 8, 3, 4, dtype=HALF)
    with pytest.raises(TypeError, match="convolution_forward: features is float16, expected float32 or float64 on a "
                                        "CPU: float16 features are for the GPU: convert to float32 or move to cuda"):
        sn.kernels.launch("convolution_forward", features, weights, rulebook, constant)


@on_cuda
@each_precision
def test_float64_is_never_rounded(launch, precision):
    rulebook, features, weights, gradient, constant = case(20, 30, 8, 3, 5, dtype=np.float64)
    reference.assert_close(launch("convolution_forward", features, weights, rulebook, constant),
                           forward(features, weights, rulebook, constant))
    reference.assert_close(launch("convolution_weight_gradient", features, gradient, rulebook),
                           weight_gradient(features, gradient, rulebook))


@on_cuda
@pytest.mark.parametrize("setting_", ["highest", "tf32", "bf16"])
def test_forward_bits_depend_neither_on_tiles_nor_on_the_order_of_rows(launch, backend, use_table, setting_):
    sn.set_float32_matmul_precision(setting_)
    rulebook, features, weights, _, constant = case(40, 70, 6, 20, 20, filled=0.3)
    own = {} if setting_ == "highest" else {"own_rows": 32}
    results = []
    for table in (small_table(), small_table(order_work=1), small_table(rows=64, columns=64, stages=3, depth=8, **own)):
        table = replace(table, weight_gradient=small_table().weight_gradient)
        use_table(table)
        convolution_order.forget_orders()
        results.append(launch("convolution_forward", features, weights, rulebook, constant))
    assert all(np.array_equal(results[0], other) for other in results[1:])
    if setting_ != "highest":
        features, weights = rounded(features, setting_), rounded(weights, setting_)
    reference.assert_close(results[0], forward(features, weights, rulebook, constant))


@on_cuda
@pytest.mark.parametrize("setting_", ["highest", "tf32", "bf16"])
def test_parts_of_the_weight_gradient_are_added_in_order(launch, use_table, setting_):
    """2500 rows in 3 parts; a row without an input in each part."""
    sn.set_float32_matmul_precision(setting_)
    use_table(small_table(split_blocks=6))
    rulebook, features, _, gradient, _ = case(300, 2500, 2, 3, 5, filled=0.4)
    out = launch("convolution_weight_gradient", features, gradient, rulebook)
    if setting_ != "highest":
        features, gradient = rounded(features, setting_), rounded(gradient, setting_)
    reference.assert_close(out, weight_gradient(features, gradient, rulebook))


@on_cuda
@pytest.mark.parametrize("setting_", ["highest", "tf32"])
def test_rows_that_begin_anywhere(launch, setting_):
    """8 channels are copied by 16 bytes, but not from an address between."""
    sn.set_float32_matmul_precision(setting_)
    rulebook, features, weights, gradient, constant = case(30, 40, 8, 8, 8)
    expected = (launch("convolution_forward", features, weights, rulebook, constant),
                launch("convolution_weight_gradient", features, gradient, rulebook))
    moved = [np.append(np.float32(0), array)[1:].reshape(array.shape) for array in (features, weights, gradient)]
    assert np.array_equal(launch("convolution_forward", moved[0], moved[1], rulebook, constant), expected[0])
    assert np.array_equal(launch("convolution_weight_gradient", moved[0], moved[2], rulebook), expected[1])


@pytest.mark.parametrize("setting_", ["highest", "tf32", "bf16"])
def test_not_a_number_reaches_those_who_read_it_and_no_one_else(launch, setting_):
    sn.set_float32_matmul_precision(setting_)
    rulebook, features, weights, _, _ = case(40, 50, 8, 8, 8, filled=0.3)
    features[7, 3] = np.nan
    out = launch("convolution_forward", features, weights, rulebook, None)
    assert np.array_equal(np.isnan(out).all(axis=1), (rulebook.neighbours == 7).any(axis=1))
    assert np.array_equal(np.isnan(out).any(axis=1), (rulebook.neighbours == 7).any(axis=1))


def committed_lines():
    """Each line of the committed table once; bf16 runs fp16's code but for one instruction."""
    table = tiles.load_tile_table(tiles.COMMITTED)
    for kind in tiles.KINDS:
        seen = set()
        for tile in table.lines(kind):
            plain = replace(tile, channels=0, architecture="any")
            if replace(plain, precision="fp16" if tile.precision == "bf16" else tile.precision) not in seen:
                seen.add(plain)
                yield pytest.param(kind, plain, id=f"{kind}-{tile.precision}-{tile.rows}x{tile.columns}")


@on_the_host
@pytest.mark.parametrize(("kind", "tile"), list(committed_lines()))
def test_every_committed_tile(launch, kind, tile):
    base = small_table()
    lines = tuple(tile if other.precision == tile.precision else other for other in base.lines(kind))
    exact = tile.precision in tiles.ITEM_SIZES
    sn.set_float32_matmul_precision("highest" if exact else tile.precision)
    dtype = np.dtype(tile.precision if exact else "float32")
    rulebook, features, weights, gradient, constant = case(30, 40, 3, 8, tile.columns + 4, dtype=dtype)
    left, right, outer = ((features, weights, gradient) if exact else
                          (rounded(array, tile.precision) for array in (features, weights, gradient)))
    with tiles.using(replace(base, **{kind: lines})):
        if kind == "forward":
            out = launch("convolution_forward", features, weights, rulebook, constant)
            reference.assert_close(out, forward(left, right, rulebook, constant))
        else:
            out = launch("convolution_weight_gradient", features, gradient, rulebook)
            reference.assert_close(out, weight_gradient(left, outer, rulebook))


@on_the_host
def test_the_order_of_rows(launch, use_table):
    use_table(replace(small_table(order_work=1), order_window=100))
    rulebook, features, weights, _, _ = case(30, 750, 5, 3, 4)
    launch("convolution_forward", features, weights, rulebook, None)
    neighbours = rulebook.neighbours
    order = convolution_order.row_order(neighbours, 12)
    assert order.dtype == np.int32 and np.array_equal(np.sort(order), np.arange(750))
    bits = ((neighbours >= 0) << np.arange(5)).sum(axis=1)
    for begin in range(0, 750, 100):  # within each window: by offsets, then as they were
        window = order[begin:begin + 100]
        assert np.array_equal(window, begin + np.argsort(bits[begin:begin + 100], kind="stable"))
    assert convolution_order.row_order(neighbours, 12) is order
    known = convolution_order.orders_known()
    del neighbours, rulebook
    assert convolution_order.orders_known() == known - 1


@on_the_host
def test_a_stream_that_reads_a_known_order_waits_until_it_is_made(host_driver, use_table, monkeypatch):
    waited = []
    monkeypatch.setattr(cupy_of_numpy._Event, "done", False)
    monkeypatch.setattr(cupy_of_numpy._Stream, "wait_event", lambda stream, event: waited.append(stream))
    use_table(replace(small_table(order_work=1), order_window=100))
    with cupy_of_numpy.installed(host_driver):
        neighbours = to_device(case(30, 50, 5, 3, 4)[0].neighbours, "cuda")
        order = convolution_order.row_order(neighbours, 12)
        assert waited == []
        with cupy_of_numpy._Stream() as other:
            assert convolution_order.row_order(neighbours, 12) is order
        assert waited == [other]


@on_the_host
@pytest.mark.parametrize(("device_", "dtype", "setting_", "words"), [
    ("sm_75", np.float32, "tf32", "float32_matmul_precision is 'tf32', which needs sm_80 or later, .*sm_75.*highest"),
    ("sm_70", np.float32, "fp16", "float32_matmul_precision is 'fp16', which needs sm_75 or later, .*sm_70.*highest"),
    ("sm_70", HALF, "highest", "features are float16, which needs sm_75 or later, .*sm_70: convert to float32"),
])
def test_old_gpus_have_no_tensor_cores_for_it(launch, monkeypatch, device_, dtype, setting_, words):
    monkeypatch.setattr(convolution_cuda, "architecture", lambda _: device_)
    sn.set_float32_matmul_precision(setting_)
    rulebook, features, weights, gradient, _ = case(5, 6, 8, 3, 4, dtype=dtype)
    with pytest.raises(ValueError, match="convolution_forward: " + words):
        launch("convolution_forward", features, weights, rulebook, None)
    with pytest.raises(ValueError, match="convolution_weight_gradient: " + words):
        launch("convolution_weight_gradient", features, gradient, rulebook)


@on_the_host
@pytest.mark.parametrize(("dtype", "setting_"), [(np.float32, "fp16"), (HALF, "highest")], ids=["float32", "float16"])
def test_fp16_needs_no_more_than_sm_75(launch, monkeypatch, dtype, setting_):
    monkeypatch.setattr(convolution_cuda, "architecture", lambda _: "sm_75")
    sn.set_float32_matmul_precision(setting_)
    rulebook, features, weights, _, _ = case(5, 6, 8, 3, 4, dtype=dtype)
    half = [array.astype(HALF).astype(float) for array in (features, weights)]
    reference.assert_close(launch("convolution_forward", features, weights, rulebook, None),
                           forward(*half, rulebook, None))


@on_cpu
@pytest.mark.parametrize("filled", [0.0, 0.05, 0.5, 1.0])
def test_bits_do_not_depend_on_threads(launch, filled):
    rulebook, features, weights, gradient, constant = case(5000, 6000, 8, 32, 40, filled)
    results = []
    for threads in (1, 2, 5):
        sn.set_num_threads(threads)
        results.append((launch("convolution_forward", features, weights, rulebook, constant),
                        launch("convolution_weight_gradient", features, gradient, rulebook)))
    for other in results[1:]:
        assert np.array_equal(results[0][0], other[0]) and np.array_equal(results[0][1], other[1])


@pytest.mark.gpu
@pytest.mark.skipif(bool(NO_GPU), reason=f"the same bits on a GPU: {NO_GPU}")
@pytest.mark.parametrize("backend", ["gpu"], indirect=True)
@pytest.mark.parametrize("setting_", ["highest", "tf32", "fp16", "bf16"])
def test_the_same_bits_a_hundred_times(launch, setting_):
    sn.set_float32_matmul_precision(setting_)
    rulebook, features, weights, gradient, constant = case(20000, 30000, 27, 40, 72)
    first = None
    for _ in range(100):
        results = (launch("convolution_forward", features, weights, rulebook, constant),
                   launch("convolution_weight_gradient", features, gradient, rulebook))
        first = first or results
        assert all(np.array_equal(a, b) for a, b in zip(first, results, strict=True))


def test_inputs_stay_untouched(launch):
    rulebook, features, weights, gradient, constant = case(50, 60, 8, 4, 6)
    arrays = rulebook.neighbours, features, weights, gradient, constant
    before = [array.copy() for array in arrays]
    launch("convolution_forward", features, weights, rulebook, constant)
    launch("convolution_weight_gradient", features, gradient, rulebook)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))
