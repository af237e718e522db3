"""Property: a committed mask has the world coordinates of the object, whatever the transforms. No window needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Image, Points

from fastsam_core.masks import Masks
from napari_fastsam.controllers.canvas import OutlineCanvas
from napari_fastsam.controllers.labelling import LabelController
from napari_fastsam.controllers.prompts import PromptController
from napari_fastsam.controllers.session import Session
from napari_fastsam.models.candidates import Candidates

from .test_convert import transforms

pytestmark = [
    pytest.mark.filterwarnings("ignore:Non-orthogonal slicing"),
    pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB"),
]


@given(st.data())
@settings(max_examples=15)
def test_world_coordinates_of_prompts_labels_and_outlines_are_those_of_the_object(data: st.DataObject) -> None:
    size = (data.draw(st.integers(3, 30)), data.draw(st.integers(3, 30)))
    top, left = (data.draw(st.integers(0, n - 1)) for n in size)
    bottom, right = data.draw(st.integers(top + 1, size[0])), data.draw(st.integers(left + 1, size[1]))
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True

    viewer: Any = ViewerModel()
    image = Image(np.zeros(size, np.uint8), **data.draw(transforms(2)))
    viewer.add_layer(image)
    session = Session(viewer)
    labels, prompts, canvas = LabelController(session), PromptController(session), OutlineCanvas(session)
    session.settings = session.settings.__class__(journal=False)
    session.set_image(image)
    assert session.plane is not None
    session.put(image.unique_id, session.plane, Candidates.measure(Masks.from_dense(mask)))

    centre = image.data_to_world(((top + bottom - 1) / 2, (left + right - 1) / 2))
    points = Points(np.empty((0, 2)), **data.draw(transforms(2)))
    points.add([points.world_to_data(centre)])
    viewer.add_layer(points)
    prompts.set_points(points)
    assert session.selected == [0]
    assert labels.commit(session.selected) == 1

    target = labels.target
    assert target is not None
    written = np.argwhere(target.data == 1)
    np.testing.assert_array_equal(written, np.argwhere(mask))
    for corner in (written[0], written[-1]):
        np.testing.assert_allclose(target.data_to_world(corner), image.data_to_world(corner), atol=1e-6)
        np.testing.assert_allclose(canvas.outlines.data_to_world(corner), image.data_to_world(corner), atol=1e-6)
    session.hovered.emit(0)
    np.testing.assert_allclose(
        canvas.hover.data_to_world((1, 1)), image.data_to_world((top, left)), atol=1e-6, err_msg="one pixel of margin"
    )
