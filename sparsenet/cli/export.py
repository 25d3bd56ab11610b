"""Write a trained network as an ONNX file: the dense network that it equals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparsenet.cli.parser import command_parser

EXAMPLES = """examples:
  sparsenet export runs/quickstart/best.h5 quickstart.onnx
  sparsenet export runs/modelnet40/best.h5 descriptor.onnx --descriptor

The input "grid" is (batch, channels, x, y, z) float32: 1 in the voxels of a mesh, 0 elsewhere.  The file also holds the
classes, the sides of the grid, and how meshes were voxelized.  Submanifold networks (resnet) have no dense equivalent.
This needs pip install 'sparsenet[onnx]'.
Exit code: 0, or 1 after an error, 2 after a wrong command line, 130 after Ctrl-C, 143 after SIGTERM."""


def main(arguments: list[str]) -> None:
    from sparsenet.export import onnx
    from sparsenet.files import size_text
    from sparsenet.retrieval.embedding import checked_layer
    from sparsenet.training import load_network, parse_config
    from sparsenet.training.losses import classifies
    from sparsenet.training.trained import check_output
    from sparsenet.wording import counted

    parser = command_parser("export", __doc__, EXAMPLES)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="best.h5 or last.h5 of a run")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="file to write (.onnx)")
    parser.add_argument("--descriptor", action="store_true",
                        help="end at the descriptor, the vector that `sparsenet embed` writes")
    parser.add_argument("--layer", type=int, metavar="N",
                        help="with --descriptor: the layer whose output it is, counted from 1 (default: the last "
                             "before the classifier)")
    args = parser.parse_args(arguments)
    if args.layer is not None and not args.descriptor:
        parser.error("argument --layer: expected with --descriptor")
    check_output(args.output, args.checkpoint)

    net, state = load_network(args.checkpoint)
    config = parse_config(state.config, args.checkpoint)
    metadata: dict[str, Any] = dict(state.voxelization)
    if args.descriptor:
        del net.layers[checked_layer(net, args.layer):]
        if not net.gives_rows:
            net.add_global_pool("mean")
    elif classifies(config):
        metadata["classes"] = state.classes
    onnx(net, args.output, metadata=metadata)
    numbers = (f"logits of {counted(net.out_channels, 'class', 'classes')}" if "classes" in metadata else
               counted(net.out_channels, "number"))
    grid = "x".join(map(str, net.field or ()))
    print(f"{args.output}: {size_text(args.output.stat().st_size)}, from grids of {grid} to {numbers}, checked by onnx")
