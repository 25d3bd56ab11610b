"""Runs a peer in a separate process: `python peer_worker.py torch|spconv|triton THREADS [cpu|cuda]`.

Depends only on NumPy, torch and spconv, not on this package, so that any interpreter can run it.
Reads one JSON command per line and answers with one JSON line:

    {"do": "versions"}                             {"torch": ..., "spconv": ...}
    {"do": "convolution", "inputs": FILE.npz, "outputs": FILE.npz, "size", "stride", "padding", "submanifold"}
        (torch: "groups" too) runs forward and backward once and saves output, output_coordinates, input_gradient,
        weight_gradient
    {"do": "large", "inputs": FILE.npz, "outputs": FILE.npz, "precision", "c_in", "c_out"}
        submanifold 3^3 of arrays computed from their positions (operands.py); saves some rows of output and
        input_gradient, and a corner of the weight_gradient
    {"do": "network", "inputs": FILE.npz, "outputs": FILE.npz}     S3DCNN up to the descriptor, likewise
    {"do": "unet", "inputs": FILE.npz, "outputs": FILE.npz}        a U-Net of residual blocks, likewise
    {"do": "time", "pass": NAME}                   {"seconds": ...} of one pass of the latest task
"""

from __future__ import annotations

import json
import os
import sys
import time

COVER_CYCLES = 20_000_000  # about 10 ms of GPU idling while the host prepares launches


def main(peer: str, threads: int, device: str = "cpu") -> None:
    global DEVICE
    DEVICE = device
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    answers = os.fdopen(os.dup(1), "w")  # output of libraries goes to stderr
    os.dup2(2, 1)
    sys.path[:] = [folder for folder in sys.path if folder != os.path.dirname(os.path.abspath(__file__))]
    import torch  # its imports must not find this folder's profile.py instead of Python's

    torch.set_num_threads(threads)
    if device == "cuda":
        if not torch.cuda.is_available():
            raise RuntimeError("this torch finds no GPU")
        use_tf32(False)
    present = None
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "versions":
            answer = versions(peer)
        elif command["do"] == "time":
            answer = {"seconds": present.seconds(command["pass"])}
        else:
            present = None  # frees the memory of the previous task
            present = KINDS[peer, command["do"]](command)
            answer = {"passes": list(present.passes)}
        print(json.dumps(answer), file=answers, flush=True)


def versions(peer: str) -> dict:
    import torch

    found = {"torch": torch.__version__}
    if peer == "spconv":
        import spconv

        found["spconv"] = spconv.__version__
    if peer == "triton":
        import triton

        found["triton"] = triton.__version__
    return found


DEVICE = "cpu"


def use_tf32(enabled: bool) -> None:
    """Whether float32 is multiplied as TF32, in torch and in spconv."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = enabled
    if "spconv" in sys.modules:
        sys.modules["spconv"].constants.SPCONV_ALLOW_TF32 = enabled


class Passes:
    """passes : name -> (prepare, run); run(prepare()) is timed without the preparation."""

    def seconds(self, name: str) -> float:
        prepare, run = self.passes[name]
        given = prepare()
        if DEVICE == "cuda":
            return self._on_gpu(run, given)
        begun = time.perf_counter()
        kept = run(given)  # noqa: F841 (freed after the clock has stopped)
        return time.perf_counter() - begun

    def _on_gpu(self, run, given) -> float:  # noqa: ANN001
        import torch

        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        torch.cuda._sleep(COVER_CYCLES)
        begin.record()
        kept = run(given)  # noqa: F841
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3


class TorchConvolution(Passes):
    """torch.nn.functional.conv3d on the dense grid."""

    def __init__(self, command: dict):
        import numpy as np
        import torch

        data = np.load(command["inputs"])
        coordinates, features, weight = data["coordinates"], data["features"], data["weight"]
        c_in, c_out = weight.shape[1:]
        size, groups = command["size"], command.get("groups", 1)
        grid = np.zeros((1, c_in * groups, *data["grid"]), np.float32)
        grid[0][:, coordinates[:, 1], coordinates[:, 2], coordinates[:, 3]] = features.T
        self.x = torch.from_numpy(grid).to(DEVICE).requires_grad_()
        kernel = np.ascontiguousarray(weight.transpose(2, 1, 0).reshape(c_out, c_in, size, size, size))
        self.weight = torch.from_numpy(kernel).to(DEVICE).requires_grad_()
        self.settings = {"stride": command["stride"], "padding": command["padding"], "groups": groups}
        y = self.forward(None)
        gradient = np.zeros(tuple(y.shape), np.float32)
        at = data["output_coordinates"]
        gradient[0][:, at[:, 1], at[:, 2], at[:, 3]] = data["gradient"].T
        self.gradient = torch.from_numpy(gradient).to(DEVICE)
        self.backward(y)
        weight_gradient = self.weight.grad.cpu().numpy().reshape(c_out, c_in, -1).transpose(2, 1, 0)
        here, there = (np.moveaxis(a[0], 0, -1) for a in (self.x.grad.cpu().numpy(), y.detach().cpu().numpy()))
        np.savez(command["outputs"], output=there[at[:, 1], at[:, 2], at[:, 3]], output_coordinates=at,
                 input_gradient=here[coordinates[:, 1], coordinates[:, 2], coordinates[:, 3]],
                 weight_gradient=weight_gradient)
        self.passes = {"forward": (lambda: None, self.forward), "backward": (self.fresh, self.backward)}

    def forward(self, _: None):  # noqa: ANN201 (torch is not imported here)
        import torch

        return torch.nn.functional.conv3d(self.x, self.weight, **self.settings)

    def fresh(self):  # noqa: ANN201
        self.x.grad = self.weight.grad = None
        return self.forward(None)

    def backward(self, y) -> None:  # noqa: ANN001
        y.backward(self.gradient)


class SpconvConvolution(Passes):
    """spconv's layer for the first call; its functions on stored indices if the rulebook is ready."""

    def __init__(self, command: dict):
        import numpy as np
        import torch

        spconv = _spconv()
        data = np.load(command["inputs"])
        self.coordinates, features, weight = data["coordinates"], data["features"], data["weight"]
        size = command["size"]
        c_in, c_out = weight.shape[1:]
        if command["submanifold"]:
            self.layer = spconv.SubMConv3d(c_in, c_out, size, bias=False, indice_key="sites")
        else:
            self.layer = spconv.SparseConv3d(c_in, c_out, size, command["stride"], command["padding"], bias=False,
                                             indice_key="sites")
        kernel = np.ascontiguousarray(weight.transpose(2, 0, 1).reshape(c_out, size, size, size, c_in))
        with torch.no_grad():
            self.layer.weight.copy_(torch.from_numpy(kernel))
        self.layer.to(DEVICE)
        self.grid = [int(side) for side in data["grid"]]
        self.features = torch.from_numpy(features).to(DEVICE).requires_grad_()
        self.given = torch.from_numpy(self.coordinates).to(DEVICE)
        y = self.first(None)
        self.rules = y.find_indice_pair("sites")
        self.submanifold = command["submanifold"]
        at = y.indices.cpu().numpy()
        order = {tuple(row): i for i, row in enumerate(data["output_coordinates"].tolist())}
        rows = np.array([order.get(tuple(row), -1) for row in at.tolist()])
        gradient = data["gradient"][rows]
        gradient[rows < 0] = 0
        self.gradient = torch.from_numpy(gradient).to(DEVICE)
        self.backward(y.features)
        weight_gradient = self.layer.weight.grad.cpu().numpy().reshape(c_out, -1, c_in).transpose(1, 2, 0)
        np.savez(command["outputs"], output=y.features.detach().cpu().numpy(), output_coordinates=at,
                 input_gradient=self.features.grad.cpu().numpy(), weight_gradient=weight_gradient)
        self.passes = {"forward": (lambda: None, self.forward), "backward": (self.fresh, self.backward),
                       "first call": (lambda: None, self.first)}

    def first(self, _: None):  # noqa: ANN201
        return self.layer(_spconv().SparseConvTensor(self.features, self.given, self.grid, 1))

    def forward(self, _: None):  # noqa: ANN201
        from spconv.pytorch import functional

        if DEVICE == "cuda":  # its layers rebuild strided rulebooks each time and then call this
            r = self.rules
            return functional.implicit_gemm(
                self.features, self.layer.weight, r.pair_fwd, r.pair_bwd, r.pair_mask_fwd_splits,
                r.pair_mask_bwd_splits, r.mask_argsort_fwd_splits, r.mask_argsort_bwd_splits, r.out_indices.shape[0],
                r.masks, True, self.submanifold)
        run = functional.indice_subm_conv if self.submanifold else functional.indice_conv
        return run(self.features, self.layer.weight, self.rules.indice_pairs, self.rules.indice_pair_num,
                   self.rules.out_indices.shape[0], self.layer.algo)

    def fresh(self):  # noqa: ANN201
        self.features.grad = self.layer.weight.grad = None
        return self.forward(None)

    def backward(self, y) -> None:  # noqa: ANN001
        y.backward(self.gradient)


class SpconvLarge(SpconvConvolution):
    """A submanifold 3^3 at very many sites, in float32, TF32 or halves."""

    def __init__(self, command: dict):
        import numpy as np
        import torch

        spconv = _spconv()
        data = np.load(command["inputs"])
        c_in, c_out, rows = command["c_in"], command["c_out"], data["rows"]
        dtype = torch.float16 if command["precision"] == "fp16" else torch.float32
        use_tf32(command["precision"] == "tf32")
        count, self.submanifold = len(data["coordinates"]), True
        self.grid = [int(side) for side in data["grid"]]
        self.layer = spconv.SubMConv3d(c_in, c_out, 3, bias=False, indice_key="sites").to(DEVICE, dtype)
        weight = operand("weight", 27 * c_in, c_out, c_in).reshape(27, c_in, c_out).permute(2, 0, 1)
        with torch.no_grad():
            self.layer.weight.copy_(weight.reshape(c_out, 3, 3, 3, c_in))
        self.features, self.gradient = (operand(name, count, width).to(dtype)
                                        for name, width in (("features", c_in), ("gradient", c_out)))
        self.features.requires_grad_()
        self.given = torch.from_numpy(data["coordinates"]).to(DEVICE)
        y = self.first(None)
        self.rules = y.find_indice_pair("sites")
        self.backward(y.features)
        corner = self.layer.weight.grad.float().cpu().numpy().reshape(c_out, 27, c_in).transpose(1, 2, 0)[:, :8, :8]
        np.savez(command["outputs"], output=y.features.detach()[rows].float().cpu().numpy(),
                 input_gradient=self.features.grad[rows].float().cpu().numpy(), weight_gradient=corner)
        self.passes = {"forward": (lambda: None, self.forward), "backward": (self.fresh, self.backward)}


class TritonLarge(Passes):
    """The same with the kernels in triton_convolution.py."""

    def __init__(self, command: dict):
        import numpy as np
        import torch

        kernels = beside("triton_convolution")
        data = np.load(command["inputs"])
        c_in, c_out, rows = command["c_in"], command["c_out"], data["rows"]
        dtype = torch.float16 if command["precision"] == "fp16" else torch.float32
        exact = command["precision"] == "float32"
        count = len(data["coordinates"])
        features, gradient = (operand(name, count, width).to(dtype)
                              for name, width in (("features", c_in), ("gradient", c_out)))
        weight = operand("weight", 27 * c_in, c_out, c_in).reshape(27, c_in, c_out).to(dtype)
        turned = weight.flip(0).transpose(1, 2).contiguous()
        table = kernels.Table(torch.from_numpy(data["coordinates"]).to(DEVICE), data["grid"])

        def backward(_: None) -> tuple:
            return (kernels.forward(gradient, turned, table, exact),
                    kernels.weight_gradient(features, gradient, table, exact))

        def forward(_: None):  # noqa: ANN202
            return kernels.forward(features, weight, table, exact)

        output, (input_gradient, weight_gradient) = forward(None), backward(None)
        np.savez(command["outputs"], output=output[rows].float().cpu().numpy(),
                 input_gradient=input_gradient[rows].float().cpu().numpy(),
                 weight_gradient=weight_gradient[:, :8, :8].float().cpu().numpy())
        self.passes = {"forward": (lambda: None, forward), "backward": (lambda: None, backward)}


def beside(name: str):  # noqa: ANN201
    """Import a module of this folder, which is not on the import path."""
    from importlib import util
    from pathlib import Path

    spec = util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def operand(name: str, count: int, width: int, depth: int = 0):  # noqa: ANN201
    """(count, width) float32 on the device, as in operands.py, but in torch, which has no uint32 arithmetic."""
    import numpy as np
    import torch

    seed = {"features": 0x243F6A88, "weight": 0x85A308D3, "gradient": 0x13198A2E}[name]
    bits = torch.arange(count * width, device=DEVICE, dtype=torch.int64).bitwise_xor_(seed)
    for factor in (0x85EBCA6B, 0xC2B2AE35):
        bits ^= bits >> 16
        bits *= factor
        bits &= 0xFFFFFFFF
    bits ^= bits >> 16
    values = (bits >> 8).to(torch.float32) * 2.0**-23 - 1
    values *= float(np.float32(np.sqrt(3) / (np.sqrt(8 * depth) if name == "weight" else 1)))
    return values.reshape(count, width)


class TorchNetwork(Passes):
    """S3DCNN on the dense grid, up to the descriptor (mean over its one cell)."""

    def __init__(self, command: dict):
        import numpy as np
        import torch

        data = np.load(command["inputs"])
        coordinates = data["coordinates"]
        self.x = torch.zeros((int(data["batch"]), 1, *(int(side) for side in data["grid"])))
        self.x[coordinates[:, 0], 0, coordinates[:, 1], coordinates[:, 2], coordinates[:, 3]] = 1.0
        layers, count = [], sum(name.startswith("weight") for name in data.files)
        for i in range(count):
            weight, bias = data[f"weight{i}"], data[f"bias{i}"]
            layer = torch.nn.Conv3d(weight.shape[1], weight.shape[2], 2)
            kernel = weight.transpose(2, 1, 0).reshape(layer.weight.shape)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
                layer.bias.copy_(torch.from_numpy(bias))
            layers += [layer, torch.nn.LeakyReLU(float(data["slope"]))]
            layers += [torch.nn.MaxPool3d(3, 2)] if i < count - 1 else []
        self.net, self.x = torch.nn.Sequential(*layers).to(DEVICE), self.x.to(DEVICE)
        y = self.step(None)
        np.savez(command["outputs"], output=y.cpu().numpy())
        self.passes = {"step": (lambda: None, self.step)}

    def step(self, _: None):  # noqa: ANN201
        self.net.zero_grad()
        y = self.net(self.x).flatten(1)
        y.sum().backward()
        return y.detach()


class SpconvNetwork(Passes):
    """S3DCNN built from spconv's layers.  Its max-pooling ignores inactive cells, so the function differs."""

    def __init__(self, command: dict):
        import numpy as np
        import torch

        spconv = _spconv()
        data = np.load(command["inputs"])
        self.coordinates = torch.from_numpy(data["coordinates"]).to(DEVICE)
        self.features = torch.ones((len(data["coordinates"]), 1), device=DEVICE)
        self.batch, self.grid = int(data["batch"]), [int(side) for side in data["grid"]]
        layers, count = [], sum(name.startswith("weight") for name in data.files)
        for i in range(count):
            c_in, c_out = data[f"weight{i}"].shape[1:]
            layers += [spconv.SparseConv3d(c_in, c_out, 2, bias=False), torch.nn.LeakyReLU(float(data["slope"]))]
            layers += [spconv.SparseMaxPool3d(3, 2)] if i < count - 1 else []
        self.net = spconv.SparseSequential(*layers).to(DEVICE)
        np.savez(command["outputs"], output=self.step(None).cpu().numpy())
        self.passes = {"step": (lambda: None, self.step)}

    def step(self, _: None):  # noqa: ANN201
        self.net.zero_grad()
        y = self.net(_spconv().SparseConvTensor(self.features, self.coordinates, self.grid, self.batch)).features
        y.sum().backward()
        return y.detach()


class SpconvUnet(Passes):
    """The network of sn.unet with one block, of spconv's and torch's layers, with its weights by name."""

    def __init__(self, command: dict):
        import numpy as np
        import torch

        data = np.load(command["inputs"])
        self.weights = {name.removeprefix("weights/"): data[name] for name in data.files if name.startswith("weights/")}
        self.layers = torch.nn.ModuleDict()
        self.coordinates, self.features = (torch.from_numpy(data[name]).to(DEVICE) for name in ("coordinates",
                                                                                                "features"))
        self.grid = [int(side) for side in data["grid"]]
        np.savez(command["outputs"], output=self.step(None).cpu().numpy())
        self.passes = {"step": (lambda: None, self.step)}

    def step(self, _: None):  # noqa: ANN201
        x = _spconv().SparseConvTensor(self.features, self.coordinates, self.grid, 1)
        self.layers.zero_grad()
        x = self.activated(self.convolved(x, "submanifold1", "sites0"), "batch_norm1")
        y = self.convolved(self.level(x, ""), "submanifold2", "ones0").features
        y.sum().backward()
        return y.detach()

    def level(self, x, prefix: str):  # noqa: ANN001, ANN201
        depth = prefix.count("skip1")
        x = self.block(x, f"{prefix}residual1", depth)
        inner = f"{prefix}skip1."
        if f"{inner}convolution1.weight" not in self.weights:
            return x
        y = self.activated(self.convolved(x, f"{inner}convolution1", f"down{depth}"), f"{inner}batch_norm1")
        y = self.level(y, inner)
        y = self.activated(self.convolved(y, f"{inner}inverse_convolution1", f"down{depth}"), f"{inner}batch_norm2")
        return self.block(self.beside(y, x), f"{prefix}residual2", depth)

    def block(self, x, name: str, depth: int):  # noqa: ANN001, ANN201
        y = self.activated(self.convolved(x, f"{name}.0", f"sites{depth}"), f"{name}.1")
        y = self.normed(self.convolved(y, f"{name}.3", f"sites{depth}"), f"{name}.4")
        if f"{name}.shortcut.0.weight" in self.weights:
            x = self.normed(self.convolved(x, f"{name}.shortcut.0", f"ones{depth}"), f"{name}.shortcut.1")
        return y.replace_feature((y.features + x.features).relu())

    def beside(self, y, x):  # noqa: ANN001, ANN201
        import torch

        return y.replace_feature(torch.cat([y.features, x.features], dim=1))

    def normed(self, x, name: str):  # noqa: ANN001, ANN201
        import torch

        layer = self.made(name, lambda: torch.nn.BatchNorm1d(x.features.shape[1]))
        return x.replace_feature(layer(x.features))

    def activated(self, x, name: str):  # noqa: ANN001, ANN201
        y = self.normed(x, name)
        return y.replace_feature(y.features.relu())

    def convolved(self, x, name: str, key: str):  # noqa: ANN001, ANN201
        return self.made(name, lambda: self.convolution(name, key))(x)

    def made(self, name: str, build):  # noqa: ANN001, ANN201
        """The layer of that name, made at its first use."""
        if (key := name.replace(".", "_")) not in self.layers:
            self.layers[key] = build().to(DEVICE)
        return self.layers[key]

    def convolution(self, name: str, key: str):  # noqa: ANN201
        import torch

        spconv, weight = _spconv(), self.weights[f"{name}.weight"]
        offsets, c_in, c_out = weight.shape
        size, bias = round(offsets ** (1 / 3)), self.weights.get(f"{name}.bias")
        options = {"bias": bias is not None, "indice_key": key}
        if "inverse" in name:
            layer = spconv.SparseInverseConv3d(c_in, c_out, size, **options)
        elif size == 2:
            layer = spconv.SparseConv3d(c_in, c_out, size, size, **options)
        else:
            layer = spconv.SubMConv3d(c_in, c_out, size, **options)
        kernel = torch.from_numpy(weight)
        kernel = kernel if size == 1 else kernel.permute(2, 0, 1)  # one cell: a matrix (C_in, C_out), despite its shape
        with torch.no_grad():
            layer.weight.copy_(kernel.reshape(layer.weight.shape))
            if bias is not None:
                layer.bias.copy_(torch.from_numpy(bias))
        return layer


def _spconv():  # noqa: ANN202
    import spconv.pytorch as spconv
    from spconv.pytorch import ops

    if DEVICE == "cpu":  # its backward asks for a CUDA stream, which it does not use on a CPU
        ops.get_current_stream = lambda: 0
    return spconv


KINDS = {("torch", "convolution"): TorchConvolution, ("spconv", "convolution"): SpconvConvolution,
         ("torch", "network"): TorchNetwork, ("spconv", "network"): SpconvNetwork, ("spconv", "large"): SpconvLarge,
         ("spconv", "unet"): SpconvUnet,
         ("triton", "large"): TritonLarge}

if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
