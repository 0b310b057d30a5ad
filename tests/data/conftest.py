"""The local server of the tests of downloads."""

import pytest

from course_utils.data import download as download_module
from tests.data.file_server import run_server


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download_module, "RETRY_DELAY", 0)
    with run_server() as running:
        yield running


@pytest.fixture
def path(tmp_path):
    """Where a download goes."""
    return tmp_path / "sets" / "photos.zip"
