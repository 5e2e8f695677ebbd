"""`captiond evaluate` against a loop over the same model in transformers, side by side in one run.

The loop is what NeVA's own script does: prompts one at a time, each clip's frames read once for all of its prompts.
Both answer greedily from the same frames in float32 on the same cores; loading the model is left out on both sides.
One half of the loop runs before captiond's turn and one after it, so a machine that is busy for a while slows both.

    python -m bench.evaluate [prompts] [clips]
"""

import asyncio
import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PROMPTS, CLIPS = 500, 100
WANTED_RATIO = 5.0
FRAMES, TOKENS = 8, 64
QUESTIONS = (
    "Describe this video.",
    "What happens in this video?",
    "Can you describe the scene?",
    "Write a caption for this video.",
    "What do you see in these frames?",
)


def make_job(folder: Path, prompts: int, clips: int) -> list[dict[str, Any]]:
    """Write clips and a prompt file; return its records."""
    from neva.shapes.scenes import random_scene, write_clip

    for number in range(clips):
        write_clip(str(folder / f"{number}.mp4"), random_scene(1_000_000 + number))
    records = [
        {"video": f"{n % clips}.mp4", "text": QUESTIONS[n // clips % len(QUESTIONS)], "question_id": n}
        for n in range(prompts)
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return records


def read_frames(path: Path) -> list[NDArray[np.uint8]]:
    """Return the frames that NeVA shows of a clip, read as its own loader reads them."""
    import av

    from daemon.windows import neva_frame_indices

    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False) for frame in container.decode(video=0)]
    return [frames[number] for number in neva_frame_indices(len(frames), FRAMES)]


def transformers_loop(folder: Path, records: list[dict[str, Any]], model_folder: Path) -> tuple[float, list[str]]:
    """Return how long a loop over the prompts takes, in seconds, and its answers."""
    import torch
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    from neva.conversations import render

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    processor = AutoProcessor.from_pretrained(model_folder)
    model = LlavaForConditionalGeneration.from_pretrained(model_folder, dtype=torch.float32).eval()
    shown: dict[str, list[NDArray[np.uint8]]] = {}
    answers = []
    began_s = time.perf_counter()
    for record in records:
        if record["video"] not in shown:
            shown[record["video"]] = read_frames(folder / record["video"])
        prompt = render("v1", f"<video>{record['text']}").replace("<video>", "<image>" * FRAMES)
        inputs = processor(text=prompt, images=shown[record["video"]], return_tensors="pt", add_special_tokens=False)
        with torch.inference_mode():
            ids = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
        answers.append(processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return time.perf_counter() - began_s, [answer.strip() for answer in answers]


class ReadyClock(logging.Handler):
    """Notes when the supervisor says that the model answers."""

    ready_s = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Look at one line of the log."""
        if record.getMessage().startswith("Ready"):
            self.ready_s = time.perf_counter()


def captiond_job(folder: Path, model: str) -> tuple[float, list[str]]:
    """Return how long `evaluate` takes once its model answers, in seconds, and its answers."""
    from neva.evaluate.job import evaluate
    from neva.evaluate.settings import read_evaluate_settings

    clock = ReadyClock()
    logger = logging.getLogger("daemon.supervisor")
    logger.setLevel(logging.INFO)
    logger.addHandler(clock)
    settings, _ = read_evaluate_settings(
        None,
        None,
        [
            f"neva_model_file={model}",
            *("tensor_model_parallel_size=1", "trainer.devices=1", "trainer.precision=32"),
            f"prompt_file={folder / 'prompts.jsonl'}",
            f"output_file={folder / 'out.jsonl'}",
            f"inference.media_base_path={folder}",
            *("inference.media_type=video", "inference.insert_media_token=left", "inference.greedy=True"),
            f"inference.tokens_to_generate={TOKENS}",
            *(f"+data.num_frames={FRAMES}", "+data.conv_template=v1", "+engine.max_model_len=1024"),
        ],
    )
    done_s = 0.0

    def show(_: str) -> None:
        nonlocal done_s
        done_s = time.perf_counter()

    code = asyncio.run(evaluate(settings, show))
    assert code == 0, code
    answers = [json.loads(line)["pred_answer"] for line in (folder / "out.jsonl").read_text().splitlines()]
    return done_s - clock.ready_s, answers


def main() -> int:
    """Measure both and print the ratio; 1 where it is below what is wanted."""
    given = [int(argument) for argument in sys.argv[1:]]
    prompts, clips = (*given, *(PROMPTS, CLIPS)[len(given) :])
    from daemon.engines.model.bundled import bundled_model
    from neva.registration import register

    register()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = make_job(folder, prompts, clips)
        halves = records[: prompts // 2], records[prompts // 2 :]
        before_s, before = transformers_loop(folder, halves[0], bundled_model())
        ours_s, ours = captiond_job(folder, "bundled")
        after_s, after = transformers_loop(folder, halves[1], bundled_model())
    theirs_s, theirs = before_s + after_s, before + after
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    ratio = theirs_s / ours_s
    print(
        f"captiond evaluate: {prompts / ours_s:.1f} records/s ({prompts} prompts over {clips} clips in {ours_s:.1f} s)"
    )
    print(f"transformers loop: {prompts / theirs_s:.1f} records/s ({before_s:.1f} s before, {after_s:.1f} s after)")
    print(f"ratio: {ratio:.1f} (at least {WANTED_RATIO:g} is wanted); {same} of {prompts} answers are the same")
    return 0 if ratio >= WANTED_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
