"""Triplet loss and its gradients against plain loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
from reference import TOLERANCE, assert_close, triplet_loss

from sparsenet import kernels
from sparsenet.kernels import get_num_threads, set_num_threads
from sparsenet.kernels.losses import cuda as losses
from sparsenet.kernels.losses.cuda import ROWS_OF_ONE_BLOCK
from sparsenet.ops.triplet_loss import DISTANCES

EACH = pytest.mark.parametrize("distance", DISTANCES)


def run(launch, a, p, n, margin, distance, with_gradient=True):
    return launch("triplet_loss", a, p, n, margin, DISTANCES.index(distance), with_gradient)


def check(launch, rows, margin, distance):
    loss, figures, gradient = run(launch, *rows, margin, distance)
    expected, expected_gradient, active = triplet_loss(*(x.astype(np.float64) for x in rows), margin, distance)
    assert loss.shape == () and loss.dtype == gradient.dtype == rows[0].dtype and figures.dtype == np.float64
    assert float(loss) == pytest.approx(expected, rel=TOLERANCE[loss.dtype], abs=1e-30)
    assert_close(gradient, expected_gradient)
    assert figures.tolist() == [float(loss), active]


@EACH
@pytest.mark.parametrize(("count", "channels", "margin"), [(1, 1, 100.0), (1, 7, 100.0), (33, 16, 0.0), (20, 70, 0.2)])
def test_loss_and_gradients(launch, count, channels, margin, distance, dtype, rng):
    check(launch, rng.standard_normal((3, count, channels)).astype(dtype), margin, distance)


@pytest.mark.parametrize("blocks", [2, 2048])
def test_more_rows_than_one_block_takes(launch, dtype, rng, monkeypatch, blocks):
    """On a few blocks each warp takes row after row."""
    monkeypatch.setattr(losses, "_MAX_BLOCKS", blocks)
    check(launch, rng.standard_normal((3, ROWS_OF_ONE_BLOCK + 3, 5)).astype(dtype), 0.2, "l2")


@EACH
def test_blocks_of_rows_join(distance, dtype, rng):
    check(kernels.launch, rng.standard_normal((3, 3000, 12)).astype(dtype), 0.2, distance)
    check(kernels.launch, rng.standard_normal((3, 3, 20_000)).astype(dtype), 0.2, distance)


@pytest.mark.parametrize("scale", [1e-25, 1e-3, 1e25])
def test_cosine_at_any_scale(launch, scale, dtype, rng):
    sizes = np.array([scale, 1 / scale, 3])[:, None, None]
    check(launch, (sizes * rng.standard_normal((3, 4, 5))).astype(dtype), 0.5, "cosine")


def test_small_angles_keep_their_digits(launch, dtype):
    a, p = np.array([[1, 0]], dtype), np.array([[1, 1e-5]], dtype)
    assert float(run(launch, a, p, a, 0.0, "cosine")[0]) == pytest.approx(5e-11, rel=1e-5)


@EACH
def test_gradients_are_zero_at_zero_distance(launch, distance, dtype, rng):
    x = rng.standard_normal((4, 6)).astype(dtype)
    loss, figures, gradient = run(launch, x, x.copy(), x.copy(), 0.25, distance)
    assert loss == 0.25 and figures[1] == 4 and not gradient.any()


@EACH
def test_a_term_that_is_exactly_zero_is_not_active(launch, distance, dtype):
    x = np.array([[1, 2]], dtype)
    loss, figures, gradient = run(launch, x, x.copy(), x.copy(), 0.0, distance)
    assert loss == 0 and figures[1] == 0 and not gradient.any()


@pytest.mark.parametrize("zeros", [[0], [1], [2], [0, 1, 2]], ids=str)
def test_zero_vectors_have_cosine_distance_one_and_no_gradient(launch, zeros, dtype, rng):
    rows = rng.standard_normal((3, 2, 5)).astype(dtype)
    rows[zeros, 1] = 0
    check(launch, rows, 1.5, "cosine")
    assert not run(launch, *rows, 1.5, "cosine")[2][zeros, 1].any()


@EACH
def test_without_gradient_the_loss_has_the_same_bits(launch, distance, dtype, rng):
    rows = rng.standard_normal((3, 9, 5)).astype(dtype)
    before = rows.copy()
    loss, _, gradient = run(launch, *rows, 0.2, distance, with_gradient=False)
    assert gradient is None and loss == run(launch, *rows, 0.2, distance)[0] and np.array_equal(rows, before)


@EACH
def test_no_triplets_have_no_loss(launch, distance, dtype):
    rows = np.zeros((3, 0, 4), dtype)
    loss, figures, gradient = run(launch, *rows, 0.2, distance)
    assert loss == 0 and figures.tolist() == [0, 0] and gradient.shape == (3, 0, 4)


@EACH
@pytest.mark.parametrize("which", [0, 1, 2])
def test_nan_shows_in_the_loss(launch, which, distance, dtype, rng):
    for column in (0, 34):
        rows = rng.standard_normal((3, 3, 40)).astype(dtype)
        rows[which, 1, column] = np.nan
        assert np.isnan(run(launch, *rows, 0.2, distance)[0])


@EACH
def test_the_same_bits_for_any_number_of_threads(distance, dtype, rng):
    rows = rng.standard_normal((3, 9000, 11)).astype(dtype)
    before, results = get_num_threads(), set()
    try:
        for number in (1, 2, 5):
            set_num_threads(number)
            results.add(b"".join(part.tobytes() for part in run(kernels.launch, *rows, 0.2, distance)))
    finally:
        set_num_threads(before)
    assert len(results) == 1


def test_misfits_raise():
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"triplet_loss: negative has shape \(3, 3\), expected \(T, C\)"):
        kernels.launch("triplet_loss", x, x, np.zeros((3, 3)), 0.2, 0, True)
    with pytest.raises(TypeError, match="triplet_loss: positive is float32 but anchor is float64"):
        kernels.launch("triplet_loss", x, x.astype("f4"), x, 0.2, 0, True)
    with pytest.raises(ValueError, match="triplet_loss: distance is 3, expected COSINE, L2 or SQUARED_L2"):
        kernels.launch("triplet_loss", x, x, x, 0.2, 3, True)
