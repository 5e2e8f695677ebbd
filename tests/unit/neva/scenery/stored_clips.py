"""Drawn clips in the form that they are kept in."""

import numpy as np

from neva.scenery.compose import SceneClip
from neva.scenery.dataset import SceneClips, label_row


def stored(clips: list[SceneClip]) -> SceneClips:
    """Return drawn clips as they are kept."""
    return SceneClips(
        np.stack([clip.frames for clip in clips]),
        np.array([label_row(clip) for clip in clips]),
        np.stack([clip.motion for clip in clips]).astype(np.float16),
        np.stack([clip.flow for clip in clips]).astype(np.float16),
    )
