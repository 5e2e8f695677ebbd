"""Faults of NeMo that captiond does not repeat, each with the inputs that show it; docs/video-neva.md lists them."""

from tests.neva.random_inputs import Talk

SLIPPING = "masks slip in the later turns of a SentencePiece model"
LABEL = "a label that does not begin with quality: is learned"
EMPTY = "an empty answer before the last one breaks text or mask"
EDGE = "a text of pretraining is cut by the tokens of its question alone"
COMPENSATION = "masks take a mark for granted at the beginning of each turn"
IGNORED_IMAGE = "an image that a checkpoint of videos is asked about is left out"
LETTERS = "letters of the end string are stripped from the answer"
MISTRAL = "the answer of mistral is the whole conversation"

FIRST_MASKS = "masks of llama_2 are off by a token in the first release"
CUT = "a span that the context cuts is trained and asked in part"

_COMPENSATED = ("v1", "llama_2", "mistral")


def fault_of_mask(template: str, said: Talk, *, has_dummy_prefix: bool) -> str | None:
    """Return the fault that an input of training shows, if any."""
    if template == "plain":
        return None if said.media else EDGE
    if any(not turn.answer for turn in said.turns[:-1]):
        return EMPTY
    if template in _COMPENSATED:
        return None if has_dummy_prefix or len(said.turns) == 1 else COMPENSATION
    return SLIPPING if has_dummy_prefix and len(said.turns) > 1 else None


def fault_of_prompt(template: str, prompt: str, media: str, trained: str) -> str | None:
    """Return the fault that a prompt shows, if any."""
    switches = template.startswith("nv") and "video" not in prompt
    return IGNORED_IMAGE if media == "image" and trained == "video" and not switches else None


def fault_of_answer(template: str, said: str) -> str | None:
    """Return the fault that an answer shows, if any."""
    if template == "mistral":
        return MISTRAL
    whole = {"nvgpt": "<extra_id_1>", "nv_steerlm": "<extra_id_1>", "nv_dpo": "<extra_id_1>", "yi_34b": "<|im_end|>"}
    characters = whole.get(template)
    if characters is not None and said.strip().strip(characters).strip() != said.strip():
        return LETTERS
    return None
