"""Edits of label images, planned from masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fastsam_core import _label_kernels
from fastsam_core import label_edits as edits
from fastsam_core._generators import outcome
from fastsam_core.errors import InvalidParameterError
from fastsam_core.masks import Masks

if TYPE_CHECKING:
    from numpy.typing import NDArray


def disc(height: int, width: int, y: float, x: float, radius: float) -> NDArray[np.bool_]:
    yy, xx = np.ogrid[:height, :width]
    return (yy - y) ** 2 + (xx - x) ** 2 <= radius**2


def nested() -> Masks:
    """Return a part in an object in a group, and another object in the group."""
    return Masks.from_dense(
        [disc(60, 90, 30, 45, 28), disc(60, 90, 30, 32, 10), disc(60, 90, 30, 32, 4), disc(60, 90, 30, 58, 10)],
        [0.5, 0.9, 0.6, 0.8],
    )


def applied(plane: NDArray[np.int64], edit: edits.Edit) -> NDArray[np.int64]:
    out = plane.copy()
    out[edit.rows, edit.columns] = edit.values
    return out


@pytest.mark.parametrize(
    ("overlap", "left", "right", "labels"),
    [("keep", 9, 9, (0,)), ("fill", 9, 5, (5,)), ("steal", 5, 5, (5,))],
)
def test_what_happens_to_labels_that_are_there(
    overlap: edits.Overlap, left: int, right: int, labels: tuple[int, ...]
) -> None:
    """A candidate half of which is taken by label 9, beside the other label 9."""
    plane = np.zeros((60, 90), np.int64)
    plane[:, :32] = 9
    if overlap == "keep":
        plane[:, 32:] = 9
    edit = edits.plan_commit(plane, nested()[[1]], [5], overlap)
    after = applied(plane, edit)
    assert edit.labels == labels
    assert (after[30, 30], after[30, 34]) == (left, right)
    assert edit.conflicts[9] > 100
    assert (after[0] == plane[0]).all()


def test_keep_prefers_the_confident_and_the_others_the_small() -> None:
    plane = np.zeros((60, 90), np.int64)
    kept = edits.plan_commit(plane, nested(), [1, 2, 3, 4], "keep")
    assert kept.labels == (0, 2, 0, 4)
    stolen = applied(plane, edits.plan_commit(plane, nested(), [1, 2, 3, 4], "steal"))
    filled = applied(plane, edits.plan_commit(plane, nested(), [1, 2, 3, 4], "fill"))
    np.testing.assert_array_equal(stolen, nested().to_label_map())
    np.testing.assert_array_equal(filled, stolen)
    assert len(edits.plan_commit(plane, Masks.empty((60, 90)), [], "keep")) == 0


@pytest.mark.parametrize("overlap", ["keep", "steal", "fill"])
def test_labels_of_the_other_byte_order(overlap: edits.Overlap) -> None:
    plane = np.zeros((60, 90), np.uint16)
    plane[20:30, 20:30] = 7
    swapped = plane.astype(plane.dtype.newbyteorder("S"))
    same, other = (edits.plan_commit(labels, nested(), [1, 2, 3, 4], overlap) for labels in (plane, swapped))
    assert (other.labels, other.conflicts) == (same.labels, same.conflicts)
    np.testing.assert_array_equal(other.values, same.values)


@pytest.mark.parametrize("overlap", ["keep", "steal", "fill"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u4", "i8", "u8", ">u2", "u2"])
def test_labels_of_any_width_and_layout_compile_nothing(overlap: edits.Overlap, dtype: str) -> None:
    """The window stood still for seconds at the first commit into a layer of each further type."""
    plane = np.zeros((60, 90), np.uint16)
    plane[20:30, 20:30] = 7
    wanted = edits.plan_commit(plane, nested(), [1, 2, 3, 4], overlap)
    edits.plan_commit(plane.astype(np.int32), nested(), [1, 2, 3, 4], overlap)
    known = len(_label_kernels.assign.signatures)  # type: ignore[attr-defined]
    for other in (np.asfortranarray(plane.astype(dtype)), np.stack([plane.astype(dtype)] * 2, -1)[..., 0]):
        found = edits.plan_commit(other, nested(), [1, 2, 3, 4], overlap)
        assert (found.labels, found.conflicts) == (wanted.labels, wanted.conflicts)
        np.testing.assert_array_equal(found.values, wanted.values)
    assert len(_label_kernels.assign.signatures) == known  # type: ignore[attr-defined]


def test_labels_beyond_32_bit_stay_what_they_are() -> None:
    plane = np.zeros((60, 90), np.int64)
    plane[20:30, 20:30] = 2**40
    assert list(edits.plan_commit(plane, nested(), [1, 2, 3, 4], "fill").conflicts) == [2**40]


@given(st.data(), st.sampled_from(["keep", "steal", "fill"]))
@settings(max_examples=60)
def test_a_commit_is_what_painting_one_mask_after_the_other_gives(data: st.DataObject, overlap: edits.Overlap) -> None:
    hw = (9, 11)
    count = data.draw(st.integers(1, 4))
    stack = data.draw(arrays(bool, (count, *hw)))
    scores = data.draw(arrays(np.float32, count, elements=st.floats(0, 1, width=32), unique=True))
    plane = data.draw(arrays(np.uint8, hw, elements=st.integers(0, 3)))
    ids = data.draw(st.sampled_from([list(range(4, 4 + count)), [2] * count]))
    order = {"keep": -scores, "fill": stack.sum(axis=(1, 2)), "steal": -stack.sum(axis=(1, 2))}[overlap]
    expected, labels = plane.astype(np.int64), [0] * count
    for i in np.argsort(order, kind="stable"):
        taken = stack[i] & (expected != 0) & (expected != ids[i])
        if overlap == "keep" and taken.sum() > 0.1 * stack[i].sum():
            continue
        painted = stack[i] if overlap == "steal" else stack[i] & ~taken
        expected[painted] = ids[i]
        labels[i] = ids[i] if painted.any() else 0
    edit = edits.plan_commit(plane, Masks.from_dense(stack, scores), ids, overlap)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edits, "_STEP_MASKS", 1)
        patch.setattr(edits, "_STEP_RUNS", 2)
        steps = edits.commit_steps(plane, Masks.from_dense(stack, scores), ids, overlap)
        assert list(outcome(steps).values) == list(edit.values)
    places = edit.rows * 11 + edit.columns
    assert (np.diff(places // 11) >= 0).all(), "row after row"
    np.testing.assert_array_equal(applied(plane.astype(np.int64), edit), expected)
    assert edit.labels == tuple(labels)
    assert len(np.unique(edit.rows * 11 + edit.columns)) == len(edit)
    others = sum(((plane != 0) & (plane != label) & mask).sum() for mask, label in zip(stack, ids, strict=True))
    assert sum(edit.conflicts.values()) == others


def test_merge_split_and_delete() -> None:
    masks = nested()
    plane = masks[[1, 3]].to_label_map([7, 4]).astype(np.int64)
    merged = applied(plane, edits.plan_merge(plane, masks[[0]]))
    assert sorted(np.unique(merged)) == [0, 4]
    split = applied(merged, edits.plan_split(merged, masks[[1, 3]], 8))
    assert (split[30, 32], split[30, 58]) == (4, 8)
    assert ((split > 0) == (merged > 0)).all()
    deleted = applied(split, edits.plan_delete(split, masks[[3]]))
    assert sorted(np.unique(deleted)) == [0, 4]


def test_edits_that_mean_nothing_say_what_to_do() -> None:
    plane = np.zeros((60, 90), np.int64)
    for plan in (edits.plan_merge, edits.plan_delete):
        with pytest.raises(InvalidParameterError, match="Remedy"):
            plan(plane, nested()[[1]])
    with pytest.raises(InvalidParameterError, match="nothing to split"):
        edits.plan_split(plane, nested()[[1, 3]], 8)
    with pytest.raises(InvalidParameterError, match="up to 255"):
        edits.check_ids(np.dtype(np.uint8), 256)
    edits.check_ids(np.dtype(np.uint16), 256)


def test_labels_are_numbered_without_gaps() -> None:
    plane = np.zeros((60, 90), np.int64)
    edit = edits.without_gaps(edits.plan_commit(plane, nested(), [5, 6, 7, 8], "keep"))
    assert edit.labels == (0, 5, 0, 6)
    after = applied(plane, edit)
    assert (after[30, 32], after[30, 58]) == (5, 6)


@pytest.mark.parametrize(
    ("plane_hw", "n_ids", "overlap"), [((20, 20), 4, "keep"), ((60, 90), 3, "keep"), ((60, 90), 4, "none")]
)
def test_what_does_not_fit_the_plane_is_refused(plane_hw: tuple[int, int], n_ids: int, overlap: edits.Overlap) -> None:
    with pytest.raises(InvalidParameterError):
        edits.plan_commit(np.zeros(plane_hw, np.int64), nested(), range(1, 1 + n_ids), overlap)
