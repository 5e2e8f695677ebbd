"""A clip for the tests of the main loop."""

import pytest

from testing.load import write_load_clip


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clips") / "six.mp4"
    write_load_clip(path)
    return path.read_bytes()
