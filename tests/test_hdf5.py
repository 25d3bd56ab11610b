"""HDF5 files of strangers: refused by key before a value is read, unless they hold plain numbers and texts."""

from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t

from sparsenet.data import layout
from sparsenet.files import open_hdf5
from sparsenet.hdf5 import find_dataset, read_attribute, read_attributes, read_dataset
from sparsenet.models import folder
from sparsenet.nn import weights_file
from sparsenet.retrieval import descriptors, index

KIND = {"sparsenet-test": 1}


@pytest.fixture
def build(tmp_path):
    """Makes a file with a header and what a function adds; gives its path."""

    def build(add) -> str:
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file.attrs.update({"format": "sparsenet-test", "version": 1})
            file["labels"] = np.arange(4)
            file["group/inner"] = np.arange(3.0)
            add(file)
        return str(tmp_path / "x.h5")

    return build


def virtual(file, source: str):
    layout = h5py.VirtualLayout((4,), "i8")
    layout[:] = h5py.VirtualSource(source, "bad", shape=(4,))
    file.create_virtual_dataset("bad", layout)


def external(file):
    file.create_dataset("bad", (4,), "S8", external=[("/etc/passwd", 0, 32)])


def unknown_filter(file):
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_chunk((4,))
    properties.set_filter(305, h5py.h5z.FLAG_OPTIONAL, (1,))
    h5d.create(file.id, b"bad", h5t.NATIVE_INT32, h5s.create_simple((4,)), properties)


def gzip_twice(file):
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_chunk((1 << 20,))
    for _ in range(2):
        properties.set_deflate(9)
    h5d.create(file.id, b"bad", h5t.NATIVE_INT32, h5s.create_simple((1 << 20,)), properties)


def half_written(file):
    """A chunk of gigabytes' worth of them is stored."""
    made = file.create_dataset("bad", (10**9,), "u1", chunks=(1000,), compression="gzip")
    made[:1000] = 1


def add(name: str, *arguments, **options):
    return lambda file: file.create_dataset(name, *arguments, **options)


def set_(name: str, value):
    def change(file):
        file[name] = value if not callable(value) else value(file)
    return change


HOSTILE = {
    "soft link": (set_("bad", h5py.SoftLink("/labels")), "bad is a soft link"),
    "soft link to itself": (set_("bad", h5py.SoftLink("/bad")), "bad is a soft link"),
    "external link": (set_("group/bad", h5py.ExternalLink("other.h5", "/labels")), "group/bad is a link to another"),
    "second hard link": (set_("bad", lambda file: file["labels"]), "(bad|labels) is a second link"),
    "cycle": (set_("group/bad", lambda file: file["group"]), "group/bad is a second link"),
    "cycle through the root": (set_("group/bad", lambda file: file["/"]), "group/bad is a second link"),
    "deep group": (lambda file: file.create_group("group/bad"), "group/bad is a group within a group"),
    "named type": (set_("bad", np.dtype("f4")), "bad is a named type"),
    "virtual dataset of itself": (lambda file: virtual(file, "."), "bad is a virtual dataset"),
    "virtual dataset of another file": (lambda file: virtual(file, "other.h5"), "bad is a virtual dataset"),
    "external storage": (external, "bad is stored in another file"),
    "unknown filter": (unknown_filter, r"bad uses the filters \[305\]"),
    "gzip twice": (gzip_twice, r"bad uses the filters \[1, 1\]"),
    "lzf": (add("bad", data=np.zeros(9), compression="lzf"), "bad uses the filters"),
    "scale-offset": (add("bad", data=np.zeros(9, int), scaleoffset=2), "bad uses the filters"),
    "unwritten": (add("bad", (10**9,), "i4"), "bad declares 4000000000 bytes and stores 0"),
    "unwritten chunks": (add("bad", (10**12,), "i4", chunks=(100,)), "bad declares .* and stores 0"),
    "nearly unwritten": (half_written, "bad declares 1000000000 bytes and stores"),
    "huge chunk": (add("bad", (3,), "f8", chunks=(10**8,), maxshape=(None,), data=np.ones(3), compression="gzip"),
                   "bad has chunks of 800000000 bytes"),
    "compound": (add("bad", data=np.zeros(3, [("a", "i4")])), "bad is neither numbers nor text"),
    "references": (add("bad", (3,), h5py.ref_dtype), "bad is neither numbers nor text"),
    "lists": (add("bad", (3,), h5py.vlen_dtype(np.int32)), "bad is neither numbers nor text"),
    "opaque": (add("bad", data=np.zeros(3, "V5")), "bad is neither numbers nor text"),
    "complex": (add("bad", data=np.zeros(3, "c8")), "bad is neither numbers nor text"),
    "null": (add("bad", data=h5py.Empty("f4")), "bad has no value"),
    "name of other bytes": (lambda file: file.create_dataset(b"bad\xff", data=1), "the name .* is not UTF-8"),
    "name of control characters": (add("bad\x1b[2J", data=1), "the name .* is not printable"),
}


@pytest.mark.parametrize(("change", "message"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_not_plain_data_of_the_file_itself_is_refused_before_it_is_read(build, change, message, monkeypatch):
    path = build(change)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: pytest.fail("a value was read"))
    with pytest.raises(ValueError, match=f"^[^\n]*x.h5: [^\n]*{message}[^\n]*$"):
        open_hdf5(path, KIND)


def test_what_gzip_can_pack_is_read(build):
    path = build(add("zeros", data=np.zeros(3_000_000, np.uint8), compression="gzip", compression_opts=9,
                     chunks=(1 << 20,), shuffle=True, fletcher32=True))
    with open_hdf5(path, KIND) as file:
        dataset = file["zeros"]
        assert dataset.size / dataset.id.get_storage_size() > 900
        assert not read_dataset(dataset).any()


def test_a_dataset_may_end_within_its_only_chunk(build):
    path = build(add("small", data=np.arange(5, dtype=np.uint8)[None], chunks=(1, 65536), maxshape=(1, None),
                     compression="gzip", shuffle=True))
    with open_hdf5(path, KIND) as file:
        assert read_dataset(file["small"]).tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("options", [{}, {"chunks": (2,), "compression": "gzip"}, {"dtype": "S12"},
                                     {"dtype": h5py.string_dtype("utf-8", 12)}])
def test_texts_of_all_lengths_are_read(build, options):
    texts = ["a", "", "żółw" if options.get("dtype") != "S12" else "tortoise", "word"]
    with open_hdf5(build(add("texts", data=texts, **options)), KIND) as file:
        found = read_dataset(find_dataset(file, "texts", "T", (4,)))
        assert found.dtype == object and found.tolist() == texts


def test_texts_that_repeat_one_long_text_are_refused_before_they_fill_the_memory(build):
    """64 bytes of references in a row lead to the same megabyte of text."""
    def repeated(file):
        file.create_dataset("texts", data=["x" * 1_000_000] + ["y"] * 999, dtype=h5py.string_dtype())

    path = build(repeated)
    with h5py.File(path, "r") as file:
        offset = file["texts"].id.get_offset()
    with open(path, "rb+") as file:  # each element is a length, an address and a number in the heap: 16 bytes
        file.seek(offset)
        first = file.read(16)
        file.seek(offset)
        file.write(first * 1000)
    script = ("import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
              "from sparsenet.files import open_hdf5; from sparsenet.hdf5 import read_dataset\n"
              "with open_hdf5(sys.argv[1], {'sparsenet-test': 1}) as file: read_dataset(file['texts'])")
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, timeout=60)
    assert "ValueError: texts contains texts that are longer than the file" in done.stderr


def test_zeros_in_the_place_of_texts_are_refused_before_the_library_loops_over_them(build):
    path = build(lambda file: file.attrs.update({"x": ["word"] * 3}))
    with open(path, "rb+") as file:
        place = file.read().find(b"GCOL") + 16
        file.seek(place)
        file.write(bytes(64))
    with pytest.raises(ValueError, match=f"x.h5: truncated or damaged .the texts at byte {place - 16} are damaged"):
        open_hdf5(path, KIND)


def test_any_number_of_texts_passes_the_check_of_their_heaps(build):
    texts = ["x" * length for length in (*range(300), 5000, 70_000)]
    with open_hdf5(build(add("texts", data=texts)), KIND) as file:
        assert read_dataset(file["texts"]).tolist() == texts


def test_texts_that_are_not_utf8_are_named(build):
    with open_hdf5(build(add("texts", data=np.array([b"\xff"]))), KIND) as file, (
            pytest.raises(ValueError, match="texts contains a text that is not UTF-8")):
        read_dataset(file["texts"])


@pytest.mark.parametrize(("value", "expected"), [
    (3, 3), (2.5, 2.5), (True, True), ("żółw", "żółw"), (np.bytes_(b"word"), "word"), (["a", "ż"], ["a", "ż"]),
    (np.array([b"a", b"b"]), ["a", "b"]), (np.array([1, 2]), [1, 2]),
])
def test_attributes_are_plain_values(build, value, expected):
    with open_hdf5(build(lambda file: file.attrs.update({"x": value})), KIND) as file:
        found = read_attribute(file, "x")
        found = found.tolist() if isinstance(found, np.ndarray) else found
        assert found == expected and type(found) is type(expected)
        assert set(read_attributes(file)) == {"format", "version", "x"}


@pytest.mark.parametrize(("value", "message"), [
    (h5py.Empty("f4"), "attribute x has no value"), (np.zeros(2, [("a", "i4")]), "neither numbers nor text"),
    (np.bytes_(b"\xff"), "attribute x is not UTF-8"), (np.array([b"a", b"\xff"]), "attribute x is not UTF-8"),
])
def test_attributes_of_other_types_are_refused(build, value, message):
    with open_hdf5(build(lambda file: file.attrs.update({"x": value})), KIND) as file, (
            pytest.raises(ValueError, match=message)):
        read_attribute(file, "x")


def test_attributes_are_short(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        file.attrs["long"] = np.zeros(10_000)
        file.attrs.create("many", ["x" * 100_000, *["y"] * 3000], dtype=h5py.string_dtype())
        for name, message in (("long", "attribute long has 80000 bytes"), ("many", "attribute many may contain"),
                              ("none", "attribute none is missing")):
            file.flush()
            with pytest.raises(ValueError, match=message):
                read_attribute(file, name)


@pytest.mark.parametrize(("key", "kinds", "shape", "message"), [
    ("none", "i", (4,), "none is missing"), ("group", "i", (4,), "group is a group, expected a dataset"),
    ("labels", "f", (4,), "labels has dtype int64, expected floating-point numbers"),
    ("labels", "Tu", (4,), "labels has dtype int64, expected text or unsigned integers"),
    ("labels", "iu", (5,), r"labels has shape \(4,\), expected \(5,\)"),
    ("labels", "iu", (None, 3), r"labels has shape \(4,\), expected \(n, 3\)"),
])
def test_a_dataset_of_another_kind_or_shape_is_named(build, key, kinds, shape, message):
    with open_hdf5(build(lambda file: None), KIND) as file, pytest.raises(ValueError, match=message):
        find_dataset(file, key, kinds, shape)


def test_versions_change_on_purpose_alone():
    """A package refuses files of a newer version: one that writes it without need loses its older readers."""
    assert (layout.FORMAT, layout.VERSION) == ("sparsenet-voxels", 1)
    assert (weights_file.FORMAT, weights_file.VERSION) == ("sparsenet-weights", 1)
    assert (weights_file.CHECKPOINT_FORMAT, weights_file.CHECKPOINT_VERSION) == ("sparsenet-checkpoint", 3)
    assert (descriptors.FORMAT, descriptors.VERSION) == ("sparsenet-descriptors", 1)
    assert (index.FORMAT, index.VERSION) == ("sparsenet-index", 2)
    assert (folder.FORMAT, folder.VERSION) == ("sparsenet-folder", 2)
