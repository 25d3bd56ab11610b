"""`sparsenet evaluate`, `embed`, `search` and `inspect` from the command line's side."""

from __future__ import annotations

import json

import pytest

from sparsenet.models import load_pretrained
from sparsenet.retrieval import Descriptors


@pytest.fixture(scope="module")
def mesh(experiment, tmp_path_factory):
    """A file of a test mesh."""
    return experiment.write_mesh(0, tmp_path_factory.mktemp("mesh") / "query.off")


@pytest.mark.parametrize("name", ["evaluate", "embed", "join", "search", "inspect"])
def test_help_has_examples_and_exit_codes(tool, name):
    code, out, _ = tool(name, "--help")
    assert code == 0 and "examples:" in out and "Exit code: 0" in out


def test_evaluate_prints_accuracy_and_table_and_writes_both_files(tool, experiment, tmp_path):
    pytest.importorskip("matplotlib")
    code, out, err = tool("evaluate", experiment.checkpoint, "--metric", "cosine", "--json", tmp_path / "e.json",
                          "--picture", tmp_path / "pr.png")
    assert code == 0 and not err  # no progress bar: this is no terminal
    assert out.splitlines()[0].startswith("accuracy ")
    assert "15 queries of 3 classes, each ranks 14 shapes by cosine" in out
    figures = json.loads((tmp_path / "e.json").read_text())
    assert {"1", "5", "10"} == set(figures["retrieval"]["precision_at"])
    assert set(figures["retrieval"]["per_class"]) == {"mug", "stool", "table"}
    assert "precision, %: at 1 " in out and out.endswith(f"picture: {tmp_path / 'pr.png'}\n")
    assert figures["retrieval"]["mAP"] == figures["test_mAP"] and len(figures["checkpoint"]) == 64
    assert (tmp_path / "pr.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.json", "pr.png"]


def test_evaluate_of_a_triplet_network_has_no_accuracy_and_ranks_by_cosine(tool, triplet_experiment):
    code, out, _ = tool("evaluate", triplet_experiment.checkpoint, "--quiet")
    assert code == 0 and "accuracy" not in out and "by cosine" in out


def test_evaluate_takes_another_split(tool, experiment):
    code, out, err = tool("evaluate", experiment.checkpoint, "--split", "all", "--quiet")
    assert code == 0 and "30 queries" in out and not err


def test_embed_writes_descriptors_that_retrieve_searches(tool, experiment, tmp_path):
    code, out, _ = tool("embed", experiment.checkpoint, tmp_path / "d.h5", "--split", "all", "--quiet")
    assert code == 0 and out == f"{tmp_path / 'd.h5'}: 30 shapes of 3 classes, 16 numbers each, from layer 8\n"
    assert len(Descriptors.load(tmp_path / "d.h5")) == 30
    query = experiment.write_mesh(6, tmp_path / "query.off")
    code, out, err = tool("search", experiment.checkpoint, query, "-k", 4, "--descriptors", tmp_path / "d.h5")
    assert code == 0 and not err
    assert len(out.splitlines()) == 5 and "stool/test1" in out.splitlines()[1]


@pytest.mark.parametrize(("of", "options"), [
    (2, ()), (40, ()), (3, ("--poses", "mean")), (3, ("--descriptor", "probabilities")), (3, ("--layer", "2"))])
def test_parts_of_descriptors_join_to_the_same_bytes(tool, experiment, tmp_path, of, options):
    """40 parts of 30 objects: some are empty."""
    arguments = ("embed", experiment.checkpoint, tmp_path / "d.h5", "--split", "all", "--quiet", *options)
    assert tool(*arguments)[0] == 0
    whole = (tmp_path / "d.h5").read_bytes()
    (tmp_path / "d.h5").unlink()
    for number in range(1, of + 1):
        code, out, _ = tool(*arguments, "--part", f"{number}/{of}")
        assert code == 0 and out.startswith(f"{tmp_path / f'd.{number}-of-{of}.h5'}: ")
    code, out, _ = tool("join", tmp_path / "d.h5", "--remove")
    assert code == 0 and out == f"{tmp_path / 'd.h5'}: 30 descriptors of {of} parts\n"
    assert (tmp_path / "d.h5").read_bytes() == whole and [path.name for path in tmp_path.iterdir()] == ["d.h5"]


def test_a_part_of_descriptors_that_is_there_is_kept(tool, experiment, tmp_path):
    arguments = ("embed", experiment.checkpoint, tmp_path / "d.h5", "--quiet", "--part", "1/20")
    part = tmp_path / "d.1-of-20.h5"  # empty
    for number in (1, 2):
        before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        for again in (False, True):
            code, out, _ = tool(*arguments[:-1], f"{number}/20")
            assert code == 0 and out.rstrip().endswith("it was there already, and is kept") == again
        assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    for more in (["--split", "all"], ["--poses", "mean"], ["--descriptor", "probabilities"], ["--layer", "2"]):
        code, _, err = tool(*arguments, *more)
        assert code == 1 and f"{part}: is not part 1/20 of these descriptors, or was made with other weights" in err
    tool("embed", experiment.checkpoint, tmp_path / "e.h5", "--quiet")
    (tmp_path / "e.h5").replace(part)
    code, _, err = tool(*arguments)
    assert code == 1 and "remove it, or name another output" in err


def test_parts_of_other_settings_are_not_joined(tool, experiment, tmp_path):
    for number, poses in ((1, "first"), (2, "mean")):
        assert tool("embed", experiment.checkpoint, tmp_path / "d.h5", "--quiet", "--part", f"{number}/2", "--poses",
                    poses)[0] == 0
    code, _, err = tool("join", tmp_path / "d.h5")
    assert code == 1 and "was made with other settings, or from other shapes, than" in err


def test_descriptors_that_do_not_belong_together_are_not_joined(tool, experiment, triplet_experiment, tmp_path):
    for number, own in ((1, experiment), (2, triplet_experiment)):
        assert tool("embed", own.checkpoint, tmp_path / "d.h5", "--quiet", "--part", f"{number}/2")[0] == 0
    code, _, err = tool("join", tmp_path / "d.h5")
    assert code == 1 and "join: the checkpoint of" in err and "make all parts with one command" in err
    (tmp_path / "d.2-of-2.h5").unlink()
    code, _, err = tool("join", tmp_path / "d.h5")
    assert code == 1 and "of 2 parts 1 are missing: 2" in err
    assert tool("embed", experiment.checkpoint, tmp_path / "whole.h5", "--quiet")[0] == 0
    code, _, err = tool("join", tmp_path / "d.h5", tmp_path / "whole.h5")
    assert code == 1 and "has whole descriptors, expected parts" in err


def test_embed_counts_unlabelled_shapes_separately(tool, experiment, make_shapes, tmp_path):
    data = make_shapes(tmp_path / "d.h5", {"mug": 2, "pear": 3}, unlabelled=4)
    code, out, _ = tool("embed", experiment.checkpoint, tmp_path / "e.h5", "--dataset", data)
    expected = f"{tmp_path / 'e.h5'}: 5 shapes of 2 classes and 4 shapes without a label, 16 numbers"
    assert code == 0 and out.startswith(expected)
    assert Descriptors.load(tmp_path / "e.h5").label_names()[-4:] == ["?"] * 4


def test_retrieve_embeds_by_itself_and_draws(tool, experiment, tmp_path):
    pytest.importorskip("matplotlib")
    query = experiment.write_mesh(0, tmp_path / "query.off")
    code, out, _ = tool("search", experiment.checkpoint, query, "-k", 99, "--label", "mug", "--picture",
                        tmp_path / "found.png")
    assert code == 0
    assert len(out.splitlines()) == 1 + 15 + 1  # header, all there are, the picture's path
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")


def test_descriptors_of_other_weights_are_refused(tool, experiment, triplet_experiment, tmp_path):
    assert tool("embed", triplet_experiment.checkpoint, tmp_path / "d.h5", "--quiet")[0] == 0
    query = experiment.write_mesh(0, tmp_path / "query.off")
    code, _, err = tool("search", experiment.checkpoint, query, "--descriptors", tmp_path / "d.h5")
    assert code == 1 and "was not made with the weights of" in err


@pytest.mark.parametrize(("name", "arguments", "message"), [
    ("embed", ["{run}/best.h5", "{out}/absent/d.h5"], "the folder {out}/absent does not exist"),
    ("embed", ["{run}/best.h5", "{out}/d.h5", "--layer", "40", "--quiet"], "layer is 40, expected 1 to 10"),
    ("embed", ["{run}/best.h5", "{out}/d.h5", "--split", "dev"], "split 'dev' has no sample"),
    ("embed", ["{run}/absent.h5", "{out}/d.h5"], "absent.h5: no such file"),
    ("embed", ["{run}/best.h5", "{run}/best.h5"], "best.h5: would be overwritten while being read"),
    ("embed", ["{run}/best.h5", "{run}/../{run.name}/shapes.h5"], "shapes.h5: would be overwritten while being read"),
    ("evaluate", ["{run}/best.h5", "--json", "{run}/shapes.h5"], "shapes.h5: would be overwritten while being read"),
    ("evaluate", ["{run}/best.h5", "--json", "{run}/best.h5"], "best.h5: would be overwritten while being read"),
    ("evaluate", ["{run}/shapes.h5"], "format is 'sparsenet-voxels'"),
    ("evaluate", ["{run}/best.h5", "--protocol", "paper"], "has 5 of 'mug' to test on"),
    ("evaluate", ["{run}/best.h5", "--picture", "{out}/pr.gif"], "its suffix is '.gif'"),
    ("search", ["{run}/best.h5", "{mesh}", "--quiet", "--label", "tabel", "--picture", "{out}/p.png"],
     "'tabel' is not one of the 3"),
    ("search", ["{run}/best.h5", "{out}/absent.off"], "absent.off"),
    ("search", ["{run}/best.h5", "{run}/best.h5"], "best.h5"),
])
def test_errors_are_one_line_with_exit_code_1(tool, experiment, mesh, tmp_path, name, arguments, message):
    places = {"run": experiment.folder, "out": tmp_path, "mesh": mesh}
    code, out, err = tool(name, *(argument.format(**places) for argument in arguments))
    assert (code, out) == (1, "")
    assert err.startswith(f"sparsenet {name}: error: ") and err.count("\n") == 1
    assert message.format(**places) in err
    assert not list(tmp_path.iterdir())


def test_a_wrong_command_line_ends_with_2(tool, experiment):
    assert tool("search", experiment.checkpoint, "mesh.off", "-k", 0)[0] == 2
    assert tool("evaluate")[0] == 2


@pytest.mark.extra("inspect")
@pytest.mark.parametrize(("options", "message"), [
    (["--target", "tabel"], "--target is 'tabel', expected one of mug, stool, table"),
    (["--render-size", "0"], "render"),
])
def test_the_page_of_a_network_names_what_is_wrong(tool, experiment, mesh, tmp_path, options, message):
    words = ["--checkpoint", experiment.checkpoint, "--mesh", mesh, "--out", tmp_path / "p.html"]
    code, out, err = tool("inspect", *words, *options)
    assert (code, out) == (1, "") and message in err and not list(tmp_path.iterdir())


@pytest.mark.extra("inspect")
def test_a_shipped_model_has_a_page(tool, mesh, tmp_path):
    code, out, err = tool("inspect", "--checkpoint", "furniture", "--mesh", mesh, "--out", tmp_path / "p.html")
    assert (code, err) == (0, "") and out.startswith(f"page: {tmp_path / 'p.html'}, ")
    net = load_pretrained("furniture")
    assert f"{len(net.voxelization.voxelize(net.voxelization.read(mesh), net.field).coordinates):,} voxels" in out


@pytest.mark.extra("inspect")
def test_a_triplet_network_has_a_page_but_no_target(tool, triplet_experiment, mesh, tmp_path):
    words = ["--checkpoint", triplet_experiment.checkpoint, "--mesh", mesh, "--out", tmp_path / "p.html"]
    code, _, err = tool("inspect", *words, "--target", "mug")
    assert code == 1 and "--target: the network is not a classifier and has no logits: omit it" in err
    code, out, err = tool("inspect", *words)
    assert (code, err) == (0, "") and out.startswith(f"page: {tmp_path / 'p.html'}, ")


@pytest.mark.parametrize(("options", "message"), [
    (["--descriptors", "d.h5", "--split", "all"], "--split: not allowed with --descriptors"),
    (["--label", "mug"], "--label: needs --picture"),
])
def test_retrieve_refuses_options_that_would_do_nothing(tool, experiment, options, message):
    code, out, err = tool("search", experiment.checkpoint, "mesh.off", *options)
    assert (code, out) == (2, "") and message in err


def test_ctrl_c_leaves_the_old_file_whole(tool, experiment, tmp_path, monkeypatch):
    from sparsenet.nn import SparseNetwork

    assert tool("embed", experiment.checkpoint, tmp_path / "d.h5", "--quiet")[0] == 0
    before = (tmp_path / "d.h5").read_bytes()

    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(SparseNetwork, "run", interrupted)
    code, _, err = tool("embed", experiment.checkpoint, tmp_path / "d.h5", "--split", "all", "--quiet")
    assert code == 130 and "interrupted" in err
    assert (tmp_path / "d.h5").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["d.h5"]
