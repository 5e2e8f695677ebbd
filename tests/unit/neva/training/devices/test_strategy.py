"""How devices share a model: as the key says, or as Accelerate was launched, and every other way is refused."""

import pytest

from connectors.errors import ConfigurationError
from neva.training.config_file import read_training_settings
from neva.training.devices.strategy import check_devices, choose_strategy, launch_environment, world_size

FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


@pytest.mark.parametrize(
    ("asked", "environment", "chosen"),
    [
        (None, {}, "ddp"),
        ("ddp", {}, "ddp"),
        ("fsdp2", {}, "fsdp2"),
        (None, FSDP2, "fsdp2"),
        ("fsdp2", FSDP2, "fsdp2"),
        (None, {"ACCELERATE_USE_FSDP": "false"}, "ddp"),
        ("fsdp2", {"ACCELERATE_USE_PARALLELISM_CONFIG": "true", "PARALLELISM_CONFIG_TP_SIZE": "1"}, "fsdp2"),
    ],
)
def test_the_key_or_the_launch_says_how(asked: str, environment: dict[str, str], chosen: str) -> None:
    assert choose_strategy(asked, environment) == chosen  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed is not offered: write trainer.strategy=fsdp2"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "Megatron-LM is not offered"),
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP 1 is not offered: launch with fsdp_version 2"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "FSDP 1 is not offered"),
        ({**FSDP2, "FSDP_OFFLOAD_PARAMS": "true"}, "offloading to the CPU is not offered"),
        ({**FSDP2, "FSDP_ACTIVATION_CHECKPOINTING": "true"}, r"write model\.activations_checkpoint_granularity=full"),
        *(
            ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true", f"PARALLELISM_CONFIG_{name}_SIZE": "2"}, "is not offered")
            for name in ("TP", "CP", "SP", "DP_REPLICATE")
        ),
    ],
)
def test_what_does_not_work_is_refused_with_what_to_do(environment: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"trainer\.strategy: .*{reason}"):
        choose_strategy("fsdp2", environment)


def test_the_key_and_the_launch_say_one_thing() -> None:
    with pytest.raises(ConfigurationError, match="say one of the two"):
        choose_strategy("ddp", FSDP2)


@pytest.mark.parametrize("kind", ["NO", "MULTI_CPU", "MULTI_GPU"])
def test_devices_that_were_trained_on_are_taken(kind: str) -> None:
    check_devices(kind, 2, 2)


@pytest.mark.parametrize("kind", ["XLA", "DEEPSPEED", "MEGATRON_LM", "MULTI_XPU"])
def test_other_devices_are_refused(kind: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{kind} is not offered"):
        check_devices(kind, 2, 2)


def test_processes_that_do_not_know_of_each_other_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="4 processes were launched, and Accelerate knows of 1"):
        check_devices("NO", 1, 4)


def test_accelerate_leaves_the_sharding_to_us() -> None:
    assert launch_environment(FSDP2) == {"ACCELERATE_USE_FSDP": "false"}
    assert launch_environment({}) == {}


def test_the_number_of_devices_is_the_launchers_or_the_settings() -> None:
    assert world_size(None, None, {}) == 1
    assert world_size(8, 2, {}) == 16
    assert world_size(8, 2, {"WORLD_SIZE": "4"}) == 4


@pytest.mark.parametrize("named", ["deepspeed", "fsdp", "megatron", "dp"])
def test_other_strategies_of_lightning_are_refused(named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"trainer\.strategy: {named} is not offered: ddp and fsdp2 are"):
        read_training_settings(None, [f"trainer.strategy={named}"], "pretrain")


def test_lightnings_words_for_all_devices_leave_the_number_open() -> None:
    settings, _ = read_training_settings(
        None, ["trainer.strategy=auto", "trainer.devices=-1", "trainer.num_nodes=2"], "pretrain"
    )

    assert (settings.trainer.strategy, settings.trainer.devices, settings.trainer.num_nodes) == (None, None, 2)
