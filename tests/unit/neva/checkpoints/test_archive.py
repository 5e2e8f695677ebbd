"""The containers of a checkpoint; an archive that NeMo would not write is refused."""

import tarfile
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from connectors.errors import ConfigurationError  # noqa: E402
from neva.checkpoints.archive import open_nemo  # noqa: E402
from neva.checkpoints.import_nemo import ImportRequest, import_nemo  # noqa: E402
from testing import nemo_checkpoints as made  # noqa: E402
from testing.nemo_checkpoints import CONTAINERS  # noqa: E402
from tests.unit.neva.checkpoints.nemo_parts import Parts, assert_same, weights  # noqa: E402


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container(parts: Parts, tmp_path: Path, container: str) -> None:
    checkpoint = parts.checkpoint(made.to_mcore(parts.language) | parts.projector, "mp_rank")

    folder = import_nemo(ImportRequest(CONTAINERS[container](checkpoint, tmp_path), tmp_path / "model"))

    assert_same(weights(folder), parts.expected())


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member("../model_config.yaml")], "leads out of the archive"),
        ([member("/etc/model_config.yaml")], "leads out of the archive"),
        ([member("a/../../b")], "leads out of the archive"),
        ([member("model_config.yaml", tarfile.SYMTYPE, "/etc/hostname")], "neither a file nor a folder"),
        ([member("model_config.yaml", tarfile.LNKTYPE, "b")], "neither a file nor a folder"),
        ([member("model_config.yaml", tarfile.FIFOTYPE)], "neither a file nor a folder"),
        ([member("model_config.yaml"), member("./model_config.yaml")], "comes twice"),
    ],
)
def test_hostile_archives_are_refused(tmp_path: Path, members: list[tarfile.TarInfo], message: str) -> None:
    with tarfile.open(tmp_path / "a.nemo", "w") as archive:
        for info in members:
            archive.addfile(info)

    with pytest.raises(ConfigurationError, match=message), open_nemo(tmp_path / "a.nemo"):
        pass


def test_a_damaged_archive_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "a.nemo").write_bytes(b"not a tar")

    with pytest.raises(ConfigurationError, match=r"is no \.nemo file"), open_nemo(tmp_path / "a.nemo"):
        pass
