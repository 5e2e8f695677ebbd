"""The settings of every connector: the unions that a configuration is read into, and what routes are built from.

Declared apart from the connectors themselves, so that reading a configuration loads none of them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import Field

from connectors.folder.settings import FolderSinkSettings, FolderSourceSettings
from connectors.kafka.settings import KafkaSinkSettings, KafkaSourceSettings
from connectors.questions import NAME as NAME
from connectors.questions import Questions as Questions
from connectors.stream.settings import StreamSourceSettings
from connectors.tar.settings import TarSourceSettings

AnySource = FolderSourceSettings | TarSourceSettings | KafkaSourceSettings | StreamSourceSettings
AnySink = FolderSinkSettings | KafkaSinkSettings
SourceSettings = Annotated[AnySource, Field(discriminator="kind")]
SinkSettings = Annotated[AnySink, Field(discriminator="kind")]


class ConnectorLimits(Protocol):
    """The part of the configuration's ``limits`` that connectors keep."""

    @property
    def max_clips_in_flight(self) -> int: ...
    @property
    def in_flight_bytes(self) -> int: ...
    @property
    def max_clip_bytes(self) -> int: ...
    @property
    def alike_failures(self) -> int: ...


class ConnectorSettings(Protocol):
    """The part of the whole configuration that connectors read."""

    @property
    def sources(self) -> Mapping[str, AnySource]: ...
    @property
    def sink(self) -> AnySink: ...
    @property
    def delivery(self) -> str: ...
    @property
    def commit_interval_ms(self) -> int: ...
    @property
    def limits(self) -> ConnectorLimits: ...
    @property
    def state_dir(self) -> Path: ...
