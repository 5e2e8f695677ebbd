"""The settings of frames: their policies, and the keys that are refused or ignored."""

import pytest

from daemon.windows import FramePolicy
from neva.media_settings import MediaSettings, without_ignored


def test_settings_become_policies() -> None:
    assert MediaSettings().to_policies()[1] == FramePolicy(rule="neva", num_frames=8)
    assert MediaSettings(splice_single_frame="middle").to_policies()[1] == FramePolicy(
        rule="neva", num_frames=1, splice="middle"
    )
    assert MediaSettings(media_type="image", num_frames=8).frames_shown == 1
    assert MediaSettings().to_policies()[0].whole


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_frames": -1}, "every frame"),
        ({"num_frames": 0}, "greater than or equal to 1"),
        ({"image_aspect_ratio": "keep"}, "write square or pad"),
        ({"splice_single_frame": "centre"}, "'first', 'middle' or 'last'"),
        ({"media_type": "image", "splice_single_frame": "first"}, "an image has one"),
    ],
)
def test_what_neva_can_not_do_is_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MediaSettings.model_validate(values)


def test_keys_without_effect_are_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    assert without_ignored({"image_token_len": 256, "num_frames": 4}) == {"num_frames": 4}
    assert "data.image_token_len is ignored: it follows from crop size and patch size." in caplog.text
