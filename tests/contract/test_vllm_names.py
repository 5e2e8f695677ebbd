"""Every name of vLLM that is used here exists, in the release that is installed and in the newest one.

Most of them are not part of what vLLM promises. Imports are read from the one folder that has them; attributes and
parameters, which no import names, stand in the tables below, beside where they are used.
"""

import ast
from collections.abc import Iterator

import pytest

from daemon.engines.openai.request import TIMES
from daemon.engines.vllm.adapters import RANKS
from daemon.engines.vllm.output import StepLogger
from testing.repository import ROOT
from tests.contract.vllm_sources import Sources, installed, newest

LIBRARY = ROOT / "daemon" / "engines" / "vllm" / "library"

ATTRIBUTES = {
    "vllm.v1.engine.async_llm.AsyncLLM": {
        *("from_engine_args", "generate", "shutdown", "errored"),
        *("output_handler", "renderer", "model_config", "vllm_config", "engine_core", "input_processor"),
    },
    "vllm.v1.engine.input_processor.InputProcessor": {"mm_encoder_cache_size"},
    "vllm.config.MultiModalConfig": {"mm_processor_cache_gb", "mm_ipc_gpu_memory_gb"},
    "vllm.config.CacheConfig": {"enable_prefix_caching"},
    "vllm.config.SchedulerConfig": {"max_num_seqs", "max_num_batched_tokens"},
    "vllm.config.VllmConfig": {
        *("model_config", "scheduler_config", "cache_config", "parallel_config", "structured_outputs_config"),
        "lora_config",
    },
    "vllm.config.ModelConfig": {
        *("is_multimodal_model", "hf_config", "max_model_len", "multimodal_config", "get_diff_sampling_param"),
        "quantization",
    },
    "vllm.config.structured_outputs.StructuredOutputsConfig": {"reasoning_parser", "reasoning_parser_plugin"},
    "vllm.reasoning.ReasoningParserManager": {
        *("get_reasoning_parser", "import_reasoning_parser", "list_registered"),
    },
    "vllm.reasoning.ReasoningParser": {"reasoning_start_str", "reasoning_end_str", "extract_reasoning"},
    "vllm.renderers.base.BaseRenderer": {"render_cmpl", "render_cmpl_async"},
    "vllm.inputs.MultiModalInput": {
        *("type", "prompt_token_ids", "prompt", "mm_kwargs", "mm_hashes", "mm_placeholders"),
    },
    "vllm.v1.serial_utils.MsgpackEncoder": {"encode"},
    "vllm.v1.serial_utils.MsgpackDecoder": {"decode"},
    "vllm.v1.engine.core_client.MPClient": {"engine_ranks_managed"},
    "vllm.v1.engine.core_client.DPLBAsyncMPClient": {"engine_ranks_managed", "engine_inflight"},
    "vllm.config.ParallelConfig": {"tensor_parallel_size"},
    "vllm.engine.arg_utils.AsyncEngineArgs": {"create_engine_config", "limit_mm_per_prompt", "mm_encoder_only"},
    "vllm.multimodal.processing.BaseDummyInputsBuilder": {"get_dummy_text"},
    "vllm.engine.arg_utils.EngineArgs": {"enable_lora", "max_lora_rank", "default_mm_loras"},
    "vllm.lora.peft_helper.PEFTHelper": {"from_local_dir", "validate_legal"},
    "vllm.model_executor.models.utils.WeightsMapper": {"get_rename_mapper", "map_name"},
    "vllm.model_executor.models.llava.LlavaForConditionalGeneration": {"hf_to_vllm_mapper", "get_mm_mapping"},
    "vllm.lora.request.LoRARequest": {"lora_name", "lora_int_id", "lora_path"},
    "vllm.multimodal.processing.BaseMultiModalProcessor": {
        *("apply", "info", "dummy_inputs", "_apply_hf_processor", "_get_prompt_updates"),
        *("_apply_token_matches", "_apply_prompt_updates_via_text"),
    },
    "vllm.multimodal.processing.PromptUpdateDetails": {"from_seq"},
    "vllm.multimodal.processing.processor.MultiModalProcessingResult": {"prompt_updates"},
    "vllm.multimodal.processing.processor.ResolvedPromptUpdate": {
        *("mode", "target", "item_idx", "content", "with_target"),
    },
    "vllm.multimodal.processing.BaseProcessingInfo": {
        *("get_hf_processor", "get_tokenizer", "parse_mm_data", "supported_mm_limits"),
        "_merge_and_resolve_mm_processor_kwargs",
    },
    "vllm.multimodal.inputs.PlaceholderRange": {"get_num_embeds"},
    "vllm.outputs.RequestOutput": {"outputs", "metrics", "prompt_token_ids"},
    "vllm.outputs.CompletionOutput": {"text", "token_ids", "logprobs", "finish_reason"},
    "vllm.v1.metrics.stats.RequestStateStats": {"queued_ts", "scheduled_ts", "last_token_ts"},
    "vllm.v1.metrics.stats.SchedulerStats": {
        *("num_running_reqs", "num_waiting_reqs", "num_skipped_waiting_reqs", "kv_cache_usage"),
        "prefix_cache_stats",
    },
    "vllm.logprobs.Logprob": {"logprob", "rank", "decoded_token"},
    "vllm.sampling_params.SamplingParams": {
        *("min_p", "presence_penalty", "frequency_penalty", "ignore_eos", "skip_special_tokens"),
    },
    "vllm.sampling_params.RequestOutputKind": {"FINAL_ONLY"},
    "vllm.usage.usage_lib.UsageContext": {"OPENAI_API_SERVER"},
    "vllm.multimodal.encoder_budget.MultiModalBudget": {"encoder_cache_size"},
    "vllm.entrypoints.openai.chat_completion.protocol.ChatCompletionRequest": {"media_io_kwargs"},
    "vllm.renderers.online_renderer.OnlineRenderer": {"trust_request_mm_kwargs"},
    "vllm.entrypoints.serve.engine.protocol.ModelCard": {"owned_by", "max_model_len"},
}

PARAMETERS = {
    "vllm.v1.engine.async_llm.AsyncLLM.from_engine_args": {"stat_loggers", "usage_context"},
    "vllm.v1.engine.async_llm.AsyncLLM.generate": {"prompt", "sampling_params", "request_id", "lora_request"},
    "vllm.v1.engine.async_llm.AsyncLLM.shutdown": {"timeout"},
    "vllm.engine.arg_utils.EngineArgs.create_engine_config": {"usage_context"},
    "vllm.multimodal.encoder_budget.MultiModalBudget.__init__": {"enable_cache"},
    "vllm.reasoning.ReasoningParser.extract_reasoning": {"model_output", "request"},
    "vllm.renderers.hf.resolve_chat_template": {"model_config"},
    "vllm.renderers.hf.resolve_chat_template_content_format": {"model_config"},
    "vllm.v1.metrics.loggers.StatLoggerBase.record": {"scheduler_stats", "iteration_stats", "engine_idx"},
}

VARIABLES = {"vllm.distributed.parallel_state._TP", "vllm.distributed.parallel_state._PP"}


def imported() -> Iterator[str]:
    """Yield the path of each name that the library folder imports of vLLM."""
    for file in sorted(LIBRARY.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vllm":
                yield from (f"{node.module}.{name.name}" for name in node.names)
            elif isinstance(node, ast.Import):
                yield from (name.name for name in node.names if name.name.split(".")[0] == "vllm")


@pytest.fixture(scope="module", params=["installed", "newest"])
def sources(request: pytest.FixtureRequest) -> Sources:
    if request.param == "installed":
        return installed()
    found = newest()
    if found is None:
        pytest.skip("python -m tests.contract.vllm_sources fetches the newest wheel")
    return found


def test_every_import_is_there(sources: Sources) -> None:
    wanted = set(imported())

    assert len(wanted) > 10
    assert {path for path in wanted if sources.find(path) is None} == set()


def test_every_variable_is_there(sources: Sources) -> None:
    assert {path for path in VARIABLES if sources.find(path) is None} == set()


@pytest.mark.parametrize("path", ATTRIBUTES)
def test_every_attribute_is_there(sources: Sources, path: str) -> None:
    assert ATTRIBUTES[path] - sources.attributes(path) == set()


@pytest.mark.parametrize("path", PARAMETERS)
def test_every_parameter_is_there(sources: Sources, path: str) -> None:
    assert PARAMETERS[path] - sources.parameters(path) == set()


def test_the_logger_of_steps_has_every_method_that_is_called(sources: Sources) -> None:
    base = "vllm.v1.metrics.loggers.StatLoggerBase"

    assert {name for name in sources.attributes(base) if not name.startswith("_")} - set(dir(StepLogger)) == set()


def test_the_ranks_of_adapters_are_those_that_vllm_makes_room_for(sources: Sources) -> None:
    found = sources.names("vllm.config.lora")["MaxLoRARanks"]

    assert isinstance(found, ast.Assign)
    assert ast.unparse(found.value) == f"Literal[{', '.join(map(str, RANKS))}]"


def test_a_server_reads_what_a_request_says_of_a_video(sources: Sources) -> None:
    module = sources.module("vllm.multimodal.media.video")
    assert module is not None
    read = {node.value for node in ast.walk(module) if isinstance(node, ast.Constant)}
    read |= {node.arg for node in ast.walk(module) if isinstance(node, ast.arg)}

    assert {"video/jpeg", "num_frames", *TIMES} - read == set()


def test_what_is_not_there_is_noticed(sources: Sources) -> None:
    assert sources.find("vllm.outputs.NoSuchOutput") is None
    assert "no_such_attribute" not in sources.attributes("vllm.outputs.RequestOutput")
    assert sources.parameters("vllm.renderers.hf.no_such_function") == set()
