"""Descriptors of a defect mask, and the energy distance between two sets of them.

Eleven numbers say what a mask looks like, whatever the size of its picture: how much of it there is (area, skeleton
length, pieces), how wide it is and how that varies, how it runs (branch points, tortuosity, box-counting dimension)
and what outline it has (eccentricity, solidity, roughness). Lengths are in sides of the picture, where the side of a
picture of h x w pixels is sqrt(h w), so that a share of the area is the square of a length.

Every mask is brought to a working resolution of at least 512 pixels a side (linear interpolation, cut at one half;
never made smaller), because a skeleton and an outline feel the pixels. It is first turned into a canonical one of its
eight dihedral poses, so that descriptors do not change *at all* when it is turned by a quarter or mirrored.

References
----------
Zhang & Suen, "A fast parallel algorithm for thinning digital patterns", Commun. ACM 27 (1984): the skeleton.
Szekely & Rizzo, "Energy statistics: a class of statistics based on distances", J. Stat. Plan. Inference 143 (2013).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist
from skimage.measure import find_contours
from skimage.morphology import skeletonize

__all__ = ["NAMES", "Descriptors", "Scaling", "describe", "energy_distance", "feature_matrix", "robust_scaling"]

_WORKING_SIDE = 512
_CRUMB_SHARE = 0.02  # pieces smaller than this share of the largest are not counted
_SPUR = 1.5  # side branches shorter than this many half widths at their root come from the outline
_BOXES = (2, 4, 8, 16)  # boxes along the side of the smallest square around the mask
_OUTLINE_SMOOTHING = 0.25  # width of the Gaussian that a lip is compared with / mean width
_MOST_TORTUOUS = 10.0
_EIGHT = np.ones((3, 3), dtype=bool)

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Descriptors:
    """What a mask looks like.

    Attributes
    ----------
    area : float
        Share of the picture.
    length : float
        Of the skeleton of all pieces, side branches included, in sides of the picture.
    width : float
        Area / length, in sides of the picture.
    width_variation : float
        Standard deviation of the local width along the skeleton / its mean.
    branches : float
        Branch points of the skeleton / its length, per side of the picture.
    tortuosity : float
        Length of the longest way through the skeleton of the longest piece / distance of its ends; 1 is straight.
    dimension : float
        Box-counting dimension of the mask between 1/2 and 1/16 of the smallest square around it.
    eccentricity : float
        Of the ellipse with the same second moments; 0 is round. Mean over pieces, weighted by their area.
    solidity : float
        Area / area of the convex hull; mean over pieces, weighted by their area.
    roughness : float
        Root mean square distance of the outline from its own smoothed course / mean width, of the largest piece.
    pieces : float
        Number of connected pieces.
    """

    area: float
    length: float
    width: float
    width_variation: float
    branches: float
    tortuosity: float
    dimension: float
    eccentricity: float
    solidity: float
    roughness: float
    pieces: float


NAMES: tuple[str, ...] = tuple(f.name for f in fields(Descriptors))

# Least scale in feature units: differences below it are the drawing of a label, not its shape.
_LEAST_SCALE = {
    "area": 0.15,
    "length": 0.15,
    "width": 0.15,
    "width_variation": 0.05,
    "branches": 0.5,
    "tortuosity": 0.3,
    "dimension": 0.05,
    "eccentricity": 0.03,
    "solidity": 0.05,
    "roughness": 0.01,
    "pieces": 0.35,
}


def describe(mask: ArrayLike) -> Descriptors:
    """Descriptors of a mask.

    Parameters
    ----------
    mask : (h, w) array
        What is not 0 is the defect.

    Raises
    ------
    ValueError
        Not two-dimensional, or nothing in it.
    """
    given = np.asarray(mask) != 0
    if given.ndim != 2:
        raise ValueError(f"expected a mask of two dimensions, got shape {given.shape}; give one mask at a time")
    if not given.any():
        raise ValueError("the mask is empty: there is nothing to describe")
    side = float(np.sqrt(given.size))
    zoom = max(1.0, _WORKING_SIDE / side)
    fine = _enlarge(_canonical(_crop(given)), zoom)
    side *= zoom
    labels, _ = ndimage.label(fine, structure=_EIGHT)
    sizes = np.bincount(labels.ravel())[1:]
    kept = [k + 1 for k in np.flatnonzero(sizes >= _CRUMB_SHARE * sizes.max())]
    pieces = [_without_pinholes(_crop(labels == k)) for k in kept]
    threads = [_Thread.of(piece) for piece in pieces]
    areas = np.array([float(piece.sum()) for piece in pieces])
    length = sum(thread.length for thread in threads)
    width = float(areas.sum()) / length
    return Descriptors(
        area=float(given.sum()) / given.size,
        length=length / side,
        width=width / side,
        width_variation=_variation(np.concatenate([thread.widths for thread in threads])),
        branches=sum(thread.branch_points for thread in threads) * side / length,
        tortuosity=max(threads, key=lambda thread: thread.length).tortuosity,
        dimension=_box_dimension(fine),
        eccentricity=float(np.average([_eccentricity(piece) for piece in pieces], weights=areas)),
        solidity=float(np.average([_solidity(piece) for piece in pieces], weights=areas)),
        roughness=_roughness(pieces[int(np.argmax(areas))], width),
        pieces=float(len(pieces)),
    )


def feature_matrix(described: Iterable[Descriptors]) -> Floats:
    """Descriptors (N, 11) in the order of `NAMES`, heavy-tailed ones as logarithms.

    Area, length, width and pieces: ln x; branches: ln(1 + x); tortuosity: ln(x - 0.99).
    """
    values = np.array([astuple(d) for d in described], dtype=np.float64).reshape(-1, len(NAMES))
    out = values.copy()
    for name in ("area", "length", "width", "pieces"):
        out[:, NAMES.index(name)] = np.log(values[:, NAMES.index(name)])
    out[:, NAMES.index("branches")] = np.log1p(values[:, NAMES.index("branches")])
    out[:, NAMES.index("tortuosity")] = np.log(np.maximum(values[:, NAMES.index("tortuosity")], 1.0) - 0.99)
    return out


@dataclass(frozen=True)
class Scaling:
    """Middle and spread (D,) by which features are standardised."""

    middle: Floats
    spread: Floats

    def __call__(self, features: Floats) -> Floats:
        """Standardised features, same shape."""
        return np.asarray((features - self.middle) / self.spread)


def robust_scaling(features: Floats) -> Scaling:
    """Median and interquartile range / 1.349 of features (N, 11); no spread is below the accuracy of a label."""
    quarter, middle, three = np.quantile(features, [0.25, 0.5, 0.75], axis=0)
    least = np.array([_LEAST_SCALE[name] for name in NAMES])
    return Scaling(middle=middle, spread=np.maximum((three - quarter) / 1.349, least))


def energy_distance(x: Floats, y: Floats, *, unbiased: bool = False) -> float:
    """Energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| of two samples.

    Parameters
    ----------
    x, y : (N, D), (M, D) array
        Standardised features.
    unbiased : bool
        Leave out the pairs of a mask with itself (U-statistic): 0 on average for samples of one distribution, and
        sometimes negative. By default (V-statistic) it is never negative, and larger for smaller samples.

    Raises
    ------
    ValueError
        Shapes that do not fit, or too few masks.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    least = 2 if unbiased else 1
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < least:
        raise ValueError(f"expected (N, D) and (M, D) with N, M >= {least}, got {x.shape} and {y.shape}")
    n, m = len(x) - unbiased, len(y) - unbiased
    within_x = cdist(x, x).sum() / (len(x) * n)
    within_y = cdist(y, y).sum() / (len(y) * m)
    return float(2 * cdist(x, y).mean() - within_x - within_y)


def _crop(mask: Mask) -> Mask:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _canonical(mask: Mask) -> Mask:
    """The first of the eight dihedral poses, by shape and then by bytes."""
    poses = [np.rot90(m, k) for m in (mask, mask[:, ::-1]) for k in range(4)]
    return np.ascontiguousarray(min(poses, key=lambda pose: (pose.shape, np.ascontiguousarray(pose).tobytes())))


def _enlarge(mask: Mask, zoom: float) -> Mask:
    """The mask ``zoom`` times as large, with an empty border of a pixel or more."""
    padded = np.pad(mask, 2).astype(np.float32)
    if zoom == 1.0:
        return padded > 0.5
    shape = [round(n * zoom) for n in padded.shape]
    exact = np.array(shape) / np.array(padded.shape)
    return np.asarray(ndimage.zoom(padded, exact, order=1, grid_mode=True, mode="grid-constant") > 0.5)


def _without_pinholes(piece: Mask) -> Mask:
    """The piece with its small holes filled, each of which would be a ring of the skeleton."""
    holes, number = ndimage.label(np.pad(~piece, 1, constant_values=True))
    sizes = np.bincount(holes.ravel(), minlength=number + 1)
    small = sizes < _CRUMB_SHARE * piece.sum()
    small[[0, holes[0, 0]]] = False  # the piece itself, and what surrounds it
    return np.asarray(piece | small[holes][1:-1, 1:-1])


def _variation(widths: Floats) -> float:
    return float(widths.std() / widths.mean())


def _box_dimension(mask: Mask) -> float:
    """Slope of ln(boxes hit) over ln(boxes a side), least squares."""
    points = np.argwhere(mask).astype(np.float64)
    points -= points.min(axis=0)
    extent = points.max() + 1.0
    hit = [len(np.unique((points * n / extent).astype(np.int64) @ np.array([n + 1, 1]))) for n in _BOXES]
    return float(np.polyfit(np.log(_BOXES), np.log(hit), 1)[0])


def _eccentricity(piece: Mask) -> float:
    points = np.argwhere(piece).astype(np.float64)
    if len(points) == 1:
        return 0.0
    covariance = np.cov(points.T, bias=True) + np.eye(2) / 12  # a pixel is a square, not a point
    small, large = np.linalg.eigvalsh(covariance)
    return float(np.sqrt(max(0.0, 1.0 - small / large)))


def _solidity(piece: Mask) -> float:
    points = np.argwhere(piece)
    corners = np.unique(np.concatenate([points + np.array([y, x]) for y in (0, 1) for x in (0, 1)]), axis=0)
    return float(piece.sum() / ConvexHull(corners).volume)


def _roughness(piece: Mask, width: float) -> float:
    """Distance of the outline from its smoothed course; holes are not looked at."""
    contours = find_contours(np.pad(piece, 1).astype(np.float64), 0.5)
    outline = max(contours, key=len)[:-1]
    steps = np.linalg.norm(np.diff(outline, axis=0, append=outline[:1]), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    count = max(8, int(along[-1]))
    closed = np.vstack([outline, outline[:1]])
    at = np.linspace(0.0, along[-1], count, endpoint=False)
    even = np.column_stack([np.interp(at, along, closed[:, axis]) for axis in (0, 1)])
    even = ndimage.gaussian_filter1d(even, 1.0, axis=0, mode="wrap")  # the stairs of the pixels
    smooth = ndimage.gaussian_filter1d(even, _OUTLINE_SMOOTHING * width, axis=0, mode="wrap")
    return float(np.sqrt(np.mean(np.sum((even - smooth) ** 2, axis=1))) / width)


@dataclass(frozen=True)
class _Thread:
    """Skeleton of one piece: length in pixels, local widths along it, branch points, tortuosity."""

    length: float
    widths: Floats
    branch_points: int
    tortuosity: float

    @classmethod
    def of(cls, piece: Mask) -> _Thread:
        padded = np.pad(piece, 1)
        depth = np.asarray(ndimage.distance_transform_edt(padded))
        graph = _pruned(_Graph.of(np.asarray(skeletonize(padded))), depth)
        if len(graph.points) < 2:
            width = max(2 * float(depth.max()) - 1, 1.0)
            return cls(length=width, widths=np.array([width]), branch_points=0, tortuosity=1.0)
        at_point = depth[tuple(graph.points.T)]
        widths = _local_widths(padded, depth, graph.points)
        grain = max(2.0, 0.5 * float(at_point.mean()))
        ends = np.flatnonzero(graph.degree() == 1)
        beyond = float((at_point[ends] - 0.5).sum())
        course = sum(_course(graph.points[list(way)], grain) for way in graph.branches()) + beyond
        length = max(course, 2 * float(depth.max()) - 1)  # a piece is not shorter than the largest disc in it
        far = _away_from_ends(graph.points, ends, at_point)
        return cls(
            length=length,
            widths=widths[far] if far.any() else widths,
            branch_points=graph.branch_points(depth),
            tortuosity=_tortuosity(graph, grain),
        )


def _local_widths(mask: Mask, depth: Floats, points: NDArray[np.int64]) -> Floats:
    """Width at points of the ridge of the distance map: odd where the ridge is one pixel wide, even where it is two."""
    own = depth[tuple(points.T)]
    off_ridge = depth.copy()
    off_ridge[tuple(points.T)] = 0.0
    beside = ndimage.maximum_filter(off_ridge, footprint=ndimage.generate_binary_structure(2, 1))[tuple(points.T)]
    return np.asarray(np.maximum(2 * own - 1 + (beside >= own - 1e-9), 1.0))


def _away_from_ends(points: NDArray[np.int64], ends: NDArray[np.int64], depth: Floats) -> Mask:
    """Points farther from every end of the skeleton than half the width."""
    if not len(ends):
        return np.ones(len(points), dtype=bool)
    reach = float(np.median(depth))
    return np.asarray(cdist(points, points[ends]).min(axis=1) > reach)


def _course(path: NDArray[np.int64], grain: float) -> float:
    """Length of a path of pixels, smoothed with its ends held: a slanting straight line gets its true length."""
    return float(np.linalg.norm(np.diff(_smooth(path, grain), axis=0), axis=1).sum())


def _smooth(path: NDArray[np.int64], grain: float) -> Floats:
    walk = path.astype(np.float64)
    if len(walk) < 3:
        return walk
    if (path[0] == path[-1]).all():
        return np.asarray(ndimage.gaussian_filter1d(walk, grain, axis=0, mode="wrap"))
    chord = np.linspace(walk[0], walk[-1], len(walk))
    bend = walk - chord
    odd = np.concatenate([-bend[:0:-1], bend, -bend[-2::-1]])
    smooth = ndimage.gaussian_filter1d(odd, grain, axis=0, mode="nearest")[len(walk) - 1 : 2 * len(walk) - 1]
    return np.asarray(chord + smooth)


@dataclass(frozen=True)
class _Graph:
    """Pixels of a skeleton (K, 2) and the neighbours of each; a diagonal step only where no straight way leads."""

    points: NDArray[np.int64]
    neighbours: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, skeleton: Mask) -> _Graph:
        points = np.argwhere(skeleton)
        number = {(int(y), int(x)): k for k, (y, x) in enumerate(points)}
        found = []
        for y, x in number:
            straight = [(y + dy, x + dx) for dy, dx in ((-1, 0), (0, -1), (0, 1), (1, 0))]
            near = [number[p] for p in straight if p in number]
            for dy, dx in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
                if (y + dy, x + dx) in number and (y + dy, x) not in number and (y, x + dx) not in number:
                    near.append(number[y + dy, x + dx])
            found.append(tuple(near))
        return cls(points=points, neighbours=tuple(found))

    def degree(self) -> NDArray[np.int64]:
        """Number of neighbours of each pixel."""
        return np.array([len(near) for near in self.neighbours], dtype=np.int64)

    def branches(self) -> list[tuple[int, ...]]:
        """Ways between pixels that do not have two neighbours, both ends included; closed rings once."""
        degree = self.degree()
        ways, seen = [], set()
        for start in np.flatnonzero(degree != 2):
            for step in self.neighbours[start]:
                if (int(start), step) in seen:
                    continue
                way = self._walk(int(start), step, degree)
                seen |= {(way[0], way[1]), (way[-1], way[-2])}
                ways.append(way)
        covered = {k for way in ways for k in way}
        for start in np.flatnonzero(degree == 2):
            if int(start) not in covered:
                way = self._walk(int(start), self.neighbours[start][0], degree)
                covered.update(way)
                ways.append(way)
        return ways

    def _walk(self, start: int, step: int, degree: NDArray[np.int64]) -> tuple[int, ...]:
        way = [start, step]
        while way[-1] != start and degree[way[-1]] == 2:
            ahead = [k for k in self.neighbours[way[-1]] if k != way[-2]]
            way.append(ahead[0])
        return tuple(way)

    def branch_points(self, depth: Floats) -> int:
        """Forks; those that lie within one half width of each other count once."""
        forks = self.points[self.degree() >= 3]
        if len(forks) < 2:
            return len(forks)
        near = cdist(forks, forks) <= np.maximum(depth[tuple(forks.T)], 1.5)[:, None]
        return int(connected_components(csr_array(near | near.T), directed=False)[0])

    def without(self, pixels: set[int]) -> _Graph:
        """The graph of the other pixels."""
        kept = np.delete(self.points, sorted(pixels), axis=0)
        skeleton = np.zeros(self.points.max(axis=0) + 1, dtype=bool)
        skeleton[tuple(kept.T)] = True
        return _Graph.of(skeleton)

    def steps(self) -> csr_array[np.float64]:
        """Lengths of the steps between neighbours, (K, K)."""
        rows = np.repeat(np.arange(len(self.points)), self.degree())
        columns = np.array([k for near in self.neighbours for k in near], dtype=np.int64)
        lengths = np.linalg.norm(self.points[rows] - self.points[columns], axis=1)
        count = len(self.points)
        return csr_array((lengths, (rows, columns)), shape=(count, count))


def _pruned(graph: _Graph, depth: Floats) -> _Graph:
    """The skeleton without side branches that come from the outline alone, the shortest at each fork first."""
    while True:
        degree = graph.degree()
        shortest: dict[int, tuple[int, ...]] = {}
        for way in graph.branches():
            tip, root = (way, way[-1]) if degree[way[0]] == 1 else (way[::-1], way[0])
            if degree[tip[0]] != 1 or degree[root] < 3:
                continue
            if len(way) - 1 <= _SPUR * depth[tuple(graph.points[root])] + 1:
                known = shortest.get(root)
                if known is None or len(tip) < len(known):
                    shortest[root] = tip
        if not shortest:
            return graph
        graph = graph.without({k for tip in shortest.values() for k in tip[:-1]})


def _tortuosity(graph: _Graph, grain: float) -> float:
    steps = graph.steps()
    first = int(np.argmax(_reached(dijkstra(steps, indices=np.array(0)))))
    lengths, before = dijkstra(steps, indices=np.array(first), return_predecessors=True)
    way = [int(np.argmax(_reached(lengths)))]
    while way[-1] != first:
        way.append(int(before[way[-1]]))
    path = graph.points[way]
    chord = float(np.linalg.norm(path[0] - path[-1]))
    return float(np.clip(_course(path, grain) / max(chord, 1e-9), 1.0, _MOST_TORTUOUS)) if len(way) > 2 else 1.0


def _reached(lengths: Floats) -> Floats:
    return np.where(np.isfinite(lengths), lengths, -1.0)
