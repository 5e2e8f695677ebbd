"""A window's request: the same pixels and times in every form, and from the pictures alone."""

import numpy as np
import pytest

from daemon.engines.model.media_form import MediaForm
from daemon.engines.openai.request import EncodedWindow, request_body
from daemon.prompts.prompt import Prompt
from tests.unit.daemon.engines.openai.video_servers import pixels_of
from tests.windows_of_noise import noise

ASK = Prompt("What is shown?", system="Be brief.", seed=3)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 300])
@pytest.mark.parametrize("form", [MediaForm("image"), MediaForm("video"), MediaForm("video", 2)])
def test_shows_the_frames_that_a_model_here_is_shown_and_tells_their_times(num_frames: int, form: MediaForm) -> None:
    frames = noise(num_frames, 5, 7, index=3)

    body = request_body("shapes", EncodedWindow.of(frames), ASK, form)

    if form.modality == "image":
        np.testing.assert_array_equal(pixels_of(body), frames.frames)
        assert "media_io_kwargs" not in body
    else:
        ((shown, metadata),) = form.window_media(frames)["video"]
        np.testing.assert_array_equal(pixels_of(body), shown)
        told = body["media_io_kwargs"]["video"]
        assert told == {"num_frames": -1, **{name: metadata[name] for name in told if name != "num_frames"}}


def test_what_else_a_server_is_to_be_told_stands_beside() -> None:
    window = EncodedWindow.of(noise(1, 5, 7))

    body = request_body("shapes", window, ASK, MediaForm("video"), {"chat_template_kwargs": {"enable_thinking": False}})

    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["seed"] == 3
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_window_says_what_memory_it_takes_and_shows_no_pixels() -> None:
    window = EncodedWindow.of(noise(2, 64, 64))

    assert window.size_bytes == sum(map(len, window.pictures)) > 2 * 64 * 64 * 3
    assert len(repr(window)) < 1000
