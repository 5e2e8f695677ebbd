"""The settings of live streams. A URL may hold a password, so no message of this module shows one."""

from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import Field, model_validator

from connectors.section import Bytes, FromRecords, Priority, Section

RTSP = ("rtsp", "rtsps")
SCHEMES = (*RTSP, "rtmp", "rtmps", "srt", "udp", "http", "https")
_LEAST_DISK = 16 * 2**20


class StreamSourceSettings(Section):
    """Windows of a live stream, which is recorded to disk first. Windows lie on the wall clock."""

    kind: Literal["stream"] = "stream"
    url: str = Field(
        min_length=1, repr=False, description="rtsp(s), rtmp(s) or srt URL, udp:// MPEG-TS, or http(s) HLS"
    )
    transport: Literal["tcp", "udp"] = Field("tcp", description="how RTSP's media come")
    username: str | None = Field(None, min_length=1, repr=False, description="where it does not stand in the URL")
    password_file: Path | None = Field(
        None, description="a file that holds the password alone; ${CREDENTIALS_DIRECTORY}/name under systemd"
    )
    ssl_verify: bool = Field(True, description="whether a server's certificate must be trusted")
    ssl_cafile: Path | None = Field(None, description="certificates to trust, PEM; the system's own if null")
    segment_s: float = Field(1.0, ge=0.1, le=60, description="a segment ends at the first key frame behind this")
    max_disk: Bytes = Field(
        2 * 2**30, ge=_LEAST_DISK, description="what the recording may take; the oldest is thrown away first"
    )
    silence_s: float = Field(
        10.0, ge=1, le=600, description="a connection on which nothing came for this long is made anew"
    )
    on_lag: Literal["wait", "thin", "skip"] = Field(
        "wait", description="behind: keep all the disk holds, ask with half the frames, or skip the oldest windows"
    )
    lag_s: float = Field(
        30.0, ge=0, le=86_400, description="with thin or skip: a window without a caption after so long is behind"
    )
    priority: Priority = Field("live", description="slots go to live sources first; backfill has a share left over")
    record_while_down: bool = Field(False, description="whether recording goes on while the daemon is down")
    prompt: dict[str, Any] = Field(default_factory=dict, description="wins over the top level's prompt, key by key")
    prompts: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="the source's own questions, instead of the top level's"
    )
    windows: dict[str, Any] = Field(default_factory=dict, description="wins over the top level's windows, key by key")
    frames: dict[str, Any] = Field(default_factory=dict, description="wins over the top level's frames, key by key")

    @property
    def prompts_from_records(self) -> FromRecords:
        """Nothing comes with a stream that could ask."""
        return "never"

    @property
    def scheme(self) -> str:
        """The URL's scheme."""
        return urlsplit(self.url).scheme

    @model_validator(mode="after")
    def _names_a_stream(self) -> Self:
        """Judge the whole, so that a complaint shows no value: pydantic's own would show the URL."""
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise ValueError("url is no URL: write scheme://host:port/path, with special characters as %40") from None
        if parts.scheme not in SCHEMES:
            raise ValueError(f"url begins with none of {', '.join(SCHEMES)}")
        if not host and parts.scheme != "udp":
            raise ValueError("url names no host: write scheme://host:port/path, with special characters as %40")
        if any(ord(char) <= 32 or ord(char) == 127 for char in self.url):
            raise ValueError("url has a space or a control character: write it as %20")
        if self.transport == "udp" and parts.scheme not in RTSP:
            raise ValueError("transport is RTSP's alone: the other kinds of URL say how they come")
        if self.password_file is not None and self.username is None and not parts.username:
            raise ValueError("password_file needs username, or a user in url")
        if self.password_file is not None and parts.password:
            raise ValueError("url and password_file both hold a password: keep one of them")
        if self.username is not None and parts.username:
            raise ValueError("url and username both name a user: keep one of them")
        return self

    def address(self, password: str | None) -> str:
        """Return the URL with its user, and the password where it came from a file: for the recorder alone."""
        parts = urlsplit(self.url)
        if self.username is None and password is None:
            return self.url
        user = parts.username if self.username is None else quote(self.username, safe="")
        secret = parts.password if password is None else quote(password, safe="")
        host = parts.netloc.rpartition("@")[2]
        login = user if secret is None else f"{user}:{secret}"
        return urlunsplit(parts._replace(netloc=f"{login}@{host}"))
