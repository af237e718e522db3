"""What FiftyOne downloads from this repository: the plugin and the source of models, here from a local archive."""

from __future__ import annotations

import threading
import zipfile
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import fiftyone as fo
import fiftyone.plugins as fop
import fiftyone.zoo as foz
import pytest
from fiftyone.plugins.context import build_plugin_contexts

from fiftyone_fastsam.install import PLUGIN_NAME, operator_names
from fiftyone_fastsam.model import FastSAMModel

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmarks", "docs", "examples", "src", "tests", "tools")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def archive_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve an archive of this checkout, laid out as a repository's."""
    folder = tmp_path_factory.mktemp("served")
    with zipfile.ZipFile(folder / "main.zip", "w") as archive:
        for path in sorted(path for name in FOLDERS for path in (ROOT / name).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.stat().st_size < 200_000:
                archive.write(path, Path("fastsam-plugins-main") / path.relative_to(ROOT))
    with HTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/main.zip"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_the_plugin_can_be_downloaded(archive_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fo.config, "plugins_dir", str(tmp_path))
    [(name, folder)] = fop.download_plugin(archive_url).items()
    assert name == PLUGIN_NAME
    assert sum(path.stat().st_size for path in Path(folder).rglob("*")) < 100_000
    [context] = [context for context in build_plugin_contexts() if context.name == PLUGIN_NAME]
    assert context.errors == []
    assert [operator.name for operator in context.instances] == operator_names()


def test_the_models_can_be_registered(archive_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fo.config, "model_zoo_dir", str(tmp_path))
    foz.register_zoo_model_source(archive_url)
    assert archive_url in foz.list_zoo_model_sources()
    assert {"fastsam/builtin", "fastsam/FastSAM-s"} <= set(foz.list_zoo_models(source=archive_url))
    _, path = foz.download_zoo_model(archive_url, model_name="fastsam/builtin")
    assert Path(path).is_file()
    model = foz.load_zoo_model("fastsam/builtin", conf=0.25)
    assert type(model) is FastSAMModel
    assert model.options.conf == 0.25
