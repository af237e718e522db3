"""The built-in model on a real image, through the button."""

from __future__ import annotations

from typing import Any

import numpy as np

from .conftest import Make, run


def test_coins_with_the_built_in_model(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    from skimage import data

    coins = data.coins()
    viewer.open_sample("fastsam-plugins", "coins")
    widget = make_widget(viewer)
    run(qtbot, widget)
    candidates = widget.session.candidates
    assert len(candidates) >= 15
    bright = coins[candidates.masks.to_label_map() > 0].mean() - coins[candidates.masks.to_label_map() == 0].mean()
    assert bright > 50, "coins are brighter than what lies between them"
    widget.label_panel.commit_shown()
    labels = viewer.layers["coins labels"].data
    sizes = np.bincount(labels.ravel())[1:]
    assert len(sizes) >= 15
    assert np.median(sizes) == np.clip(np.median(sizes), 900, 3000)
