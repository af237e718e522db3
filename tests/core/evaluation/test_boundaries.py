"""The boundary scorer on answers known beforehand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastsam_core.errors import InvalidParameterError
from fastsam_core.evaluation._matching import maximum_matching
from fastsam_core.evaluation.boundaries import (
    BoundaryCounts,
    boundaries_of_labels,
    count_boundaries,
    match_boundaries,
    summarise_boundaries,
    thin,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


@given(hnp.arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=st.integers(-1, 7)))
def test_matching_is_as_large_as_scipys(neighbours: NDArray[np.int32]) -> None:
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    columns = maximum_matching(neighbours, 8)
    rows = np.flatnonzero(columns >= 0)
    assert len(set(columns[rows].tolist())) == len(rows)
    assert all(columns[row] in neighbours[row] for row in rows)
    row, k = np.nonzero(neighbours >= 0)
    graph = csr_matrix((np.ones(len(row)), (row, neighbours[row, k])), shape=(len(neighbours), 8))
    assert len(rows) == np.count_nonzero(maximum_bipartite_matching(graph) >= 0)


def test_matching_undoes_a_greedy_choice() -> None:
    assert maximum_matching(np.array([[0, 1], [0, -1]], np.int32), 2).tolist() == [1, 0]


def square(shift: int = 0, size: int = 60) -> NDArray[np.bool_]:
    labels = np.zeros((100, 100), int)
    labels[20 + shift : 20 + shift + size, 20 : 20 + size] = 1
    return boundaries_of_labels(labels)


def test_the_truth_itself_is_perfect() -> None:
    scores = summarise_boundaries([count_boundaries(square().astype(float), [square()])])
    assert (scores.ods, scores.ois, scores.r50) == (1.0, 1.0, 1.0)


def test_lines_within_the_tolerance_match_and_others_do_not() -> None:
    line, near, far = (np.zeros((100, 100), bool) for _ in range(3))
    line[50], near[51], far[52] = True, True, True  # 0.0075 of the diagonal is 1.06 px
    assert match_boundaries(near, line)[0].sum() == 100
    assert match_boundaries(far, line)[0].sum() == 0
    assert match_boundaries(far, line, max_distance=0.02)[1].sum() == 100


def test_each_pixel_is_matched_once() -> None:
    one, three = np.zeros((200, 200), bool), np.zeros((200, 200), bool)
    one[100, 100] = True
    three[100, 99:102] = True
    predicted, truth = match_boundaries(three, one)
    assert (int(predicted.sum()), int(truth.sum())) == (1, 1)


def test_precision_needs_one_annotator_and_recall_counts_all() -> None:
    first, second = np.zeros((50, 50), bool), np.zeros((50, 50), bool)
    first[10], second[40] = True, True
    counts = count_boundaries(first.astype(float), [first, second], thresholds=[0.5])
    scores = summarise_boundaries([counts])
    assert counts.predicted_matched == counts.predicted_total == 50
    assert (counts.truth_matched[0], counts.truth_total[0]) == (50, 100)
    assert scores.ods == pytest.approx(2 * 0.5 / 1.5)


def test_ods_and_ois_by_hand() -> None:
    def image(matched: list[int], predicted: list[int]) -> BoundaryCounts:
        return BoundaryCounts(
            np.array([0.3, 0.6]), np.array(matched), np.array([10, 10]), np.array(matched), np.array(predicted)
        )

    one, two = image([10, 5], [20, 5]), image([10, 0], [10, 0])  # best at 0.3 or 0.6: F = 2/3 each; and at 0.3: F = 1
    scores = summarise_boundaries([one, two])
    assert scores.recall.tolist() == [1.0, 0.25]
    assert scores.precision.tolist() == [20 / 30, 1.0]
    assert scores.ods == pytest.approx(0.8)
    assert scores.best_threshold == pytest.approx(0.3)
    assert scores.ois == pytest.approx(0.8)
    assert scores.r50 == 1.0


def test_nothing_predicted_scores_zero() -> None:
    scores = summarise_boundaries([count_boundaries(np.zeros((100, 100)), [square()])])
    assert (scores.ods, scores.ois, scores.ap, scores.r50) == (0, 0, 0, 0)
    with pytest.raises(InvalidParameterError, match="No image"):
        summarise_boundaries([])
    with pytest.raises(InvalidParameterError, match="size"):
        match_boundaries(np.zeros((2, 3), bool), np.zeros((3, 2), bool))


def test_boundaries_of_labels_are_one_pixel_wide() -> None:
    edges = square()
    assert np.array_equal(edges, thin(edges))
    assert 200 <= edges.sum() <= 240


@pytest.mark.data
def test_people_agree_with_each_other_as_published() -> None:
    """Leaving one annotator out gives the human F-measure that the benchmark reports: 0.79 to 0.80."""
    root = Path(os.environ.get("FASTSAM_DATA", "../shared/data")) / "bsds500" / "gt" / "test"
    files = sorted(root.glob("*.npz"))[::20]
    if not files:
        pytest.skip(f"no BSDS500 annotations under {root}")
    counts: list[BoundaryCounts] = []
    for file in files:
        with np.load(file) as segmentations:
            truths = [boundaries_of_labels(segmentations[key]) for key in segmentations.files]
        for i, truth in enumerate(truths):
            counts.append(count_boundaries(truth.astype(float), truths[:i] + truths[i + 1 :], thresholds=[0.5]))
    assert 0.76 <= summarise_boundaries(counts).ods <= 0.83
