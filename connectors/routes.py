"""The table: which source, sink and route a configuration means."""

from typing import Annotated

from pydantic import Field

from connectors.folder_settings import FolderSinkSettings, FolderSourceSettings
from connectors.kafka_settings import KafkaSinkSettings, KafkaSourceSettings

SourceSettings = Annotated[FolderSourceSettings | KafkaSourceSettings, Field(discriminator="kind")]
SinkSettings = Annotated[FolderSinkSettings | KafkaSinkSettings, Field(discriminator="kind")]
