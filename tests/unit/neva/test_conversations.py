"""Every template to the byte, against NeMo's own texts (v2.0.0, by tests/neva/against_nemo.py)."""

import pytest

from neva.conversations import STOP, TEMPLATES, Turn, conversation, own_tokens, render, segments

CHAT = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
LLAVA = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
LABEL = "quality:4,toxicity:0,humor:0,creativity:0,helpfulness:4,correctness:4,coherence:4,complexity:4,verbosity:4"
V = "Can you describe the scene?<video>"

SINGLE = {
    "nvgpt": f"<extra_id_0>System\n{CHAT}\n\n<extra_id_1>User\n{V}\n<extra_id_1>Assistant\n<extra_id_2>{LABEL}\n",
    "nv_dpo": f"<extra_id_0>System\n\n<extra_id_1>User\n{V}\n<extra_id_1>Assistant\n",
    "llama_2": f" [INST] <<SYS>>\n{LLAVA}\n<</SYS>>\n\n{V} [/INST]",
    "mistral": f"<extra_id_6> [INST] {V} [/INST]",
    "v1": f"{CHAT} USER: {V} ASSISTANT:",
    "llava_v1": f"{CHAT.replace('user', 'human')} USER: {V} ASSISTANT:",
    "llama_3": (
        f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{LLAVA}<|eot_id|>"
        f"<|start_header_id|>user<|end_header_id|>\n\n{V}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "yi_34b": f"<|im_start|>user\n{V}<|im_end|>\n<|im_start|>assistant\n",
    "plain": "<video>",
    "interleaved": V,
}
SINGLE |= {"nv_steerlm": SINGLE["nvgpt"], "vicuna_v1": SINGLE["v1"]}

TALK = [Turn("One?<video>", "First."), Turn("Two?", "Second."), Turn("Three?")]
MULTI = {
    "nvgpt": (
        f"<extra_id_0>System\n{CHAT}\n\n<extra_id_1>User\nOne?<video>\n<extra_id_1>Assistant\n"
        f"<extra_id_2>{LABEL}\nFirst.\n<extra_id_1>"
        f"User\nTwo?\n<extra_id_1>Assistant\n<extra_id_2>{LABEL}\nSecond.\n<extra_id_1>"
        f"User\nThree?\n<extra_id_1>Assistant\n<extra_id_2>{LABEL}\n"
    ),
    "nv_dpo": (
        "<extra_id_0>System\n\n<extra_id_1>User\nOne?<video>\n<extra_id_1>Assistant\nFirst.\n<extra_id_1>"
        "User\nTwo?\n<extra_id_1>Assistant\nSecond.\n<extra_id_1>User\nThree?\n<extra_id_1>Assistant\n"
    ),
    "llama_2": (
        f" [INST] <<SYS>>\n{LLAVA}\n<</SYS>>\n\nOne?<video> [/INST] First. <extra_id_7>"
        "<extra_id_6> [INST] Two? [/INST] Second. <extra_id_7><extra_id_6> [INST] Three? [/INST]"
    ),
    "mistral": (
        "<extra_id_6> [INST] One?<video> [/INST]First.<extra_id_7> [INST] Two? [/INST]Second.<extra_id_7>"
        " [INST] Three? [/INST]"
    ),
    "v1": (
        f"{CHAT} USER: One?<video> ASSISTANT: First.<extra_id_7> USER: Two? ASSISTANT: Second.<extra_id_7>"
        " USER: Three? ASSISTANT:"
    ),
    "llama_3": (
        f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{LLAVA}<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nOne?<video><|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nFirst.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nTwo?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nSecond.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nThree?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "yi_34b": (
        "<|im_start|>user\nOne?<video><|im_end|>\n<|im_start|>assistant\nFirst.<|im_end|>\n"
        "<|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\nSecond.<|im_end|>\n"
        "<|im_start|>user\nThree?<|im_end|>\n<|im_start|>assistant\n"
    ),
}


def test_every_template_has_a_golden_text() -> None:
    assert set(SINGLE) == set(TEMPLATES)


@pytest.mark.parametrize("name", SINGLE)
def test_one_question(name: str) -> None:
    assert conversation(name, [Turn(V)]) == SINGLE[name]


@pytest.mark.parametrize("name", MULTI)
def test_three_turns(name: str) -> None:
    assert conversation(name, TALK) == MULTI[name]


@pytest.mark.parametrize("name", MULTI)
def test_answers_and_their_ends_are_learned(name: str) -> None:
    learned = [piece.text for piece in segments(name, TALK) if piece.learned]

    assert [text.strip().partition(".")[0] for text in learned] == ["First", "Second"]
    ends = {
        "nvgpt": "\n<extra_id_1>",
        "nv_dpo": "\n<extra_id_1>",
        "llama_2": " <extra_id_7>",
        "llama_3": "<|eot_id|>",
        "yi_34b": "<|im_end|>\n",
    }
    assert all(text.endswith("." + ends.get(name, "<extra_id_7>")) for text in learned)


def test_a_turns_label_is_not_learned() -> None:
    pieces = segments("nv_steerlm", [Turn("Q", "A", label="quality:3,humor:1")])

    assert [piece.text for piece in pieces][1:] == [
        "User\nQ\n<extra_id_1>Assistant\n<extra_id_2>quality:3,humor:1\n",
        "A\n<extra_id_1>",
    ]
    assert [piece.learned for piece in pieces] == [False, False, True]


@pytest.mark.parametrize("name", sorted(set(TEMPLATES) - {"nvgpt", "nv_steerlm", "nv_dpo"}))
def test_other_families_have_no_labels(name: str) -> None:
    assert conversation(name, [Turn("Q", "A", label="quality:3")]) == conversation(name, [Turn("Q", "A")])


# NeMo v2.0.0: the ends of what its preprocess_* functions make of an empty first answer, of an empty last one, and of
# white space, with one token a character
NEMO_ENDS = {
    "nv_dpo": (
        "User\nOne?\n<extra_id_1>Assistant\nUser\nTwo?\n<extra_id_1>Assistant\nSecond.\n<extra_id_1>",
        "First.\n<extra_id_1>User\nTwo?\n<extra_id_1>Assistant\n",
        "User\n One? \n\n<extra_id_1>Assistant\n First. \n\n<extra_id_1>"
        "User\n\tTwo?\n\n<extra_id_1>Assistant\n\nSecond.\n\n<extra_id_1>",
    ),
    "v1": (
        " USER: One? ASSISTANT:USER: Two? ASSISTANT: Second.<extra_id_7>",
        " USER: One? ASSISTANT: First.<extra_id_7> USER: Two? ASSISTANT:",
        " USER:  One? \n ASSISTANT:  First. \n<extra_id_7> USER: \tTwo?\n ASSISTANT: \nSecond.\n<extra_id_7>",
    ),
    "llama_2": (
        "One? [/INST]<extra_id_6> [INST] Two? [/INST] Second. <extra_id_7>",
        "One? [/INST] First. <extra_id_7><extra_id_6> [INST] Two? [/INST]",
        " One? \n [/INST]  First. \n <extra_id_7><extra_id_6> [INST] \tTwo?\n [/INST] \nSecond.\n <extra_id_7>",
    ),
    "mistral": (
        "<extra_id_6> [INST] One? [/INST] [INST] Two? [/INST]Second.<extra_id_7>",
        "<extra_id_6> [INST] One? [/INST]First.<extra_id_7> [INST] Two? [/INST]",
        "<extra_id_6> [INST]  One? \n [/INST] First. \n<extra_id_7> [INST] \tTwo?\n [/INST]\nSecond.\n<extra_id_7>",
    ),
    "llama_3": (
        "One?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n<|start_header_id|>user<|end_header_id|>\n\n"
        "Two?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nSecond.<|eot_id|>",
        "First.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nTwo?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|end_header_id|>\n\n First. \n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n\tTwo?\n<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n\nSecond.\n<|eot_id|>",
    ),
    "yi_34b": (
        "<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n<|im_end|>"
        "<|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\nSecond.<|im_end|>",
        "<|im_start|>assistant\nFirst.<|im_end|>\n<|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n First. \n<|im_end|>\n"
        "<|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\n\nSecond.\n<|im_end|>",
    ),
}


@pytest.mark.parametrize("name", NEMO_ENDS)
def test_empty_answers_and_white_space_are_nemos(name: str) -> None:
    first, last, white = NEMO_ENDS[name]

    assert conversation(name, [Turn("One?", ""), Turn("Two?", "Second.")]).endswith(first)
    assert conversation(name, [Turn("One?", "First."), Turn("Two?", "")]).endswith(last)
    assert conversation(name, [Turn(" One? \n", " First. \n"), Turn("\tTwo?\n", "\nSecond.\n")]).endswith(white)
    assert not segments(name, [Turn("One?", "First."), Turn("Two?", "")])[-1].learned


def test_a_text_of_pretraining_without_media_keeps_its_question() -> None:
    assert conversation("plain", [Turn(" One? \n", " First. \n")]) == " One? \n First. \n\n"


def test_plain_keeps_the_bare_media_token_of_a_question() -> None:
    pieces = segments("plain", [Turn("<video>\nWhat is this?", "A red square.")])

    assert [(piece.text, piece.learned) for piece in pieces] == [("<video>", False), ("A red square.\n", True)]


def test_a_records_system_text_is_taken_to_the_byte() -> None:
    assert conversation("nv_dpo", [Turn("Q")], "Be brief.\n").startswith(
        "<extra_id_0>System\nBe brief.\n<extra_id_1>User\nQ\n"
    )


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("nvgpt", "<extra_id_0>System\nBe brief.\n\n<extra_id_1>User\n"),
        ("nv_dpo", "<extra_id_0>System\nBe brief.\n<extra_id_1>User\n"),
        ("v1", "Be brief. USER: <video>Q"),
        ("llama_2", " [INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n<video>Q [/INST]"),
        ("mistral", "<s> [INST] Be brief.\n<video>Q [/INST]"),
        ("llama_3", "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"),
        ("yi_34b", "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<video>Q<|im_end|>"),
    ],
)
def test_a_system_text_in_a_daemons_prompt(name: str, begins: str) -> None:
    assert render(name, "Q", "Be brief.").startswith(begins)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("text", ["Q", "<video>Q", "Q<video>", "<image>Q"])
def test_a_rendered_prompt_shows_the_frames_once(name: str, text: str) -> None:
    assert render(name, text).count("<video>") == 1
    assert "<image>" not in render(name, text)


def test_an_image_is_followed_by_a_newline_and_a_video_is_not() -> None:
    assert "USER: <video>\nQ ASSISTANT:" in render("v1", "<image>Q")
    assert "USER: <video>Q ASSISTANT:" in render("v1", "<video>Q")


def test_bos_and_eos_are_the_tokenizers_in_llama_like_templates() -> None:
    assert render("mistral", "Q") == "<s> [INST] <video>Q [/INST]"
    assert not render("llama_2", "Q").startswith("<s>")
    assert not render("v1", "Q").startswith("<s>")
    assert own_tokens("llama_2", MULTI["llama_2"], "[B]", "[E]").count("[E][B] [INST]") == 2
    assert own_tokens("nvgpt", "<extra_id_7>") == "<extra_id_7>"


def test_stop_strings() -> None:
    assert {name: stop for name, stop in STOP.items() if stop} == {
        "nvgpt": ("<extra_id_1>",),
        "nv_steerlm": ("<extra_id_1>",),
        "nv_dpo": ("<extra_id_1>",),
        "llama_3": ("<|eot_id|>",),
        "yi_34b": ("<|im_end|>",),
    }


@pytest.mark.parametrize("turns", [[], [Turn("a"), Turn("b")]])
def test_only_the_last_turn_may_lack_an_answer(turns: list[Turn]) -> None:
    with pytest.raises(ValueError, match="last one may lack an answer"):
        segments("v1", turns)
