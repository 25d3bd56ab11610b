"""The inspector page is one file that stands alone, and holds what the network computed."""

from __future__ import annotations

import base64
import gzip
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from command_line import invoke
from mesh_files import write_off

import sparsenet as sn
from sparsenet.data import Sample, SparseDataset
from sparsenet.inspect.page import check_page, inspector_page, write_page
from sparsenet.inspect.page.arrays import Arrays
from sparsenet.inspect.page.document import MAX_BYTES
from sparsenet.inspect.page.parts import MAX_FACES, MAX_VALUES, channel_cap, mesh_facts
from sparsenet.inspect.page.shape import drawn_as_trained, mesh_in_cells
from sparsenet.shapes import Mesh, Off3DPicture
from sparsenet.shapes.parametric import parametric_mesh
from sparsenet.training import Checkpoint, build_network, load_network, parse_config, save_checkpoint

pytestmark = pytest.mark.extra("inspect")

CLASSES = ["ball", "box", "bar"]


@pytest.fixture(scope="module")
def shape():
    """A mesh of the built-in shapes at 8 cells, in the grid of 14^3: (its picture, its voxels)."""
    picture = Off3DPicture(parametric_mesh("table", np.random.default_rng(1)), 8)
    voxels = picture.voxelize(14)
    return picture, sn.SparseTensor(voxels.features, np.insert(voxels.coordinates, 0, 0, axis=1), (14,) * 3, 1)


@pytest.fixture(scope="module")
def net():
    return sn.s3dcnn(3, channels=(4, 6, 8))


@pytest.fixture(scope="module")
def page(net, shape):
    picture, x = shape
    return inspector_page(net, x, mesh_in_cells(picture, (14,) * 3), CLASSES, title="a <table> & \"more\" {{FACTS}}")


def held(page):
    """The facts and the arrays by name, as the page's scripts read them."""
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', page)[1])
    content = gzip.decompress(base64.b64decode(re.search(r'id="arrays">(.*?)</script>', page)[1]))
    arrays = {name: np.frombuffer(content, dtype, int(np.prod(shape)), offset).reshape(shape)
              for name, (dtype, offset, shape) in facts["arrays"].items()}
    return facts, arrays


def decoded(arrays, name):
    """(N, C) from the steps (C, N)."""
    steps, (low, high) = arrays[name], arrays[f"{name}.range"].astype(np.float64)
    return low + steps.T / np.iinfo(steps.dtype).max * (high - low)


def test_it_refers_to_nothing_outside_itself(page):
    class Reader(HTMLParser):
        found = []

        def handle_starttag(self, tag, attributes):
            self.found += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]

    Reader().feed(page)
    assert Reader.found == ["data:,"]
    style = page[page.index("<style>"):page.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert "fetch(" not in page.rsplit("<script>", 1)[1]


def test_a_title_is_text_whatever_is_in_it(page):
    assert "<title>a &lt;table&gt; &amp; &quot;more&quot; {{FACTS}}</title>" in page


def test_the_same_shape_gives_the_same_file(net, shape, page):
    picture, x = shape
    mesh = mesh_in_cells(picture, (14,) * 3)
    assert inspector_page(net, x, mesh, CLASSES, title="a <table> & \"more\" {{FACTS}}") == page


def test_it_holds_sites_features_and_rulebooks(net, shape, page):
    _, x = shape
    facts, arrays = held(page)
    records = net.eval().activations(x)
    assert [layer["name"] for layer in facts["layers"]] == ["input", *net.names()]
    for layer, record in zip(facts["layers"][1:], records, strict=True):
        name = f"layer{record.index}"
        assert layer["rows"] == len(record.features) and layer["kept"] == list(range(layer["channels"]))
        span = np.ptp(record.features, axis=0)
        assert (np.abs(decoded(arrays, f"{name}.features") - record.features) <= span / 65535 + 1e-6).all()
        norms = decoded(arrays, f"{name}.lengths")[:, 0]
        np.testing.assert_allclose(norms, np.linalg.norm(record.features, axis=1), atol=1e-3)
        if record.sites is not None:
            grid = arrays[f"grid{layer['grid']}.coordinates"]
            np.testing.assert_array_equal(grid.T, record.coordinates[:, 1:])
        if record.rulebook is not None:
            np.testing.assert_array_equal(arrays[f"{name}.neighbours"], record.rulebook.neighbours)
            assert layer["offsets"] == record.layer.geometry.kernel_offsets.tolist()


def test_it_holds_the_importance_of_each_site(net, shape, page):
    """Grad-CAM of each layer with a grid; at the input that of the last grid with more than one cell."""
    _, x = shape
    facts, arrays = held(page)
    predicted = int(net.eval()(x).numpy().argmax())
    for number, layer in enumerate(facts["layers"][1:], start=1):
        found = decoded(arrays, f"layer{number}.lengths")[:, 2]
        if layer["grid"] is None:
            assert not found.any()
            continue
        expected = sn.inspect.grad_cam(net, x, number, predicted).importance
        np.testing.assert_allclose(found, expected, atol=1e-4 * max(expected.max(), 1e-6), err_msg=layer["name"])
    last = sn.inspect.grad_cam(net, x)
    assert last.layer == "max_pool2" and f"The input shows that of {last.layer}," in re.sub(r"\s+", " ", page)
    np.testing.assert_allclose(decoded(arrays, "layer0.lengths")[:, 2], last.on_input, atol=1e-4 * last.on_input.max())
    assert last.on_input.any()


def test_it_holds_the_hash_tables(shape, page):
    _, x = shape
    facts, arrays = held(page)
    keys, _ = x.sites.hash_table
    probes, slots = arrays["grid0.probes"], arrays["grid0.slots"]
    assert facts["grids"][0]["slots"] == keys.size
    np.testing.assert_array_equal(probes > 0, keys >= 0)
    np.testing.assert_array_equal(keys[slots], x.sites.keys)
    assert np.bincount(probes)[1:].tolist() == facts["grids"][0]["histogram"]


def test_what_needs_no_script_is_there_without_one(page):
    text = re.sub(r"<[^>]+>", " ", page[page.index("<body>"):page.index('<script type="application/json"')])
    for words in ("convolution1", "4 -&gt; 6" if "4 -&gt; 6" in text else "4 -> 6", "14×14×14", "ball", "probability"):
        assert words in text, words


@pytest.fixture(scope="module")
def others():
    """More shapes in the grid, by name."""
    found = {}
    for number, kind in enumerate(("chair", "bed", "lamp", "bottle")):
        cells = Off3DPicture(parametric_mesh(kind, np.random.default_rng(number)), 9 + number).voxelize(14).coordinates
        ones = np.ones((len(cells), 1), np.float32)
        found[kind] = sn.SparseTensor(ones, np.insert(cells, 0, 0, axis=1), (14,) * 3, 1)
    return list(found.items())


def unpacked(bits, size):
    return np.argwhere(np.unpackbits(bits)[:np.prod(size)].reshape(size))


@pytest.mark.parametrize("thumbnail", [48, 5])
def test_it_holds_the_shapes_that_excite_a_channel_most(net, shape, others, thumbnail, monkeypatch):
    monkeypatch.setattr("sparsenet.inspect.page.parts.THUMBNAIL", thumbnail)
    tops = sn.inspect.top_shapes(net, others, 3)
    facts, arrays = held(inspector_page(net, shape[1], None, CLASSES, tops=tops))
    assert facts["tops"]["count"] == 4
    known = {one["name"]: one for one in facts["tops"]["shapes"]}
    for number, layer in enumerate(facts["layers"][1:], start=1):
        for channel in layer["kept"]:
            for rank, top in enumerate(tops.of(layer["name"], channel)):
                picture = facts["tops"]["shapes"][arrays[f"layer{number}.tops.shapes"][channel, rank]]
                assert picture["name"] == top.name and max(picture["size"]) <= thumbnail
                assert arrays[f"layer{number}.tops.values"][channel, rank] == np.float32(top.value)
                if top.cell is not None:
                    assert tuple(arrays[f"layer{number}.tops.cells"][channel, rank]) == top.cell
                low, high = arrays[f"layer{number}.tops.fields"][channel, rank].astype(int)
                factor = -(-int(np.ptp(top.coordinates, axis=0).max() + 1) // thumbnail)
                marked = (top.coordinates[top.in_field] - top.coordinates.min(axis=0)) // factor
                assert (low == marked.min(axis=0)).all() and (high == marked.max(axis=0) + 1).all()
    for name, picture in known.items():
        cells = tops.coordinates[tops.names.index(name)]
        factor = -(-int(np.ptp(cells, axis=0).max() + 1) // thumbnail)
        begin = picture["begin"]
        expected = np.unique((cells - cells.min(axis=0)) // factor, axis=0)
        found = unpacked(arrays["tops.bits"][begin:begin + -(-np.prod(picture["size"]) // 8)], picture["size"])
        np.testing.assert_array_equal(found, expected)


def test_top_shapes_of_another_network_are_refused(net, shape, others):
    tops = sn.inspect.top_shapes(sn.SparseNetwork().add_convolution(4, 2), others[:1])
    with pytest.raises(ValueError, match="a network without leaky_relu1: call top_shapes with this network"):
        inspector_page(net, shape[1], tops=tops)


def test_ten_thousand_sites_fit_ten_megabytes():
    grid = np.indices((126,) * 3) - 62.5
    cells = np.argwhere(np.abs(np.sqrt((grid**2).sum(axis=0)) - 28.5) < 0.5)  # a sphere
    x = sn.SparseTensor(np.ones((len(cells), 1), np.float32), np.insert(cells, 0, 0, axis=1), (126,) * 3, 1)
    page = inspector_page(sn.s3dcnn(40), x, classes=[f"class {i}" for i in range(40)])
    facts, _ = held(page)
    assert facts["layers"][0]["rows"] > 10_000 and facts["bits"] == 8 and len(page) < MAX_BYTES
    assert all(len(layer["kept"]) == layer["channels"] for layer in facts["layers"])


def test_a_page_that_grows_too_large_is_refused(net, shape, monkeypatch):
    monkeypatch.setattr("sparsenet.inspect.page.document.MAX_BYTES", 1000)
    with pytest.raises(ValueError, match=r"it would take [\d,]+ bytes for \d+ sites, expected at most 1,000"):
        inspector_page(net, shape[1])


def test_of_too_many_channels_those_of_largest_variance_are_kept(net, shape, monkeypatch):
    monkeypatch.setattr("sparsenet.inspect.page.parts.MAX_VALUES", 3000)
    facts, arrays = held(inspector_page(net, shape[1], classes=CLASSES))
    widest, record = facts["layers"][1], net.eval().activations(shape[1])[0]
    spread = record.features.std(axis=0)
    kept = widest["kept"]
    assert 1 <= len(kept) < 4 and spread[kept].min() >= np.delete(spread, kept).max()
    span = np.ptp(record.features[:, kept], axis=0)
    assert (np.abs(decoded(arrays, "layer1.features") - record.features[:, kept]) <= span / 65535 + 1e-6).all()


def test_as_many_channels_are_kept_as_fit():
    assert channel_cap([(10, 1), (20, 32)]) == 32
    cap = channel_cap([(100_000, 32), (100_000, 64), (5_000, 192)])
    values = [100_000 * min(32, c) + 100_000 * min(64, c) + 5_000 * min(192, c) for c in (cap, cap + 1)]
    assert values[0] <= MAX_VALUES < values[1]
    assert channel_cap([(MAX_VALUES + 1, 5)]) == 1


@pytest.mark.parametrize("bits", [8, 16])
def test_quantised_values_are_within_half_a_step(rng, bits):
    values = rng.standard_normal((50, 3)).astype(np.float32) * [1, 100, 0] + [0, 5, 7]
    arrays = Arrays()
    arrays.add_quantised("v", values, bits)
    kind, offset, shape = arrays.places["v"]
    steps = np.frombuffer(arrays.content(), kind, 150, offset).reshape(shape)
    low, high = np.frombuffer(arrays.content(), np.float32, 6, arrays.places["v.range"][1]).reshape(2, 3)
    step = (high - low) / (2**bits - 1)
    assert (np.abs(low + steps.T * step - values) <= step / 2 + 1e-4).all()
    assert kind == f"uint{bits}" and offset % 8 == 0


def test_the_mesh_lies_among_its_voxels(shape):
    picture, x = shape
    mesh = mesh_in_cells(picture, (14,) * 3)
    cells = {tuple(cell) for cell in np.floor(mesh.vertices).astype(int).tolist()}
    assert cells <= {tuple(cell) for cell in x.coordinates[:, 1:].tolist()}


def test_of_a_very_large_mesh_the_largest_faces_are_kept(rng):
    count = MAX_FACES + 5
    vertices = rng.random((3 * count, 3))
    vertices[:15] = vertices[0]  # five faces without area
    arrays = Arrays()
    told = mesh_facts(Mesh(vertices, np.arange(3 * count).reshape(-1, 3)), arrays)
    assert told == {"faces": count, "shown": MAX_FACES}
    assert arrays.places["mesh.vertices"][2] == [3, 3 * MAX_FACES]


def test_the_file_appears_whole_or_not_at_all(tmp_path, net, shape):
    path = tmp_path / "page.html"
    two = sn.SparseTensor(np.ones((1, 1), np.float32), [[0, 1, 1, 1]], (14,) * 3, 2)
    with pytest.raises(ValueError, match="2 samples"):
        write_page(path, net, two)
    assert list(tmp_path.iterdir()) == []
    size = write_page(path, net, shape[1])
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"] and path.stat().st_size == size


def test_where_it_goes_is_asked_first(tmp_path):
    with pytest.raises(ValueError, match="its suffix is '.png', expected .html"):
        check_page(tmp_path / "page.png")
    with pytest.raises(FileNotFoundError, match="the folder .* does not exist"):
        check_page(tmp_path / "none" / "page.html")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An untrained checkpoint whose dataset is not there."""
    text = '[data]\npath = "elsewhere.h5"\nrender_size = 8\n[network]\nchannels = [4, 6, 8]\n'
    config = parse_config(text, "the test")
    path = tmp_path_factory.mktemp("checkpoint") / "best.h5"
    save_checkpoint(path, Checkpoint(build_network(config, 3).get_weights(), {}, 0, 0, 0.0, config.text(), CLASSES))
    return path


def test_a_shape_is_voxelized_as_those_trained_on(checkpoint):
    config = parse_config(load_network(checkpoint)[1].config, "the test")
    assert drawn_as_trained(config, checkpoint) == (8, False)
    assert drawn_as_trained(config, checkpoint, 5, True) == (5, True)
    unknown = parse_config('[data]\npath = "elsewhere.h5"\n', "the test", ["data.render_size=0"])
    with pytest.raises(ValueError, match="elsewhere.h5, the training dataset, is missing.*--render-size"):
        drawn_as_trained(unknown, checkpoint)


def test_without_a_checkpoint_the_model_of_the_package_is_inspected(tmp_path):
    (tmp_path / "box.off").write_text("OFF 4 4 0\n0 0 0\n2 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n")
    done = invoke("inspect", "--mesh", "box.off", "--out", "box.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "box.off at render size 24, seen by models/modelnet40.h5" in (tmp_path / "box.html").read_text("utf-8")


def test_the_tool_writes_the_page(tmp_path, checkpoint):
    (tmp_path / "box.off").write_text("OFF 4 4 0\n0 0 0\n2 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n")

    def tool(*words):
        return invoke("inspect", "--checkpoint", checkpoint, *words, cwd=tmp_path)

    done = tool("--mesh", "box.off", "--out", "box.html", "--target", "bar")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"page: box.html, \d\.\d MB, \d+ voxels through 10 layers\n", done.stdout)
    page = (tmp_path / "box.html").read_text(encoding="utf-8")
    assert "the logit of class bar" in page and "<h1>box.off at render size 8" in page
    wrong = tool("--mesh", "box.off", "--out", "box.html", "--target", "bat")
    assert wrong.returncode == 1 and "--target is 'bat', expected one of ball, box, bar" in wrong.stderr


def test_the_tool_ranks_the_shapes_of_a_folder(tmp_path, checkpoint):
    for number in range(3):
        write_off(tmp_path / "more" / f"{number}.off", parametric_mesh("chair", np.random.default_rng(number)))
    (tmp_path / "more" / "1b.off").write_text("OFF\n3 1 0\n")

    def tool(*words):
        return invoke("inspect", "--checkpoint", checkpoint, "--mesh", "more/1.off", "--out", "page.html", *words,
                      cwd=tmp_path)

    done = tool("--shapes", "more", "more/0.off")
    assert done.returncode == 0 and done.stdout.endswith(", 4 shapes ranked for each channel\n"), done.stderr
    assert done.stderr.count("\n") == 1 and "1b.off: the header declares" in done.stderr
    facts, arrays = held((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert {shape["name"] for shape in facts["tops"]["shapes"]} <= {"0.off", "1.off", "2.off"}
    assert arrays["layer1.tops.shapes"].shape == (4, 4)
    few = tool("--shapes", "more", "--at-most", "2")
    assert "1 shape ranked" in few.stdout  # the other one of two cannot be read
    for words, code, message in ((("nowhere",), 1, "--shapes: nowhere does not exist"),
                                 (("a.h5", "b.off"), 2, "a dataset file stands alone"),
                                 (("more", "--split", "test"), 2, "a part of a dataset"),
                                 (("more", "--at-most", "0"), 2, "0 is below 1")):
        refused = tool("--shapes", *words)
        assert refused.returncode == code and message in refused.stderr


def test_the_tool_ranks_the_shapes_of_a_dataset(tmp_path, checkpoint):
    samples = [Sample(np.argwhere(np.ones((2, 3, k + 1), bool)) + 2, k % 3, f"shape {k}", "test" if k else "train")
               for k in range(6)]
    SparseDataset.create(tmp_path / "shapes.h5", samples, (14, 14, 14), 8, CLASSES).close()
    (tmp_path / "box.off").write_text("OFF 4 4 0\n0 0 0\n2 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n")
    done = invoke("inspect", "--checkpoint", checkpoint, "--mesh", "box.off", "--out", "page.html", "--shapes",
                  "shapes.h5", "--at-most", 4, cwd=tmp_path)
    assert done.returncode == 0 and "4 shapes ranked" in done.stdout, done.stderr
    facts, _ = held((tmp_path / "page.html").read_text(encoding="utf-8"))
    shapes = {(shape["name"], shape["label"]) for shape in facts["tops"]["shapes"]}
    assert shapes <= {("shape 1", "box"), ("shape 2", "bar"), ("shape 3", "ball"), ("shape 4", "box")}
    whole = invoke("inspect", "--checkpoint", checkpoint, "--mesh", "box.off", "--out", "page.html", "--shapes",
                   "shapes.h5", "--split", "all", cwd=tmp_path)
    assert "6 shapes ranked" in whole.stdout, whole.stderr
