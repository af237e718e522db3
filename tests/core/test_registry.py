"""The table of models, and the cache against a server on this machine."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from fastsam_core import downloads, registry
from fastsam_core.errors import OutputError, UnknownModelError, WeightsDownloadError
from fastsam_core.registry import MODELS, ModelEntry, find_model, model_with_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = bytes(range(256)) * 400


class _Server(ThreadingHTTPServer):
    requests = 0
    claimed_length = len(CONTENT)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(404 if "absent" in self.path else 200)
        self.send_header("Content-Length", str(self.server.claimed_length))
        self.end_headers()
        if "absent" not in self.path:
            self.wfile.write(CONTENT)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[_Server]:
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("FASTSAM_CACHE", str(folder))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return folder


def entry_at(server: _Server, file_name: str = "weights.pt", sha256: str | None = "right") -> ModelEntry:
    return replace(
        MODELS["FastSAM-s"],
        name="test-model",
        file_name=file_name,
        url=f"http://127.0.0.1:{server.server_port}/{file_name}",
        sha256=hashlib.sha256(CONTENT).hexdigest() if sha256 == "right" else sha256,
    )


def test_the_official_small_model_is_the_known_file() -> None:
    entry = find_model("fastsam-s.pt")
    assert entry.size_bytes == 23_851_578
    assert entry.sha256 == "c9f78716a81c7aff0d608ccc73e1b82ab3aaad86005049f6a92106a0be6d0844"
    assert entry.url is not None
    assert entry.url.endswith("/v8.4.0/FastSAM-s.pt")
    assert model_with_sha256(entry.sha256) is entry
    assert model_with_sha256("0" * 64) is None
    assert (entry.conf, entry.iou, entry.imgsz) == (0.4, 0.9, 1024)


@pytest.mark.parametrize("name", ["FastSAM-x", "fastsam_x", " FASTSAM-X.pt "])
def test_names_are_forgiving(name: str) -> None:
    assert find_model(name).name == "FastSAM-x"


@pytest.mark.parametrize(
    ("name", "nearest"), [("FastSAM-z", "FastSAM-"), ("bultin", "builtin"), ("fastsams", "FastSAM-s")]
)
def test_unknown_names_suggest_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownModelError, match=f"did you mean '{nearest}") as caught:
        find_model(name)
    assert isinstance(caught.value, KeyError)


def test_names_far_from_all_suggest_the_list() -> None:
    with pytest.raises(UnknownModelError, match="fastsam models list"):
        find_model("qqqq")


def test_registry_names_are_their_keys() -> None:
    assert all(name == entry.name for name, entry in MODELS.items())
    assert registry.BUILTIN in MODELS


def test_fetch_downloads_once_and_reports_progress(server: _Server, cache: Path) -> None:
    reports: list[tuple[int, int]] = []
    path = downloads.fetch(entry_at(server), lambda done, total: reports.append((done, total)))
    assert path == cache / "weights.pt"
    assert path.read_bytes() == CONTENT
    assert reports[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert downloads.fetch(entry_at(server)) == path
    assert server.requests == 1
    assert [item.name for item in cache.iterdir()] == ["weights.pt"]


def test_fetch_replaces_a_damaged_file(server: _Server, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.mkdir()
    (cache / "weights.pt").write_bytes(CONTENT[:-1])
    assert downloads.fetch(entry_at(server)).read_bytes() == CONTENT
    assert "damaged" in caplog.text


def test_a_wrong_sha256_leaves_nothing_behind(server: _Server, cache: Path) -> None:
    with pytest.raises(WeightsDownloadError, match="0000000") as caught:
        downloads.fetch(entry_at(server, sha256="0" * 64))
    assert isinstance(caught.value, ConnectionError)
    assert list(cache.iterdir()) == []


def test_an_unknown_sha256_is_shown(server: _Server, caplog: pytest.LogCaptureFixture) -> None:
    downloads.fetch(entry_at(server, sha256=None))
    assert hashlib.sha256(CONTENT).hexdigest() in caplog.text


def test_a_server_that_refuses(server: _Server, cache: Path) -> None:
    with pytest.raises(WeightsDownloadError, match="404"):
        downloads.fetch(entry_at(server, "absent.pt"))
    assert not list(cache.glob("*"))


def test_a_connection_that_breaks_off(server: _Server, cache: Path) -> None:
    server.claimed_length = len(CONTENT) + 1000
    with pytest.raises(WeightsDownloadError):
        downloads.fetch(entry_at(server))
    assert not list(cache.glob("*"))


def test_offline_says_what_to_do(server: _Server, cache: Path) -> None:
    entry = entry_at(server)
    entry = replace(entry, url="http://127.0.0.1:9/weights.pt")
    with pytest.raises(WeightsDownloadError) as caught:
        downloads.fetch(entry)
    message = str(caught.value)
    assert entry.url is not None
    assert entry.sha256 is not None
    for needed in (entry.url, entry.sha256, str(cache / "weights.pt")):
        assert needed in message


def test_a_cache_that_cannot_be_written(server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FASTSAM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OutputError, match="FASTSAM_CACHE"):
        downloads.fetch(entry_at(server))


def test_trust_is_recorded_once(cache: Path) -> None:
    assert not downloads.is_trusted("a" * 64)
    downloads.trust("a" * 64, "one.pt")
    downloads.trust("b" * 64, "two.pt")
    downloads.trust("a" * 64, "one.pt")
    assert downloads.is_trusted("a" * 64)
    assert not downloads.is_trusted("a" * 63)
    [record] = cache.iterdir()
    assert record.read_text() == f"{'a' * 64}  one.pt\n{'b' * 64}  two.pt\n"


def test_the_cache_is_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FASTSAM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert downloads.cache_folder().name == "fastsam"
    assert not downloads.cache_folder().exists()
