"""The graph: gradients, how they are collected, and every misuse that must be caught."""

import copy
import gc
import threading
import tracemalloc
import weakref
from pathlib import Path

import numpy as np
import pytest

import sparsenet as sn
from sparsenet import autograd
from sparsenet.autograd import Function, Tensor, _ones, is_unit, no_grad
from sparsenet.ops import methods


class Square(Function):
    def forward(self, x):
        self.save(x)
        return x * x

    def backward(self, gradient):
        (x,) = self.saved
        return 2 * x * gradient


class Product(Function):
    def forward(self, a, b):
        self.save(a, b)
        return a * b

    def backward(self, gradient):
        a, b = self.saved
        return (gradient * b if self.needs[0] else None), (gradient * a if self.needs[1] else None)


class Split(Function):
    """Two outputs: x and -x."""

    def forward(self, x):
        return x + 0, -x

    def backward(self, first, second):
        if first is None:
            return -second
        return first if second is None else first - second


def leaf(*values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


# ---- gradients ----


def test_gradient_of_a_chain():
    x = leaf(1.0, -2.0, 3.0)
    Square().apply(Square().apply(x)).backward(np.ones(3))
    assert np.array_equal(x.grad, 4 * x.array**3)


def test_gradients_of_a_diamond_add_up():
    x = leaf(3.0)
    y = Square().apply(x)
    Product().apply(y, y).backward()  # x^4
    assert x.grad == 4 * 3.0**3


def test_gradients_accumulate_over_backwards_until_cleared():
    x = leaf(3.0)
    for _ in range(2):
        Square().apply(x).backward()
    assert x.grad == 12
    x.grad = None
    Square().apply(x).backward()
    assert x.grad == 6


def test_a_leaf_is_its_own_graph():
    x = leaf(1.0, 2.0)
    x.backward(np.array([5.0, 6.0]))
    assert np.array_equal(x.grad, [5, 6])


def test_grads_of_two_leaves_never_share_memory():
    class Both(Function):
        def forward(self, a, b):
            return a + b

        def backward(self, gradient):
            return gradient, gradient

    a, b, given = leaf(1.0), leaf(2.0), np.ones(1)
    Both().apply(a, b).backward(given)
    a.grad += 1
    assert b.grad == 1 and given == 1


def test_gradients_are_handed_over_one_by_one():
    class Sum(Function):
        def forward(self, *xs):
            return sum(xs)

        def backward(self, gradient):
            return tuple(gradient * 1 for _ in self.needs)

    leaves = [Tensor(np.ones(1 << 15), requires_grad=True) for _ in range(8)]
    total = Sum().apply(*leaves)
    size = leaves[0].array.nbytes
    tracemalloc.start()
    try:
        total.backward(leaves[0].array)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 8 * size <= peak < 10 * size  # those that backward returned; at most one of them twice


def test_outputs_without_a_gradient_give_none():
    x = leaf(1.0, 2.0)
    first, second = Split().apply(x)
    second.backward(np.array([1.0, 10.0]))
    assert np.array_equal(x.grad, [-1, -10])
    x.grad = None
    first, second = Split().apply(x)
    Product().apply(first, second).backward(np.ones(2))  # -x^2
    assert np.array_equal(x.grad, -2 * x.array)


def test_inputs_may_be_none_and_needs_says_who_wants_a_gradient():
    seen = {}

    class Spy(Function):
        def forward(self, a, b, c):
            seen["inputs"], seen["needs"] = (a, b, c), self.needs
            return a + c

        def backward(self, gradient):
            return gradient, None, None

    a, c = leaf(1.0), Tensor(np.ones(1))
    Spy().apply(a, None, c).backward()
    assert seen["inputs"][1] is None and seen["needs"] == (True, False, False)
    assert a.grad == 1 and c.grad is None


def test_a_chain_may_be_longer_than_the_recursion_limit():
    x = leaf(1.0)
    y = x
    for _ in range(20_000):
        (y,) = (Product().apply(y, Tensor(np.ones(1))),)
    y.backward()
    assert x.grad == 1


def test_no_long_chain_is_left_behind_nor_overflows_when_dropped():
    x = leaf(1.0)
    y = x
    for _ in range(20_000):
        y = Square().apply(y)
    watch = weakref.ref(y)
    del y
    gc.collect()
    assert watch() is None


def test_order_of_sums_is_fixed():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((5, 50)).astype(np.float32)

    def run():
        x = Tensor(values[0], requires_grad=True)
        parts = [Product().apply(x, Tensor(v)) for v in values]
        total = parts[0]
        for part in parts[1:]:
            total = total + Square().apply(part)
        total.backward(np.ones(50, np.float32))
        return x.grad

    assert all(np.array_equal(run(), run()) for _ in range(3))


def test_retain_grad_keeps_the_gradient_of_a_computed_tensor():
    x = leaf(3.0)
    y, z = Square().apply(x), None
    y.retain_grad()
    z = Square().apply(y)
    z.backward()
    assert y.grad == 2 * 9 and z.grad is None and x.grad == 4 * 27


def test_gradients_arrive_contiguous():
    seen = []

    class Spy(Function):
        def forward(self, x):
            return x + 0

        def backward(self, gradient):
            seen.append(gradient.flags.c_contiguous)
            return gradient.T.copy().T

    x = Tensor(np.ones((3, 4)), requires_grad=True)
    Spy().apply(Spy().apply(x)).backward(np.broadcast_to(np.ones(1), (3, 4)))
    assert seen == [True, True] and x.grad.flags.c_contiguous


def test_reductions_to_numpy_scalars_keep_their_dtype(dtype):
    class Total(Function):
        def forward(self, x):
            return x.sum()  # np.float32 or np.float64, no array; the latter is a Python float too

        def backward(self, gradient):
            return np.full(3, gradient)

    x = Tensor(np.ones(3, dtype), requires_grad=True)
    total = Total().apply(x)
    assert isinstance(total.array, np.ndarray) and total.dtype == dtype and total.shape == ()
    total.backward()
    assert x.grad.dtype == dtype


# ---- what is kept ----


def test_under_no_grad_nothing_is_recorded_or_saved():
    x, function = leaf(1.0), Square()
    with no_grad(), no_grad():
        y = function.apply(x)
    assert not y.requires_grad and function.saved == () and not any(function.needs)
    assert Square().apply(x).requires_grad


def test_no_grad_is_a_decorator_and_ends_with_an_exception():
    @no_grad()
    def compute(x):
        return Square().apply(x)

    assert not compute(leaf(1.0)).requires_grad
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert Square().apply(leaf(1.0)).requires_grad


def test_no_grad_holds_for_its_thread_alone():
    results = []
    with no_grad():
        thread = threading.Thread(target=lambda: results.append(Square().apply(leaf(1.0)).requires_grad))
        thread.start()
        thread.join()
    assert results == [True]


def test_saved_arrays_are_freed_as_backward_goes():
    function = Square()
    y = function.apply(leaf(*range(3)))
    assert len(function.saved) == 1
    y.backward(np.ones(3))
    assert function.saved == ()


def test_without_a_gradient_to_collect_nothing_is_saved():
    function = Square()
    function.apply(Tensor(np.ones(3)))
    assert function.saved == ()


# ---- versions ----


@pytest.mark.parametrize("change", ["assign", "in place"])
def test_changing_a_saved_input_before_backward_raises(change):
    x = leaf(1.0, 2.0)
    y = Square().apply(x)
    if change == "assign":
        x.array = np.zeros(2)
    else:
        x.array[:] = 0
        x.mark_modified()
    with pytest.raises(RuntimeError, match="Square: .*assigned or modified"):
        y.backward(np.ones(2))
    assert x.grad is None


def test_changing_a_saved_output_before_backward_raises():
    class Exponential(Function):
        def forward(self, x):
            y = np.exp(x)
            self.save(y)
            return y

        def backward(self, gradient):
            return gradient * self.saved[0]

    y = Exponential().apply(leaf(1.0))
    y.array = np.zeros(1)
    with pytest.raises(RuntimeError, match="Exponential"):
        y.backward()


@pytest.mark.parametrize("view", [lambda x: x.reshape(4), lambda x: x[:1], lambda x: x.detach()],
                         ids=["reshape", "index", "detach"])
def test_views_share_the_version_of_what_they_view(view):
    x, other = Tensor(np.ones((2, 2)), requires_grad=True), leaf(1.0)
    y = Product().apply(other, view(x))
    x.array[:] = 5
    x.mark_modified()
    with pytest.raises(RuntimeError, match="Product"):
        y.backward(np.ones_like(y.array))


def test_changing_an_array_that_nobody_saved_is_fine():
    x = leaf(1.0)
    y = Split().apply(x)[0]
    x.array = np.zeros(1)
    y.backward()
    assert x.grad == 1


def test_version_grows_with_each_change():
    x = leaf(1.0)
    versions = [x.version]
    x.array = np.ones(2)
    versions.append(x.version)
    x.mark_modified()
    assert versions + [x.version] == [0, 1, 2]


# ---- misuse ----


def test_a_second_backward_raises():
    x = leaf(1.0)
    y = Square().apply(x)
    y.backward()
    with pytest.raises(RuntimeError, match="Square: an earlier backward"):
        y.backward()
    assert x.grad == 2


def test_two_losses_on_one_trunk_raise_and_say_what_to_do():
    x = leaf(1.0)
    trunk = Square().apply(x)
    first, second = Square().apply(trunk), Square().apply(trunk)
    first.backward()
    with pytest.raises(RuntimeError, match="sum of the losses"):
        second.backward()


def test_a_retained_graph_runs_again_and_the_last_backward_frees_it():
    x = leaf(3.0)
    function = Square()
    y = function.apply(x)
    y.backward(retain_graph=True)
    assert x.grad == 6 and len(function.saved) == 1
    y.backward()
    assert x.grad == 12 and function.saved == ()
    with pytest.raises(RuntimeError, match=r"keep it with backward\(retain_graph=True\)"):
        y.backward()


def test_two_losses_on_one_trunk_that_is_retained():
    x = leaf(2.0)
    trunk = Square().apply(x)
    first, second = Square().apply(trunk), Product().apply(trunk, trunk)
    first.backward(retain_graph=True)
    second.backward()
    assert x.grad == 2 * 4 * 2.0**3


def test_a_network_s_graph_gives_the_same_gradients_again():
    net = sn.nn.Sequential(
        sn.nn.SparseConv(2, 3, 2, rng=0), sn.nn.BatchNorm(3), sn.nn.LeakyReLU(0.3), sn.nn.Dropout(0.5),
        sn.nn.SparseMaxPool(2), sn.nn.SparseConv(3, 4, 2, rng=1), sn.nn.GlobalPool(), sn.nn.Linear(4, 3, rng=2))
    x = sn.SparseTensor.from_dense(np.random.default_rng(0).standard_normal((2, 2, 6, 6, 6)).astype(np.float32))
    loss = sn.ops.softmax_cross_entropy(net(x), [0, 2]) + sn.ops.triplet_loss(*[net(x) for _ in range(3)], margin=1.0)
    grads = []
    for retain in (True, True, False):
        net.zero_grad()
        loss.backward(retain_graph=retain)
        grads.append([parameter.grad.copy() for parameter in net.parameters()])
    assert any(grad.any() for grad in grads[0])
    for again in grads[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(grads[0], again, strict=True))


def test_a_retained_graph_still_notices_changed_arrays():
    x = leaf(3.0)
    y = Square().apply(x)
    y.backward(retain_graph=True)
    x.array = np.zeros(1)
    with pytest.raises(RuntimeError, match="assigned or modified"):
        y.backward()


def test_backward_of_several_elements_needs_a_gradient():
    y = Square().apply(leaf(1.0, 2.0))
    with pytest.raises(ValueError, match=r"shape \(2,\), expected one element"):
        y.backward()


@pytest.mark.parametrize("gradient", [np.ones(3), np.ones(2, np.float32)], ids=["shape", "dtype"])
def test_backward_refuses_a_gradient_that_does_not_fit(gradient):
    with pytest.raises(ValueError, match=r"backward: gradient is .* expected float64 \(2,\)"):
        Square().apply(leaf(1.0, 2.0)).backward(gradient)


def test_backward_without_requires_grad_raises():
    with pytest.raises(RuntimeError, match="requires no gradient"):
        Square().apply(Tensor(np.ones(1))).backward()


def test_a_function_that_returns_a_wrong_gradient_is_named():
    class Broken(Function):
        def __init__(self, result):
            super().__init__()
            self.result = result

        def forward(self, x):
            return x + 0

        def backward(self, gradient):
            return self.result

    for result, message in [(np.ones(3), r"Broken: gradient is float64 \(3,\)"),
                            (np.ones(2, np.float32), "Broken: gradient is float32"),
                            ((np.ones(2), np.ones(2)), "Broken: backward returned 2 gradients, expected 1")]:
        with pytest.raises(ValueError, match=message):
            Broken(result).apply(leaf(1.0, 2.0)).backward(np.ones(2))


def test_an_error_on_the_way_leaves_grads_as_they_were():
    class Fails(Function):
        def forward(self, x):
            return x + 0

        def backward(self, gradient):
            raise ArithmeticError

    x, other = leaf(1.0), leaf(1.0)
    with pytest.raises(ArithmeticError):
        Product().apply(Fails().apply(x), other).backward()
    assert x.grad is None and other.grad is None


def test_a_function_is_applied_once():
    function = Square()
    function.apply(leaf(1.0))
    with pytest.raises(RuntimeError, match="applied already"):
        function.apply(leaf(1.0))


def test_inputs_must_be_tensors():
    with pytest.raises(TypeError, match="Square: input 0 is ndarray"):
        Square().apply(np.ones(1))


def test_integers_cannot_require_a_gradient():
    with pytest.raises(TypeError, match="int64"):
        Tensor(np.arange(3), requires_grad=True)
    x = leaf(1.0)
    with pytest.raises(TypeError, match="int64"):
        x.array = np.arange(3)
    assert x.array == 1


def test_integer_outputs_require_no_gradient():
    class Rank(Function):
        def forward(self, x):
            return x + 0, np.argsort(x)

        def backward(self, gradient, _):
            return gradient

    values, order = Rank().apply(leaf(2.0, 1.0))
    assert values.requires_grad and not order.requires_grad


def test_requires_grad_of_a_computed_tensor_stays():
    y = Square().apply(leaf(1.0))
    with pytest.raises(RuntimeError, match="detach"):
        y.requires_grad = False


# ---- the rest of Tensor ----


def test_tensor_keeps_the_array_it_is_given_and_converts_numbers():
    array = np.ones(3, np.float32)
    assert Tensor(array).array is array and Tensor(array).numpy() is array
    assert Tensor([1.0, 2.0]).dtype == np.float32 and Tensor([1, 2]).dtype == np.int64
    assert Tensor(np.float64(2)).dtype == np.float64
    x = Tensor(np.zeros((2, 3)))
    assert (x.shape, x.ndim, x.size, x.device, len(x)) == ((2, 3), 2, 6, "cpu", 2)


def test_tensor_refuses_what_is_no_array():
    with pytest.raises(TypeError, match="str"):
        Tensor("text")
    with pytest.raises(TypeError, match="Tensor: array is None, expected a NumPy or CuPy array"):
        Tensor(None)
    x = Tensor([1.0])
    with pytest.raises(TypeError, match="Tensor: array is None"):
        x.array = None


def test_numpy_takes_the_values_of_a_tensor():
    x = Tensor(np.arange(6, dtype=np.float32).reshape(2, 3), requires_grad=True)
    assert np.asarray(x) is x.array
    assert np.array(x) is not x.array and np.array_equal(np.array(x), x.array)
    assert np.asarray(x, np.float64).dtype == np.float64
    assert np.stack([x, x * 2]).shape == (2, 2, 3)


def test_numpy_takes_no_values_from_a_gpu(monkeypatch):
    x = Tensor([1.0])
    monkeypatch.setattr("sparsenet.autograd.device_of", lambda *arrays: "cuda")
    with pytest.raises(TypeError, match=r"on cuda: copy it with .numpy\(\)"):
        np.asarray(x)


def test_leaves_are_what_no_operation_recorded():
    x = leaf(1.0)
    assert x.is_leaf and not Square().apply(x).is_leaf and Square().apply(x).detach().is_leaf
    with no_grad():
        assert Square().apply(x).is_leaf


def test_detach_shares_the_array_but_not_the_graph():
    y = Square().apply(leaf(1.0))
    assert y.detach().array is y.array and not y.detach().requires_grad


def test_values_as_python_s_numbers_and_text():
    x = Tensor([[1.0, 2.0], [3.0, 4.5]])
    assert x.tolist() == [[1, 2], [3, 4.5]] and Tensor(2.5).tolist() == 2.5 and Tensor([3]).tolist() == [3]
    assert int(Tensor([7])) == 7 and int(x[1, 1]) == 4 and float(x[1, 1]) == 4.5
    loss = x.mean()
    assert f"{loss:.3f}" == "2.625" and f"{loss}" == str(loss) == "Tensor(array(2.625, dtype=float32))"
    for wrong, message in ((lambda: int(x), "int: the tensor has shape"), (lambda: f"{x:.3f}", "item: the tensor has")):
        with pytest.raises(ValueError, match=message):
            wrong()


def test_names_of_pytorch_lead_to_ours():
    x = Tensor([1.0])
    for name, advice in {"clamp": r": use \.clip\(min, max\)", "view": r": use \.reshape\(", "nonsense": ""}.items():
        with pytest.raises(AttributeError, match=f"^'Tensor' object has no attribute '{name}'{advice}"):
            getattr(x, name)
    with pytest.raises(AttributeError, match="'Parameter' object has no attribute 'cuda': use .to"):
        sn.nn.Parameter([1.0]).cuda()
    assert not hasattr(x, "features") and copy.deepcopy(x).tolist() == copy.copy(x).tolist() == [1]
    for name in methods._NAMES_OF_PYTORCH:
        assert not hasattr(x, name)


def test_the_engine_is_read_in_one_sitting():
    source = Path(autograd.__file__).read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 380
    assert "import" not in source.split("class ThreadState")[1]  # imports nothing later


def test_the_public_tensor_has_its_operators():
    assert float((sn.Tensor([1.0, 2.0]) + 1).sum().item()) == 5


def test_the_graph_does_not_keep_arrays_that_no_backward_needs():
    class Double(Function):
        def forward(self, x):
            return 2 * x

        def backward(self, gradient):
            return 2 * gradient

    x = Tensor(np.ones(3), requires_grad=True)
    middle = Double().apply(x)
    y = Double().apply(middle)
    watch = weakref.ref(middle)
    del middle
    assert watch() is None
    y.backward(np.ones(3))
    assert x.grad.tolist() == [4.0] * 3


def test_the_gradient_that_backward_begins_with_is_known_as_a_unit():
    seen = []

    class Note(Function):
        def forward(self, x):
            return x.sum()

        def backward(self, gradient):
            seen.append((is_unit(gradient), float(gradient)))
            return np.full(2, gradient)

    for given in (None, np.array(1.0), np.array(3.0)):
        Note().apply(Tensor(np.zeros(2), requires_grad=True)).backward(given)
    assert seen == [(True, 1), (False, 1), (False, 3)]
    x = Tensor(np.zeros(()), requires_grad=True)
    x.backward()
    x.grad += 5  # the caller's own
    assert float(_ones(np.zeros(()))) == 1


def test_a_gradient_is_copied_only_if_others_have_its_array():
    addresses = []

    class Both(Function):
        def __init__(self, whole):
            super().__init__()
            self.whole = whole

        def forward(self, x, y):
            return x + y

        def backward(self, gradient):
            alone = gradient * 2
            addresses.append(alone.ctypes.data)
            return alone, self.whole(gradient)

    def gradients(whole):
        x, y, upstream = (Tensor(np.ones(3), requires_grad=True) for _ in range(3))
        Both(whole).apply(x, y).backward(upstream.array)
        for grad in (x.grad, y.grad):
            grad[:] = 7  # the caller's own
        assert upstream.array.tolist() == [1.0] * 3
        assert not np.shares_memory(x.grad, y.grad)
        return x.grad.ctypes.data == addresses[-1]

    kept = np.ones(6)
    assert gradients(lambda gradient: gradient)  # what it was given
    assert gradients(lambda gradient: kept[:3]) and kept.tolist() == [1.0] * 6  # a view
    x = Tensor(np.ones(3), requires_grad=True)
    y = Tensor(np.ones(3), requires_grad=True)

    class Twice(Both):
        def backward(self, gradient):
            one = gradient * 2
            return one, one

    Twice(None).apply(x, y).backward(np.ones(3))
    x.grad[:] = 7
    assert y.grad.tolist() == [2.0] * 3
