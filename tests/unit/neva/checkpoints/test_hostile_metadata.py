"""The metadata of a checkpoint runs nothing, and what it lies about is refused by the names of file and member."""

import contextlib
import pickle
import random
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from connectors.errors import ConfigurationError  # noqa: E402
from neva.checkpoints.archive import open_nemo  # noqa: E402
from neva.checkpoints.distributed.checkpoint import open_distributed  # noqa: E402
from neva.checkpoints.distributed.stored import DamagedError  # noqa: E402
from neva.checkpoints.distributed.torch_metadata import ALLOWED, read_metadata  # noqa: E402
from testing.hostile_checkpoints import LIES, METADATA, lying, metadata_pickles  # noqa: E402
from testing.megatron_files import DATA, members, packed, unpacked  # noqa: E402


def read_all(path: Path) -> None:
    with open_nemo(path) as archive:
        checkpoint = open_distributed(archive)
        for name in checkpoint.tensors:
            checkpoint.read(name)


@pytest.mark.parametrize("attack", sorted(metadata_pickles(Path("/nowhere"))))
def test_a_pickle_in_the_place_of_the_metadata_runs_nothing(tmp_path: Path, attack: str) -> None:
    marker = tmp_path / "ran"
    source = packed(members("stacked-tp1") | {METADATA: metadata_pickles(marker)[attack]}, tmp_path / "a.nemo")

    with pytest.raises(ConfigurationError, match=r"model_weights/\.metadata in .*a\.nemo is refused: ") as refusal:
        read_all(source)

    assert not marker.exists()
    assert len(str(refusal.value)) < 600


def test_torchs_own_reader_does_run_it(tmp_path: Path) -> None:
    from torch.distributed.checkpoint import FileSystemReader

    marker = tmp_path / "ran"
    folder = unpacked("stacked-tp1", tmp_path / "extracted")
    (folder / METADATA).write_bytes(metadata_pickles(marker)["a method"])

    with contextlib.suppress(AttributeError):  # what the code returns is no metadata
        FileSystemReader(folder / "model_weights").read_metadata()

    assert marker.exists()


def test_every_name_that_is_allowed_is_one_of_data() -> None:
    for name in ALLOWED:
        assert name.startswith(("torch.", "megatron.core.dist_checkpointing.strategies.torch.MCore", "pathlib.Posix"))
    named = [name for name in ALLOWED if not name.startswith("torch.distributed") and name.count(".") > 1]
    assert sorted(named) == [
        "megatron.core.dist_checkpointing.strategies.torch.MCoreMetadata",
        "megatron.core.dist_checkpointing.strategies.torch.MCoreSavePlan",
        "torch.serialization._get_layout",
    ]


@pytest.mark.parametrize("lie", sorted(LIES))
def test_metadata_that_is_not_true(tmp_path: Path, lie: str) -> None:
    source = lying(LIES[lie], tmp_path / "a.nemo")

    with pytest.raises(ConfigurationError, match=r"model_weights/\S+ in .*a\.nemo is refused: "):
        read_all(source)


def test_damaged_metadata_is_refused_or_still_true() -> None:
    right = members("stacked-tp2")[METADATA]
    whole = read_metadata(right)
    chance = random.Random(11)
    refused = 0

    for _ in range(300):
        damaged = bytearray(right)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        content = bytes(damaged[: chance.choice([len(damaged), chance.randrange(len(damaged))])])
        try:
            found = read_metadata(content)
        except DamagedError:
            refused += 1
        else:
            assert all(isinstance(name, str) for name in found)

    assert refused > 200
    assert read_metadata(right) == whole


def test_a_damaged_file_is_refused_or_read(tmp_path: Path) -> None:
    right = (DATA / "stacked-tp1.nemo").read_bytes()
    chance = random.Random(5)
    said: list[str] = []

    for _ in range(25):
        damaged = bytearray(right)
        for _ in range(20):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        (tmp_path / "a.nemo").write_bytes(damaged[: chance.choice([len(damaged), chance.randrange(len(damaged))])])
        try:
            read_all(tmp_path / "a.nemo")
        except ConfigurationError as error:
            said.append(str(error))

    assert said
    assert all("a.nemo" in message for message in said)


def test_the_older_names_of_torchs_classes_are_read() -> None:
    right = members("stacked-tp1")[METADATA]
    older = pickle.dumps(pickle.loads(right), protocol=2)  # noqa: S301 - a file of our own
    for name in (b"TensorProperties", b"MEM_FORMAT_ENCODING"):  # before 2.3 they were those of its sharded tensors
        new = b"ctorch.distributed.checkpoint.metadata\n" + (b"" if name.startswith(b"T") else b"_") + name + b"\n"
        assert new in older
        older = older.replace(new, b"ctorch.distributed._shard.sharded_tensor.metadata\n" + name + b"\n")

    assert read_metadata(older) == read_metadata(right)
