"""SparseTensor: features on active sites, and the background in all other cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.autograd import Tensor
from sparsenet.backend import adopted, array_module, check_float_dtype, to_device
from sparsenet.destination import device_and_dtype
from sparsenet.sparse.display import sparse_tensor_html
from sparsenet.sparse.row_functions import MoveRows, Shifted
from sparsenet.sparse.sites import ActiveSites
from sparsenet.wording import counted


class SparseTensor:
    """A batch of grids in which few cells differ from the background.

    Parameters
    ----------
    features : (N, C) float32 or float64 array or Tensor, on a GPU float16 too; row i belongs to coordinates[i]
    coordinates : (N, 1+D) integer, rows [batch, x, y, ...] in any order; duplicates raise
    spatial_size : (D,) int, D from 1 to 4
    batch_size : int; samples without a site are allowed
    background : "zeros", a (C,) array or Tensor that every inactive cell holds, or None: inactive
        cells are skipped, as in MinkowskiEngine and spconv

    Attributes
    ----------
    features : Tensor (N, C), in the order of the sites (sorted by key);  relative : the same less the background
    sites : ActiveSites; coordinates : its (N, 1+D) int32
    background : Tensor (C,), or (B, C) after a dropout whose masks differ by sample, or None
    permutation : (N,) int64; row i of `features` was given as row permutation[i]
    dropped : number of points outside the grid that `from_points` left out; None if x was made otherwise

    Raises
    ------
    TypeError, ValueError, OverflowError : see `ActiveSites`; features that do not fit them.

    Example
    -------
    >>> x = SparseTensor(np.array([[2.0], [1.0]]), np.array([[0, 3, 3], [0, 0, 1]]), (4, 4), batch_size=1)
    >>> x.coordinates.tolist(), x.features.array.ravel().tolist(), x.permutation.tolist()
    ([[0, 0, 1], [0, 3, 3]], [1.0, 2.0], [1, 0])
    >>> x
    SparseTensor(2 sites of (4, 4) (12.50%), 1 channel, batch of 1, float64, cpu)
    """

    __array_ufunc__ = None  # number * x is SparseTensor.__rmul__, for NumPy's numbers too
    sites: ActiveSites
    dropped: int | None = None
    _background: Tensor | None
    _zeros: Tensor | None = None  # the background, if it was created as zeros
    _features: Tensor | None = None  # at least one of these two is set; the other is made at first use
    _relative: Tensor | None = None

    def __init__(self, features: Any, coordinates: Any, spatial_size: Sequence[int], batch_size: int,
                 background: Any = "zeros"):
        features = features if isinstance(features, Tensor) else Tensor(np.asarray(features)
                                                                        if isinstance(features, list) else features)
        coordinates = coordinates.array if isinstance(coordinates, Tensor) else adopted(coordinates)
        sites = ActiveSites(coordinates, spatial_size, batch_size)
        self._set(features, sites, background)
        order = sites.permutation
        if not bool((order[1:] > order[:-1]).all()):
            self._features = MoveRows(order).apply(features)

    @classmethod
    def from_sites(cls, features: Any, sites: ActiveSites, background: Any = "zeros") -> SparseTensor:
        """A SparseTensor of features (N, C) that are already in the order of `sites`.

        Raises TypeError or ValueError if features or background do not fit the sites.
        """
        tensor = cls.__new__(cls)
        tensor._set(features if isinstance(features, Tensor) else Tensor(features), sites, background)
        return tensor

    @classmethod
    def from_relative(cls, relative: Tensor, sites: ActiveSites, background: Tensor) -> SparseTensor:
        """A SparseTensor of `relative` (N, C), the features less the background (C,), in the order of `sites`."""
        tensor = cls.__new__(cls)
        tensor._relative, tensor.sites, tensor._background = relative, sites, background
        return tensor

    @property
    def features(self) -> Tensor:
        """Tensor (N, C), in the order of the sites."""
        if self._features is None:
            self._features = Shifted("add_sample_rows", self.sites).apply(self._relative, self.background)
        return self._features

    @features.setter
    def features(self, value: Tensor) -> None:
        self._features, self._relative = value, None

    @property
    def background(self) -> Tensor | None:
        """Tensor (C,), or (B, C) if it differs by sample, or None."""
        return self._background

    @background.setter
    def background(self, value: Tensor | None) -> None:
        self.features = self.features  # computed with the old background
        self._background = value

    @property
    def zero_background(self) -> bool:
        """Whether the background was created as zeros, is unchanged and needs no gradient; does not read its array."""
        zeros = self._zeros
        return zeros is not None and zeros is self._background and not (zeros.version or zeros.requires_grad)

    @property
    def relative(self) -> Tensor:
        """Tensor (N, C), the features less the background: the rows that a convolution multiplies."""
        if self._relative is None:
            if self.background is None or self.zero_background:
                return self.features
            self._relative = Shifted("subtract_sample_rows", self.sites).apply(self.features, self.background)
        return self._relative

    @property
    def _rows(self) -> Tensor:
        """The features or the relative ones, whichever exist: both have the same shape, dtype and device."""
        return self._relative if self._features is None else self._features  # type: ignore[return-value]

    def _set(self, features: Tensor, sites: ActiveSites, background: Any) -> None:
        if features.ndim != 2 or features.shape[0] != len(sites):
            raise ValueError(f"SparseTensor: features have shape {features.shape}, expected ({len(sites)}, C): "
                             "one row for each of the coordinates")
        if not features.shape[1]:
            raise ValueError(f"SparseTensor: features have shape {features.shape}, expected at least one channel: give "
                             "cells without features a channel of ones")
        check_float_dtype("SparseTensor: features are", features.dtype, features.device)
        if features.device != sites.device:
            raise TypeError(f"SparseTensor: features are on {features.device}, coordinates on {sites.device}: "
                            "move one of them")
        self._features = features
        self.sites = sites
        self._background = self._checked_background(background)

    def _checked_background(self, background: Any) -> Tensor | None:
        if background is None:
            return None
        if isinstance(background, str):
            if background != "zeros":
                raise ValueError(f"SparseTensor: background is {background!r}, expected 'zeros', an array of "
                                 f"shape ({self.channels},), or None")
            background = array_module(self.features.array).zeros(self.channels, self.dtype)
            background = self._zeros = Tensor(background)
        if not isinstance(background, Tensor):
            background = Tensor(array_module(self.features.array).asarray(background, dtype=self.dtype))
        if background.shape not in ((self.channels,), (self.batch_size, self.channels)):
            raise ValueError(f"SparseTensor: background has shape {background.shape}, expected "
                             f"({self.channels},), as the features have {self.channels} channels")
        if background.dtype != self.dtype:
            raise TypeError(f"SparseTensor: background is {background.dtype}, the features are {self.dtype}: "
                            "convert one of them")
        return background

    @property
    def coordinates(self) -> Any:
        """(N, 1+D) int32, sorted by key."""
        return self.sites.coordinates

    @property
    def permutation(self) -> Any:
        """(N,) int64, see the class."""
        return self.sites.permutation

    @property
    def spatial_size(self) -> tuple[int, ...]:
        """(D,)"""
        return self.sites.spatial_size

    @property
    def batch_size(self) -> int:
        return self.sites.batch_size

    @property
    def dimension(self) -> int:
        """D"""
        return self.sites.dimension

    @property
    def channels(self) -> int:
        """C"""
        return self._rows.shape[1]

    @property
    def dtype(self) -> np.dtype:
        return self._rows.dtype

    @property
    def device(self) -> str:
        """"cpu" or "cuda"."""
        return self._rows.device

    if TYPE_CHECKING:  # defined in ops/: add.py, sparse_arithmetic.py, cast.py, dense.py and points.py
        def __add__(self, other: SparseTensor) -> SparseTensor: ...
        def __sub__(self, other: SparseTensor) -> SparseTensor: ...
        def __mul__(self, other: SparseTensor | float | Tensor) -> SparseTensor: ...
        def __rmul__(self, other: float | Tensor) -> SparseTensor: ...
        def __truediv__(self, other: float | Tensor) -> SparseTensor: ...
        def __neg__(self) -> SparseTensor: ...

        def astype(self, dtype: Any) -> SparseTensor:
            """Features and background in another dtype; differentiable; see `ops.cast`."""

        @staticmethod
        def from_dense(array: Any) -> SparseTensor:
            """A SparseTensor of an array or Tensor (B, C, *spatial); differentiable; see `ops.dense`."""

        def to_dense(self) -> Tensor:
            """The whole grid, a Tensor (B, C, *spatial); differentiable; see `ops.to_dense`."""

        @staticmethod
        def from_points(points: Any, features: Any, voxel_size: Any, origin: Any = None, spatial_size: Any = None,
                        batch: Any = None, reduce: str = "mean", return_index: bool = False, *,
                        batch_size: int | None = None) -> Any:
            """A SparseTensor of points (P, D) and their features; see `ops.from_points`."""

        def at_points(self, points: Any, voxel_size: Any, origin: Any, batch: Any = None,
                      mode: str = "nearest") -> Tensor:
            """The features at points (P, D), a Tensor (P, C); see `ops.at_points`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(B, C, *spatial), the shape of the whole grid, as of `to_dense()`."""
        return (self.batch_size, self.channels, *self.spatial_size)

    def __len__(self) -> int:
        """N, the number of sites."""
        return len(self.sites)

    @property
    def active_fraction(self) -> float:
        """The share of the batch's cells that are active, 0 to 1."""
        cells = self.batch_size * self.sites.cells
        return len(self) / cells if cells else 0.0

    def with_features(self, features: Tensor, background: Tensor | None) -> SparseTensor:
        """Other features (N, C) and background on the same sites, whose rulebooks are shared."""
        return SparseTensor.from_sites(features, self.sites, background)

    def tensors(self) -> dict[str, Tensor]:
        """The Tensors that it holds: "features", or "relative" if these are computed from it, and "background"."""
        held = {"relative": self._relative} if self._features is None else {"features": self._features}
        held["background"] = self._background
        return {name: tensor for name, tensor in held.items() if tensor is not None}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> SparseTensor:
        """Others in the place of `tensors()`, of the same shapes and dtypes, on the same sites."""
        other = SparseTensor.__new__(SparseTensor)
        other.sites, other._background, other._zeros = self.sites, tensors.get("background"), self._zeros
        other._features, other._relative = tensors.get("features"), tensors.get("relative")
        return other

    def in_given_order(self, rows: Any) -> Any:
        """Rows (N, ...), such as `features` or predicted labels, in the order in which the coordinates were given: row
        permutation[i] of the result is row i.  Layers and networks that keep the sites, such as `unet`, keep their
        order.

        rows : array, or a Tensor, whose gradient is moved back

        Raises ValueError if there is not one row for each site.
        """
        if rows.shape[:1] != (len(self),):
            raise ValueError(f"SparseTensor.in_given_order: rows have shape {rows.shape}, expected ({len(self)}, ...): "
                             "one for each site")
        place = array_module(self.permutation).argsort(self.permutation)
        return MoveRows(place).apply(rows) if isinstance(rows, Tensor) else rows[place]

    def detach(self) -> SparseTensor:
        """The same values, cut from the graph."""
        background = None if self.background is None else self.background.detach()
        return self.with_features(self.features.detach(), background)

    def to(self, device: Any = None, dtype: Any = None) -> SparseTensor:
        """A copy on `device` ("cpu", "cuda" or "cuda:0") in `dtype`, cut from the graph; None leaves either as it is.
        Returns itself if neither changes.  A dtype may stand alone: x.to(numpy.float64).

        float16 is for the GPU: x.to("cuda", "float16") there, x.to("cpu", "float32") back.
        """
        device, dtype = device_and_dtype("SparseTensor.to", device, dtype)
        device = self.device if device is None else device
        dtype = self.dtype if dtype is None else dtype
        if device == self.device and dtype == self.dtype:
            return self
        features, background = (None if tensor is None else Tensor(
            to_device(tensor.array, device).astype(dtype, copy=False)) for tensor in (self.features, self.background))
        moved = SparseTensor.from_sites(features, self.sites.to(device), background)
        moved._zeros = moved.background if self.zero_background else None
        moved.dropped = self.dropped
        return moved

    def _repr_html_(self) -> str:
        """The HTML that notebooks show."""
        return sparse_tensor_html(self)

    def __repr__(self) -> str:
        filled = f"{100 * self.active_fraction:.2f}%"
        return (f"SparseTensor({counted(len(self), 'site')} of {self.spatial_size} ({filled}), "
                f"{counted(self.channels, 'channel')}, batch of {self.batch_size}, {self.dtype}, {self.device})")
