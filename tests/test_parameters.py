"""One flat vector, named views of it: whatever happens to it, both stay the same memory."""

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest

import throughtime as tt
from helpers import cases, network

CASES = cases()
SHAPES = {"0.W": (2, 3), "0.b": (2,), "1.W": (1, 2), "empty": (0, 4)}


def filled(dtype="float64"):
    p = tt.Parameters(SHAPES, dtype)
    p.flat[...] = np.arange(1, 11)
    return p


def share(p):
    """Whether the views lie in the vector, one after the other, without a gap."""
    end = 0
    for name, shape in p.shapes.items():
        view = p[name]
        assert view.shape == shape
        assert view.flags.writeable
        if view.size:
            assert np.shares_memory(view, p.flat)
            assert (
                view.__array_interface__["data"][0] == p.flat[end:].__array_interface__["data"][0]
            )
        end += view.size
    return end == p.flat.size


WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "own copy": lambda thing: thing.copy(),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_keeps_views_over_its_vector(way):
    p = filled()
    twin = WAYS[way](p)
    assert twin == p
    assert share(twin)
    twin["0.b"][0] = 99
    assert 99 in twin.flat
    twin.flat[0] = -1
    assert twin["0.W"][0, 0] == -1


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "own copy"])
@pytest.mark.parametrize("name", CASES)
def test_a_copied_network_keeps_views_over_its_own_vector(name, way):
    net = network(CASES[name])
    before = net.parameters.copy()
    twin = WAYS[way](net)
    assert twin.parameters == before
    assert share(twin.parameters)
    assert twin.describe() == net.describe()
    twin.parameters.flat[...] = 0
    assert net.parameters == before
    assert not any(array.any() for array in twin.parameters.values())


def test_views_and_vector():
    p = filled()
    assert share(p)
    assert list(p) == list(SHAPES)
    assert len(p) == 4
    assert p["1.W"].tolist() == [[9, 10]]
    p["1.W"] = [[0, 0]]
    assert p.flat[-2:].tolist() == [0, 0]
    vector = np.zeros(10)
    q = p.like(vector)
    q["0.b"] = [1, 2]
    assert vector[6:8].tolist() == [1, 2]
    assert repr(p).startswith("Parameters(10 × float64: 0.W (2, 3), 0.b (2,)")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arithmetic(dtype):
    p, q = filled(dtype), filled(dtype) * 3
    x = np.arange(1, 11).astype(dtype)
    results = {
        "+": (p + q, x + 3 * x),
        "-": (p - q, x - 3 * x),
        "*": (p * q, x * 3 * x),
        "/": (p / q, x / (3 * x)),
        "neg": (-p, -x),
        "number": (p * 2 + 1, x * 2 + 1),
        "number first": (1 + 2 * p, x * 2 + 1),
        "NumPy number first": (np.float64(2) * p, x * 2),
        "NumPy number": (p / np.float64(2), x / 2),
    }
    for what, (ours, truth) in results.items():
        assert ours.dtype == dtype, what
        assert np.array_equal(ours.flat, truth), what
        assert share(ours)
    assert p.flat.tolist() == list(range(1, 11))


def test_arithmetic_in_place_keeps_the_vector():
    p = filled("float32")
    vector, twin = p.flat, p
    p += filled("float32")
    p *= np.float64(3)
    p -= 1
    p /= 2
    assert p is twin
    assert p.flat is vector
    assert vector.dtype == np.float32
    assert vector.tolist() == [(6 * n - 1) / 2 for n in range(1, 11)]
    assert share(p)


def test_dot_and_norm_are_summed_in_float64():
    p = tt.Parameters({"w": (100_001,)}, "float32")
    p.flat[...] = 1
    p.flat[0] = 2**12
    assert p.dot(p) == 2**24 + 100_000
    assert p.norm() == np.sqrt(2**24 + 100_000)


def test_equality_means_names_shapes_dtype_and_bits():
    p = filled()
    assert p == filled()
    assert p != filled("float32")
    assert p != p * 1.0000001
    assert p != tt.Parameters(
        {"0.W": (3, 2), **{k: SHAPES[k] for k in list(SHAPES)[1:]}}, "float64"
    )
    assert p != 3
    backwards = dict(reversed(SHAPES.items()))
    assert tt.Parameters(SHAPES) != tt.Parameters(backwards)


def test_conversions():
    p = filled()
    single = p.astype("float32")
    assert single.dtype == np.float32
    assert single.astype("float64") == p
    assert not p.zeros_like().flat.any()
    assert p.zeros_like().shapes == p.shapes
    arrays = {name: array.copy() for name, array in p.items()}
    assert tt.Parameters.of(arrays) == p
    mixed = tt.Parameters.of({"a": np.ones(1), "b": np.ones(1, np.float32)}, "float64")
    assert mixed.dtype == np.float64
    q = p.zeros_like()
    q.update(dict(reversed(arrays.items())))
    assert q == p


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_file_keeps_every_bit(tmp_path, dtype):
    p = filled(dtype)
    tiny, huge = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    p["0.b"] = [tiny, -huge]
    p["1.W"] = [[-0.0, 1 / 3]]
    p.save(tmp_path / "p", {"step": "7"})
    loaded = tt.Parameters.load(tmp_path / "p")
    assert set(loaded) == set(p)
    for name in p:
        assert loaded[name].tobytes() == p[name].tobytes()
    assert tt.storage.read(tmp_path / "p")[1] == {"step": "7"}
    p.save(tmp_path / "p")
    assert tt.storage.read(tmp_path / "p")[1] == {}


def test_saving_twice_gives_the_same_bytes_and_the_usual_mode(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        filled().save(path)
    (tmp_path / "plain").write_bytes(b"")
    contents = [path.read_bytes() for path in paths]
    assert all(one == other for one, other in pairwise(contents))
    assert paths[0].stat().st_mode == (tmp_path / "plain").stat().st_mode
