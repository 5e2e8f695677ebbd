"""The grammars that hold answers to their form, as vLLM's backends take them."""

from typing import Any


def grammar_fault(structured_outputs: dict[str, Any], backend: str) -> str:
    """Return why a backend of vLLM's refuses a form, in its own words; empty where it takes it, or nobody can say.

    ``auto`` is vLLM's choice between its backends, of which one that takes it is enough.
    """
    from vllm.sampling_params import SamplingParams, StructuredOutputsParams
    from vllm.v1.structured_output.backend_guidance import (
        has_guidance_unsupported_json_features,
        validate_guidance_grammar,
    )
    from vllm.v1.structured_output.backend_xgrammar import validate_xgrammar_grammar

    def asked() -> Any:
        return SamplingParams(structured_outputs=StructuredOutputsParams(**structured_outputs))

    faults = []
    for name, validate in (("xgrammar", validate_xgrammar_grammar), ("guidance", validate_guidance_grammar)):
        if backend not in (name, "auto"):
            continue
        try:
            params = asked()
            schema = params.structured_outputs.json
            if name == "guidance" and schema is not None and has_guidance_unsupported_json_features(_parsed(schema)):
                raise ValueError("it holds what guidance does not know")
            validate(params)
        except Exception as error:  # these are parsers of other languages, and raise anything
            faults.append(f"{name}: {' '.join(str(error).split())}"[:300])
        else:
            return ""
    return "; ".join(faults)


def _parsed(schema: Any) -> Any:
    import json

    return json.loads(schema) if isinstance(schema, str) else schema
