"""NeVA's evaluation as a whole: both command lines of its guide, crashes, failures, and what is printed.

The fake engine stands for the model but where a test says otherwise; frames come through the real decoder.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError, ExitCode
from neva.evaluate.job import evaluate
from neva.evaluate.settings import read_evaluate_settings
from testing.repository import ROOT
from tests.pipeline.test_neva_frames import write_clip

FAKE = ["tensor_model_parallel_size=1", "trainer.devices=1", "+engine.kind=fake", "+data.conv_template=v1"]
COMMAND = "import typer, sys; from neva.commands import register; app = typer.Typer(); register(app); app()"


class Desk:
    """A folder with clips, a prompt file and room for the output."""

    def __init__(self, folder: Path, clips: int = 2) -> None:
        self.folder = folder
        (folder / "clips").mkdir()
        for number in range(clips):
            write_clip(folder / "clips" / f"{number}.mp4", 5 + number)

    def prompts(self, records: list[dict[str, Any]], name: str = "prompts.jsonl") -> None:
        text = json.dumps(records) if name.endswith(".json") else "".join(json.dumps(one) + "\n" for one in records)
        (self.folder / name).write_text(text)

    def arguments(self, *more: str, prompts: str = "prompts.jsonl", output: str = "out.jsonl") -> list[str]:
        return [
            f"prompt_file={self.folder / prompts}",
            f"output_file={self.folder / output}",
            f"inference.media_base_path={self.folder / 'clips'}",
            "inference.media_type=video",
            *more,
        ]

    async def run(self, *more: str, **names: str) -> tuple[ExitCode, list[str]]:
        settings, _ = read_evaluate_settings(None, None, [*FAKE, *self.arguments(*more, **names)])
        shown: list[str] = []
        return await evaluate(settings, shown.append), shown

    def records(self, name: str = "out.jsonl") -> list[dict[str, Any]]:
        text = (self.folder / name).read_text()
        return json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def ask(video: str, text: str = "Can you describe the scene?", **more: Any) -> dict[str, Any]:
    return {"video": video, "text": text, "category": "conv", "question_id": 0, **more}


async def test_a_record_has_nevas_keys_in_nevas_order(desk: Desk) -> None:
    desk.prompts([ask("0.mp4")])

    code, shown = await desk.run("inference.insert_media_token=right", "neva_model_file=bundled")

    (record,) = desk.records()
    assert code is ExitCode.CLEAN
    assert list(record) == [
        "video",
        "text",
        "category",
        "question_id",
        "prompt",
        "full_text",
        "pred_answer",
        "model_id",
        "answer_id",
        "metadata",
    ]
    assert record["prompt"] == "Can you describe the scene?<video>"
    assert record["pred_answer"].startswith("Window 0 shows 8 frames of 64 x 48")
    assert record["full_text"].endswith(f"USER: Can you describe the scene?<video> ASSISTANT: {record['pred_answer']}")
    assert (record["model_id"], record["answer_id"], record["metadata"]) == ("bundled", 0, {})
    assert shown == [
        f"------------- PROMPT 0 of 1 ------------ \n{record['full_text']}\n\n"
        f"CLEAN RESPONSE: {record['pred_answer']}\n{'-' * 45}\n"
    ]


async def test_the_first_generations_key_and_lists(desk: Desk) -> None:
    desk.prompts([ask("0.mp4", answer_id="x", metadata={"a": 1}, own=[1])], "prompts.json")

    await desk.run(
        "inference.insert_media_token=left", "+inference.answer_key=text", prompts="prompts.json", output="out.json"
    )

    (record,) = desk.records("out.json")
    assert record["text"].startswith("Window 0 shows")
    assert "pred_answer" not in record
    assert (record["answer_id"], record["metadata"], record["own"]) == ("x", {"a": 1}, [1])


async def test_log_probabilities_stand_in_the_record(desk: Desk) -> None:
    desk.prompts([ask("0.mp4")])
    short = ["inference.insert_media_token=right", "inference.tokens_to_generate=3"]

    await desk.run(*short, "inference.compute_logprob=True")
    (own,) = desk.records()
    await desk.run(*short, "inference.all_probs=True")
    (likeliest,) = desk.records()

    assert list(own)[-1] == "logprobs"
    assert [token["token"] for token in own["logprobs"]] == own["pred_answer"].split() == ["Window", "0", "shows"]
    assert all(token.keys() == {"token", "logprob"} for token in own["logprobs"])
    assert [len(token["top_logprobs"]) for token in likeliest["logprobs"]] == [5, 5, 5]


async def test_the_order_is_the_prompts_whatever_is_done_first(desk: Desk) -> None:
    script = desk.folder / "script.yaml"
    script.write_text("reverse_by: 6\n")
    desk.prompts([ask(f"{n % 2}.mp4", f"Question {n}?", question_id=n) for n in range(6)])

    _, shown = await desk.run("inference.insert_media_token=right", f"+engine.script={script}", "+engine.delay_ms=30")

    assert [record["question_id"] for record in desk.records()] == list(range(6))
    assert [text.split()[2] for text in shown] == ["0", "1", "2", "3", "4", "5"]


async def test_frames_are_the_checkpoints_or_the_command_lines(desk: Desk) -> None:
    desk.prompts([ask("0.mp4")])

    await desk.run("inference.insert_media_token=right", "+data.num_frames=3")
    three = desk.records()[0]["pred_answer"]
    await desk.run("inference.insert_media_token=right", "+data.splice_single_frame=middle")
    one = desk.records()[0]["pred_answer"]
    await desk.run("inference.insert_media_token=right", "+data.num_frames=3", "+data.image_aspect_ratio=pad")
    padded = desk.records()[0]["pred_answer"]

    assert three.startswith("Window 0 shows 3 frames of 64 x 48")
    assert "from 0 to 160 ms" in three  # the first and the last of 5 frames at 25 a second
    assert one.startswith("Window 0 shows 1 frames")
    assert "from 80 to 80 ms" in one
    assert padded.startswith("Window 0 shows 3 frames of 64 x 64")


async def test_a_clip_that_can_not_be_had_is_an_error_in_its_record(desk: Desk) -> None:
    desk.prompts([ask("gone.mp4"), ask("0.mp4"), ask("../../etc/passwd")])

    code, shown = await desk.run("inference.insert_media_token=right")

    records = desk.records()
    assert code is ExitCode.CLIP_FAILED
    assert [record.get("error", "").split(":")[0] for record in records] == ["vanished", "", "forbidden_path"]
    assert [record["pred_answer"] == "" for record in records] == [True, False, True]
    assert "ERROR: vanished" in shown[0]


@pytest.mark.parametrize(
    ("record", "placement", "message"),
    [
        (ask("0.mp4"), "null", "record 1: the prompt shows <video> 0 times"),
        (ask("0.mp4", "<video>Why?"), "left", "record 1: the prompt shows <video> 2 times"),
        ({"image": "a.png", "text": "Why?"}, "left", "record 1 lacks 'video'"),
        ({"video": "0.mp4"}, "left", "record 1 lacks 'prompt' or 'text' or 'question'"),
    ],
)
async def test_prompts_are_checked_before_anything_is_loaded(
    desk: Desk, record: dict[str, Any], placement: str, message: str
) -> None:
    desk.prompts([record])

    with pytest.raises(ConfigurationError, match=message):
        await desk.run(f"inference.insert_media_token={placement}")


async def test_a_prompt_above_the_context_is_an_error_in_its_record(desk: Desk) -> None:
    desk.prompts([ask("0.mp4")])

    code, _ = await desk.run("inference.insert_media_token=right", "inference.tokens_to_generate=131072")

    assert code is ExitCode.CLIP_FAILED
    assert desk.records()[0]["error"].startswith("over_context: ")


def start(desk: Desk, *more: str) -> "subprocess.Popen[str]":
    """Start the command as a person does."""
    arguments = ["evaluate", "--config-path", str(ROOT / "config"), "--config-name", "neva_inference.yaml"]
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments, *FAKE, *desk.arguments(*more)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def journal_lines(desk: Desk) -> int:
    path = desk.folder / "out.jsonl.journal"
    return len(path.read_bytes().splitlines()) if path.exists() else 0


@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_that_was_cut_off_goes_on(desk: Desk, number: signal.Signals) -> None:
    desk.prompts([ask(f"{n % 2}.mp4", question_id=n) for n in range(40)])
    script = desk.folder / "script.yaml"
    script.write_text("{}\n")
    slow = ["inference.insert_media_token=right", "+engine.delay_ms=300", "+engine.slots=1", f"+engine.script={script}"]

    first = start(desk, *slow)
    deadline = time.monotonic() + 100
    while journal_lines(desk) < 5 and time.monotonic() < deadline and first.poll() is None:
        time.sleep(0.05)
    first.send_signal(number)
    first.communicate(timeout=100)
    kept = journal_lines(desk) - 1
    assert 4 <= kept < 40
    assert not (desk.folder / "out.jsonl").exists()

    script.write_text("delays_ms: {'': 0}\n")  # for every request
    second = start(desk, *slow)
    said, _ = second.communicate(timeout=100)

    assert second.returncode == 0
    assert f"{kept} answers of an earlier run are kept" in said or number is signal.SIGKILL
    assert said.count("CLEAN RESPONSE: ") == 40 - kept
    assert [record["question_id"] for record in desk.records()] == list(range(40))
    assert journal_lines(desk) == 0


async def test_images_are_asked_about_too(desk: Desk) -> None:
    from PIL import Image

    Image.new("RGB", (32, 32), (200, 10, 10)).save(desk.folder / "clips" / "red.png")
    desk.prompts([{"image": "red.png", "prompt": "What colour?<image>"}])

    code, _ = await desk.run("inference.media_type=image")

    (record,) = desk.records()
    assert code is ExitCode.CLEAN
    assert record["pred_answer"].startswith("Window 0 shows 1 frames of 32 x 32, mean colour #c80a0a")
    assert "USER: What colour?<image>\n ASSISTANT:" in record["full_text"]
