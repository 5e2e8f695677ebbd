"""The errors that packages hand to each other, and what each means for a clip.

    CaptiondError
    ├── Transient            try the clip again from its next window; nothing is acknowledged
    ├── Poison               this clip can't be captioned: reject it (dead letter), then acknowledge
    └── Fatal                the program can't go on: it stops with `exit_code`
        ├── ConfigurationError   78, the configuration is wrong; `path` names the key
        ├── EngineLost           75, the engine died or hangs; the service manager starts the program again
        └── Unavailable          75, what a command needs does not answer; calling it again later goes on

Errors of libraries are translated where they appear, once. Messages say what to do and carry no stack
traces; those of :class:`Poison` reach readers outside and carry no path of the machine.
"""

from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """Exit codes, after sysexits.h."""

    CLEAN = 0
    USAGE = 64
    CLIP_FAILED = 65
    BUG = 70
    ENGINE_LOST = 75
    CONFIGURATION = 78


class Reason(StrEnum):
    """Why a clip is rejected: the codes that dead letters, reason files and metrics carry."""

    EMPTY = "empty"  # zero bytes
    TOO_LARGE = "too_large"  # more bytes than limits.max_clip_bytes
    NOT_A_VIDEO = "not_a_video"  # no allowed container recognises it
    FORBIDDEN_FORMAT = "forbidden_format"  # a playlist, a session description and the like
    NO_VIDEO_STREAM = "no_video_stream"  # audio only
    NO_FRAMES = "no_frames"  # a video stream without one decodable frame
    UNSUPPORTED_CONTAINER = "unsupported_container"  # a video, in a container that is not read
    UNSUPPORTED_CODEC = "unsupported_codec"  # a video whose frames no allowed decoder reads
    ENCRYPTED = "encrypted"  # its frames are encrypted
    TRUNCATED = "truncated"  # ends before what it declares; intact windows are captioned
    CORRUPT = "corrupt"  # can't be decoded further
    OVER_BUDGET = "over_budget"  # width x height x frames above the limits
    DECODE_DEADLINE = "decode_deadline"  # the decoder took too long
    DECODER_DIED = "decoder_died"  # the decoder's process crashed, every time it was tried
    VANISHED = "vanished"  # the file went away
    CHANGED = "changed"  # the file changed while it was read
    FORBIDDEN_PATH = "forbidden_path"  # outside the allowed roots, a symbolic link, not a regular file
    MALFORMED = "malformed"  # a message that can't be parsed
    OVER_CONTEXT = "over_context"  # prompt + max_tokens above max_model_len, or frames above the encoder's budget
    PROMPT = "prompt"  # the prompt and the template do not fit together
    RENDER_DEADLINE = "render_deadline"  # rendering a window took too long, every time it was tried
    RENDERER_DIED = "renderer_died"  # the renderer's process crashed, every time it was tried
    ENGINE_DEADLINE = "engine_deadline"  # a request never returned, every time it was tried
    ENGINE_REFUSED = "engine_refused"  # the engine refuses the request itself
    ENGINE_KILLER = "engine_killer"  # the engine died twice with this clip, the second time alone
    KILLER = "killer"  # the program ended unforeseen twice with this clip alone
    CAPTION_TOO_LARGE = "caption_too_large"  # the output refuses a message of this size


class CaptiondError(Exception):
    """Any error that captiond raises on purpose."""


class Transient(CaptiondError):
    """Something that may work when tried again. The last failure's ``reason`` is the rejection's when it never does."""

    def __init__(self, detail: str, *, reason: str = Reason.CORRUPT, origin: str = "") -> None:
        super().__init__(detail)
        self.detail, self.reason, self.origin = detail, reason, origin


class Poison(CaptiondError):
    """This clip can't be captioned. ``origin`` is the part that found out: source, sampler, prompt or engine."""

    def __init__(self, reason: str, detail: str, *, origin: str = "sampler") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail, self.origin = str(reason), detail, origin


class EmptySpan(Poison):
    """No frame begins in the span that is a clip's one window: what was recorded shows nothing of its own there."""

    def __init__(self) -> None:
        super().__init__(Reason.NO_FRAMES, "no frame begins in the window")


class Fatal(CaptiondError):
    """The program can't go on."""

    exit_code: int = ExitCode.BUG


class ConfigurationError(Fatal):
    """The configuration is wrong. ``path`` is the key's, dotted; empty where it is the file as a whole."""

    exit_code = ExitCode.CONFIGURATION

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


class EngineLost(Fatal):
    """The engine died or makes no progress. Nothing more is published; the service manager starts the program again."""

    exit_code = ExitCode.ENGINE_LOST


class Unavailable(Fatal):
    """What a command needs does not answer, or not any more. Called again later, it goes on where it stopped."""

    exit_code = ExitCode.ENGINE_LOST
