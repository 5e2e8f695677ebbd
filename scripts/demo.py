"""Caption generated and real clips with the bundled model, folder to folder, and print what came out."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from neva.shapes.scenes import HELD_OUT_SEEDS, film_of, write_demo_clips, write_film

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "build" / "demo"
REAL_CLIPS = ROOT / "build" / "clips"


def fill_inbox(inbox: Path) -> None:
    """Draw three short clips and one of three scenes, and add the real clips."""
    write_demo_clips(inbox / "shapes", 3)
    write_film(inbox / "shapes" / "film.mp4", film_of(HELD_OUT_SEEDS[100:103], scene_s=10.0))
    (inbox / "real").mkdir()
    for clip in sorted(REAL_CLIPS.glob("*.mp4")):
        shutil.copy(clip, inbox / "real" / clip.name)


def show(captions: Path) -> int:
    """Print each clip's captions with their times; return how many there are."""
    count = 0
    for file in sorted(captions.rglob("*.jsonl")):
        print(f"\n{file.relative_to(captions).with_suffix('')}")
        for line in file.read_text().splitlines():
            message = json.loads(line)
            if message["type"] != "captiond.caption.v1":
                continue
            span = message["window"]
            print(f"  {span['start_ns'] / 1e9:7.2f} s - {span['exclusive_end_ns'] / 1e9:6.2f} s  {message['text']}")
            count += 1
    return count


def main() -> int:
    """Run the daemon once over a fresh inbox; 0 when every clip was captioned."""
    shutil.rmtree(DEMO, ignore_errors=True)
    fill_inbox(DEMO / "inbox")
    config = DEMO / "captiond.yaml"
    config.write_text(
        "sources:\n  inbox: {kind: folder, path: inbox, settle_s: 0.1}\n"
        "sink: {kind: folder, path: captions}\nengine: {model: bundled}\nhttp: null\n"
    )
    code = subprocess.run(
        [sys.executable, "-m", "daemon", "run", "--once", "-c", str(config)], cwd=ROOT, check=False
    ).returncode
    if code != 0:
        return code
    count = show(DEMO / "captions")
    print(f"\n{count} captions in {DEMO / 'captions'}, as JSON Lines and as WebVTT beside them.")
    print("The bundled model knows only coloured shapes that move: what it says of the real clips means nothing.")
    print("To name a real model: captiond caption CLIP --model FOLDER_OR_NAME")
    return 0 if count and not any((DEMO / "inbox" / "failed").rglob("*")) else 1


if __name__ == "__main__":
    sys.exit(main())
