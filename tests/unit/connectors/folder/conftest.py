"""An inbox of a user who is not root."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.folder_harness import put_file
from tests.unit.connectors.folder.inboxes import shared_folder
from tests.unit.connectors.folder.other_users import OURS, give


@pytest.fixture
def inbox() -> Iterator[Path]:
    """A folder of our user's, with a clip that nothing is wrong with."""
    with shared_folder() as folder:
        (folder / "inbox").mkdir()
        put_file(folder / "inbox", "z.mp4")
        give(folder / "inbox", OURS)
        yield folder / "inbox"
