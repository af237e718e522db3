"""Edge maps from masks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fastsam_core.edges import COMBINATIONS, edge_map, suppress_beside_ridges
from fastsam_core.errors import InvalidParameterError
from fastsam_core.geometry import plan_letterbox
from fastsam_core.network import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastsam_core.edges import Combination

IMAGE_HW = (120, 200)


def discs(*circles: tuple[float, float, float], image_hw: tuple[int, int] = IMAGE_HW, imgsz: int = 200) -> Prediction:
    """One soft disc (y, x, radius in image pixels) a mask, each from a prototype of its own, in a box around it."""
    plan = plan_letterbox(image_hw, imgsz)
    cells_h, cells_w = (side // 4 for side in plan.network_hw)
    prototypes = np.zeros((32, cells_h, cells_w), np.float32)
    boxes = []
    for number, (y, x, radius) in enumerate(circles):
        boxes.append((x - radius - 4, y - radius - 4, x + radius + 4, y + radius + 4))
        rows = ((np.arange(cells_h) + 0.5) * 4 - plan.pad_yx[0]) / plan.scale
        columns = ((np.arange(cells_w) + 0.5) * 4 - plan.pad_yx[1]) / plan.scale
        prototypes[number] = (radius - np.hypot(rows[:, None] - y, columns[None] - x)) / 2
    network = plan.to_network(np.array(boxes, np.float32).reshape(-1, 4))
    scores = np.linspace(0.9, 0.1, len(circles)).astype(np.float32)
    coefficients = np.eye(32, dtype=np.float32)[: len(circles)] * 2
    return Prediction(plan.to_image(network), scores, network, coefficients, prototypes, plan)


def distance_to_circle(y: float, x: float, radius: float) -> NDArray[np.float64]:
    rows, columns = np.mgrid[: IMAGE_HW[0], : IMAGE_HW[1]] + 0.5
    distance: NDArray[np.float64] = np.abs(np.hypot(rows - y, columns - x) - radius)
    return distance


def test_outlines_are_where_masks_are_cut() -> None:
    plain = discs((60, 100, 40))
    shifted = replace(plain, prototypes=plain.prototypes.copy(), mask_threshold=0.25)
    shifted.prototypes[0] -= np.log(3) / 2  # coefficients are 2
    np.testing.assert_allclose(edge_map(shifted), edge_map(plain), atol=1e-5)
    assert not np.allclose(edge_map(replace(shifted, mask_threshold=0.5)), edge_map(plain), atol=1e-2)


@pytest.mark.parametrize("combine", COMBINATIONS)
@pytest.mark.parametrize("imgsz", [200, 320])
def test_edges_are_thin_lines_along_the_outline(combine: Combination, imgsz: int) -> None:
    edges = edge_map(discs((60, 100, 40), imgsz=imgsz), combine=combine)
    assert edges.shape == IMAGE_HW
    assert edges.dtype == np.float32
    assert 0 < edges.max() <= 1
    found = edges > 0.1 * edges.max()
    distance = distance_to_circle(60, 100, 40)[found]
    assert np.mean(distance < 1.5) > 0.9
    assert distance.max() < 5
    length = 2 * np.pi * 40
    assert 0.8 * length < found.sum() < 1.6 * length


def test_outlines_that_many_masks_share_are_stronger_in_sums() -> None:
    prediction = discs((60, 50, 30), (60, 50, 30), (60, 50, 30), (60, 150, 30))
    edges = edge_map(prediction)
    assert edges[:, :100].max() > 2 * edges[:, 100:].max()
    strongest = edge_map(prediction, combine="max")
    assert strongest[:, 100:].max() == pytest.approx(strongest[:, :100].max(), rel=0.05)
    assert strongest.max() == 1
    assert np.array_equal(edges, edge_map(replace(prediction, scores=prediction.scores[::-1])))


def test_a_mask_cut_by_its_box_has_no_edge_there() -> None:
    prediction = discs((60, 100, 40))
    cut = replace(prediction, boxes_network_xyxy=prediction.letterbox.to_network([[60, 20, 100, 100]]))
    edges = edge_map(cut, thin=False)
    assert edges[60, 96:].max() == 0
    assert edges[60, 58:64].max() > 0.05


def test_no_edge_at_the_border_of_the_image() -> None:
    whole = discs((60, 100, 500))
    assert edge_map(whole).max() == 0


@pytest.mark.parametrize("combine", COMBINATIONS)
def test_no_masks_give_no_edges(combine: Combination) -> None:
    assert edge_map(discs(), combine=combine).tolist() == np.zeros(IMAGE_HW).tolist()
    broken = replace(discs((60, 100, 40)), boxes_network_xyxy=np.array([[np.nan, 0, np.nan, 0]], np.float32))
    assert edge_map(broken, combine=combine).max() == 0


def test_ridges_stay_and_slopes_go() -> None:
    y = np.arange(40, dtype=np.float32)
    ridge = np.repeat(np.exp(-(((y - 20) / 4) ** 2))[:, None], 30, axis=1).astype(np.float32)
    for edges in (ridge, ridge.T):
        thinned = suppress_beside_ridges(edges)
        kept = thinned > 0.01
        assert kept.sum() == 30
        assert thinned.max() == 1


def test_what_is_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="combination"):
        edge_map(discs(), combine="mean")  # type: ignore[arg-type]
    for blur_px in (-1, float("inf"), float("nan"), 1e6, "1"):
        with pytest.raises(InvalidParameterError, match="blur_px"):
            edge_map(discs(), blur_px=blur_px)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [None, "a", np.zeros((4, 4))])
def test_a_prediction_is_needed(wrong: Any) -> None:
    with pytest.raises(InvalidParameterError, match=r"FastSAM\.predict"):
        edge_map(wrong)
