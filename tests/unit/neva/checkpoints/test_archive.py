"""The containers of a checkpoint; an archive that NeMo would not write is refused."""

import gzip
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


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", pax: dict[str, str] | None = None
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.pax_headers = kind, link, pax or {}
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
        ([member("model_config.yaml", tarfile.CHRTYPE)], "neither a file nor a folder"),
        ([member("model_config.yaml", tarfile.BLKTYPE)], "neither a file nor a folder"),
        ([member("model_config.yaml"), member("./model_config.yaml")], "comes twice"),
        ([member("model_config.yaml", tarfile.GNUTYPE_SPARSE)], "is sparse"),
        ([member("model_config.yaml", pax={"GNU.sparse.size": "99999999999", "GNU.sparse.map": "0,0"})], "is sparse"),
        ([member("model_config.yaml", pax={"size": "99999999999"})], "ends after the archive does"),
        ([member("model_config.yaml", pax={"size": "-1024"})], "has a negative size"),
    ],
)
def test_hostile_archives_are_refused(tmp_path: Path, members: list[tarfile.TarInfo], message: str) -> None:
    with tarfile.open(tmp_path / "a.nemo", "w") as archive:
        for info in members:
            archive.addfile(info)

    with pytest.raises(ConfigurationError, match=message), open_nemo(tmp_path / "a.nemo"):
        pass


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        (tarfile.REGTYPE, 2**62, "ends after the archive does"),
        (tarfile.REGTYPE, -1024, "has a negative size"),
        (tarfile.XHDTYPE, 2**62, "a header of .* bytes stands before a member"),
        (tarfile.XGLTYPE, 2**33, "a header of .* bytes stands before a member"),
        (tarfile.GNUTYPE_LONGNAME, 2**40, "a header of .* bytes stands before a member"),
        (tarfile.GNUTYPE_LONGLINK, -512, "has a negative size"),
    ],
)
@pytest.mark.parametrize("mode", ["wb", "gzip"])
def test_sizes_that_no_member_has(tmp_path: Path, mode: str, kind: bytes, size: int, message: str) -> None:
    info = member("model_config.yaml", kind)
    info.size = size
    content = info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 2048
    (tmp_path / "a.nemo").write_bytes(content if mode == "wb" else gzip.compress(content))
    if (mode, message) == ("gzip", "ends after the archive does"):
        message = "no .nemo file, or a damaged one"  # a compressed archive's end is not known before it is reached

    with pytest.raises(ConfigurationError, match=message), open_nemo(tmp_path / "a.nemo"):
        pass


def test_a_damaged_archive_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "a.nemo").write_bytes(b"not a tar")

    with pytest.raises(ConfigurationError, match=r"is no \.nemo file"), open_nemo(tmp_path / "a.nemo"):
        pass
