"""The colouring of a pattern: columns of a colour share no row, and there are few colours."""

import numpy as np
import pytest
import scipy.sparse as sp

from implicitax._problem.pattern import Pattern, colour


def pattern_of(matrix):
    matrix = sp.csr_array(matrix)
    matrix.sum_duplicates()
    rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int32), np.diff(matrix.indptr))
    return Pattern(rows, matrix.indices.astype(np.int32), matrix.shape)


def recovered(matrix, found):
    """The matrix from one product a colour, and one of the transpose a row of the border."""
    matrix = sp.csr_array(matrix)
    pattern, n = pattern_of(matrix), matrix.shape[1]
    assert found.colours.dtype == np.int32
    assert (np.unique(found.colours) == np.arange(found.count)).all()
    alone = found.count - len(found.border_cols)
    assert (found.colours[found.border_cols] == np.arange(alone, found.count)).all()
    assert (np.sort(np.flatnonzero(found.colours >= alone)) == found.border_cols).all()
    seeds = np.zeros((n, found.count))
    seeds[np.arange(n), found.colours] = 1
    products = matrix @ seeds
    values = products[pattern.rows, found.colours[pattern.cols]]
    out = sp.lil_array(sp.csr_array((values, (pattern.rows, pattern.cols)), shape=matrix.shape))
    for i in found.border_rows:
        out[[i], :] = (matrix.T @ np.eye(matrix.shape[0])[:, i]).reshape(1, -1)
    return sp.csr_array(out)


def with_values(matrix, seed=0):
    matrix = sp.csr_array(matrix, dtype=float)
    matrix.sum_duplicates()
    matrix.data = np.random.default_rng(seed).uniform(1, 2, matrix.nnz)
    return matrix


def line(n, reach=1):
    return sp.diags_array([np.ones(n - abs(k)) for k in range(-reach, reach + 1)], offsets=range(-reach, reach + 1))


def grid(side):
    one = sp.eye_array(side)
    return sp.kron(line(side), one) + sp.kron(one, line(side))


def network(n, degree):
    to = np.random.default_rng(3).integers(0, n, n * degree)
    return sp.eye_array(n) + sp.coo_array((np.ones(n * degree), (np.repeat(np.arange(n), degree), to)), shape=(n, n))


def shuffled(matrix):
    order = np.random.default_rng(1).permutation(matrix.shape[0])
    return sp.csr_array(matrix)[order][:, order]


def bordered(matrix):
    """The last unknown is in all equations, the first equation has all unknowns."""
    out = sp.lil_array(matrix)
    out[0, :], out[:, -1] = 1, 1
    return out


# What is coloured, the most colours, and how many rows and columns are in the border.
CASES = {
    "diagonal": (sp.eye_array(200), 1, (0, 0)),
    "line": (line(300), 3, (0, 0)),
    "wide band": (line(600, 7), 15, (0, 0)),
    "not square": (sp.csr_array(line(300))[:40, :], 3, (0, 0)),
    "blocks": (sp.kron(sp.eye_array(50), np.ones((4, 4))), 4, (0, 0)),
    "shuffled blocks": (shuffled(sp.kron(sp.eye_array(50), np.ones((4, 4)))), 4, (0, 0)),
    "grid": (grid(25), 5, (0, 0)),
    "grid with diagonals": (sp.kron(line(30), line(30)), 9, (0, 0)),
    "two species on a grid": (sp.kron(np.ones((2, 2)), grid(25)), 10, (0, 0)),
    "shuffled grid": (shuffled(grid(25)), 9, (0, 0)),
    "network": (network(1000, 4), 14, (0, 0)),
    "bordered line": (bordered(line(300)), 3, (1, 1)),
    "bordered network": (bordered(network(1000, 3)), 14, (1, 1)),
    "few unknowns": (np.triu(np.ones((30, 30))), 30, (0, 0)),
    "nothing": (sp.csr_array((80, 80)), 1, (0, 0)),
    "no unknowns": (sp.csr_array((0, 0)), 0, (0, 0)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_matrix_from_few_products(name):
    matrix, most, border = CASES[name]
    matrix = with_values(matrix)
    found = colour(pattern_of(matrix))
    assert found.count - len(found.border_cols) <= most
    assert (len(found.border_rows), len(found.border_cols)) == border
    assert abs(recovered(matrix, found) - matrix).sum() == 0


@pytest.mark.parametrize("seed", range(20))
def test_patterns_drawn_at_random(seed):
    random = np.random.default_rng(seed)
    n, m = random.integers(1, 200, 2)
    matrix = with_values(sp.coo_array(random.random((m, n)) < 2 / n))
    found = colour(pattern_of(matrix))
    if found is None:
        assert np.bincount(pattern_of(matrix).rows).max() > n / 16
    else:
        assert abs(recovered(matrix, found) - matrix).sum() == 0


def test_where_it_does_not_pay():
    assert colour(pattern_of(np.ones((100, 100)))) is None
    assert colour(pattern_of(line(100, 7))) is None  # 15 colours for 100 unknowns
    assert colour(pattern_of(line(2000, 40))) is None
    assert colour(pattern_of(network(1000, 40))) is None  # each row short enough, but not all together
    assert colour(pattern_of(np.ones((40, 40)))).count == 40


def test_a_border_is_few_and_far_denser():
    matrix = sp.lil_array(line(400))
    matrix[:17, :] = 1
    assert colour(pattern_of(matrix)) is None
    matrix[:, :] = line(400).toarray()
    matrix[[3, 90, 7], :] = 1
    assert list(colour(pattern_of(matrix)).border_rows) == [3, 7, 90]
    matrix = sp.lil_array(line(400))
    matrix[5, :10] = 1
    assert len(colour(pattern_of(matrix)).border_rows) == 0
