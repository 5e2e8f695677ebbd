"""The settings of Kafka sources and sinks, declared without the client: a setup without Kafka never loads it.

A source's ``consumer`` and a sink's ``producer`` take any other setting of kafka-python by its own name. Those that a
promise of captiond depends on are refused by name, each with what to write instead or why there is no choice.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from connectors.questions import Questions
from connectors.section import FromRecords, Priority, Section, TakesAnswers

_HOST_PORT = re.compile(r"(?:[^\s:,\[\]]+|\[[0-9a-fA-F:]+\]):\d{1,5}")
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")  # Kafka's own rule for names of topics
_SOURCE_PLACE, _PROMPT_PLACE = "{source}", "{prompt}"

_OURS_CONNECTION = {
    "bootstrap_servers": "write it as the key bootstrap_servers beside this section",
    "security_protocol": "write it as the key security_protocol beside this section",
    "sasl_mechanism": "write it as the key sasl_mechanism beside this section",
    "sasl_plain_username": "write it as the key sasl_username beside this section",
    "sasl_plain_password": "write the key password_file beside this section: passwords are read from files",
    "ssl_cafile": "write it as the key ssl_cafile beside this section",
    "ssl_certfile": "write it as the key ssl_certfile beside this section",
    "ssl_keyfile": "write it as the key ssl_keyfile beside this section",
    "allow_auto_create_topics": "topics are never created by captiond: a name typed wrong must be an error",
}
REFUSED_CONSUMER_SETTINGS = _OURS_CONNECTION | {
    "group_id": "write it as the key group_id of the source",
    "auto_offset_reset": "write start_from: earliest or latest",
    "enable_auto_commit": "a position moves only when captions are durable",
    "auto_commit_interval_ms": "write commit_interval_ms at the top level",
    "default_offset_commit_callback": "a position moves only when captions are durable",
    "isolation_level": "it is read_committed: clips of aborted transactions were never sent",
    "partition_assignment_strategy": "it is cooperative sticky: partitions that stay never stop",
    "group_instance_id": "there is no static membership: the group must see at once that a daemon is gone",
    "fetch_max_bytes": "it follows from limits.in_flight_bytes",
    "max_partition_fetch_bytes": "it follows from limits.in_flight_bytes",
    "max_poll_records": "it follows from limits.max_clips_in_flight",
    "key_deserializer": "keys are bytes and go to the output as they came",
    "value_deserializer": "values are clips or references and are told apart by captiond",
}
REFUSED_PRODUCER_SETTINGS = _OURS_CONNECTION | {
    "acks": "it is all: a caption is durable when every in-sync replica has it",
    "enable_idempotence": "it is on: a retried caption is written once",
    "retries": "a caption is tried until delivery_timeout_ms is over",
    "max_in_flight_requests_per_connection": "more than 5 would break the order of captions",
    "transactional_id": "it is made of the group, the host and a slot, so that a zombie is fenced",
    "transaction_timeout_ms": "it is 15 s, above the delivery time-out of 10 s",
    "delivery_timeout_ms": "it is 10 s, below the transaction time-out of 15 s",
    "compression_type": "write it as the key compression of the sink",
    "key_serializer": "keys are bytes",
    "value_serializer": "values are the messages that the schema describes",
    "partitioner": "captions of one clip share a key and so a partition: their order depends on it",
}


def _split_servers(value: Any) -> Any:
    """Turn ``"a:9092, b:9092"`` into a list; anything but a string is left to pydantic."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _refuse(section: str, given: dict[str, Any], refused: dict[str, str]) -> dict[str, Any]:
    """Return ``given``, or say which of its keys is not for the user and why."""
    for name in given:
        if name in refused:
            raise ValueError(f"{section}.{name} can't be set: {refused[name]}")
    return given


class KafkaConnectionSettings(Section):
    """How a cluster is reached; sources and sink share these keys."""

    bootstrap_servers: Annotated[tuple[str, ...], BeforeValidator(_split_servers)] = Field(
        min_length=1, description="host:port of one or more brokers, as a list or separated by commas"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how the broker's listener is secured"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="how the user proves who they are; needs sasl_username and password_file"
    )
    sasl_username: str | None = Field(None, min_length=1, description="the name the broker knows the user by")
    password_file: Path | None = Field(
        None,
        description="a file that holds the password alone; ${CREDENTIALS_DIRECTORY}/name under systemd",
    )
    ssl_cafile: Path | None = Field(None, description="certificates to trust, PEM; the system's own if null")
    ssl_certfile: Path | None = Field(None, description="the client's own certificate, PEM, where the broker asks")
    ssl_keyfile: Path | None = Field(None, description="the key of ssl_certfile, PEM")

    @field_validator("bootstrap_servers")
    @classmethod
    def _are_addresses(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for server in servers:
            if not _HOST_PORT.fullmatch(server):
                raise ValueError(f"{server!r} is not host:port, for example 127.0.0.1:9092")
        return servers

    @model_validator(mode="after")
    def _security_fits(self) -> Self:
        wants_sasl = self.security_protocol.startswith("SASL_")
        sasl_keys = (self.sasl_mechanism, self.sasl_username, self.password_file)
        if wants_sasl and None in sasl_keys:
            raise ValueError(f"{self.security_protocol} needs sasl_mechanism, sasl_username and password_file")
        if not wants_sasl and any(key is not None for key in sasl_keys):
            raise ValueError(f"sasl_* and password_file contradict security_protocol: {self.security_protocol}")
        ssl_keys = (self.ssl_cafile, self.ssl_certfile, self.ssl_keyfile)
        if not self.security_protocol.endswith("SSL") and any(key is not None for key in ssl_keys):
            raise ValueError(f"ssl_* contradicts security_protocol: {self.security_protocol}")
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ValueError("ssl_keyfile is the key of ssl_certfile, which is missing")
        return self


class ReferenceSettings(Section):
    """What a message may point to. Nothing is allowed unless it is named here."""

    roots: tuple[Path, ...] = Field(default=(), description="folders; a referenced file must lie under one of them")
    url_prefixes: tuple[str, ...] = Field(
        default=(),
        description="for example https://media.example.org/clips/ or s3://bucket/clips/; each ends with a slash",
    )

    @field_validator("url_prefixes")
    @classmethod
    def _are_prefixes(cls, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        for prefix in prefixes:
            if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s?#]+/(?:[^\s?#]*/)?", prefix):
                raise ValueError(f"{prefix!r} is not a prefix: write scheme://host/ or scheme://host/folder/")
            if prefix.startswith(("file:", "local:", "memory:")):
                raise ValueError(f"{prefix!r}: files are allowed with roots")
        return prefixes


class SendersMay(Section):
    """What those who write to a source's topics may decide. A record's bytes are a clip, whoever wrote them."""

    prompt: bool = Field(True, description="ask a question of their own, in a header or a reference")
    clip_id: bool = Field(True, description="say which clip it is, by a CloudEvent's source and id or in a reference")
    replay: bool = Field(
        False, description="say where a clip goes on; false: only what captiond replay of this installation signed"
    )


class KafkaSourceSettings(KafkaConnectionSettings):
    """Clips from one or more topics, as a member of a consumer group."""

    kind: Literal["kafka"] = "kafka"
    topics: tuple[str, ...] = Field((), description="names of the topics; or topic_pattern")
    topic_pattern: str | None = Field(None, description="a regular expression that the whole name of a topic fits")
    group_id: str | None = Field(None, min_length=1, description="the consumer group; captiond-<source> if null")
    start_from: Literal["earliest", "latest"] = Field(
        "earliest", description="where a group starts that has no position, or one that the topic does not have"
    )
    priority: Priority = Field("normal", description="slots go to live sources first; backfill has a share left over")
    references: ReferenceSettings = ReferenceSettings()
    senders_may: SendersMay = SendersMay()
    prompts: dict[str, str | dict[str, Any]] = Field(
        default_factory=dict,
        description="a question of its own for a topic, by its name; or the source's own, as at the top level",
    )
    consumer: dict[str, Any] = Field(default_factory=dict, description="any other setting of kafka-python's consumer")
    prompt: dict[str, Any] = Field(default_factory=dict, description="wins over the top level's prompt, key by key")
    prompts_from_records: FromRecords = Field(
        "replace",
        description="what a question that came with a clip does: replace the first one, append to each; never",
    )
    windows: dict[str, Any] = Field(default_factory=dict, description="wins over the top level's windows, key by key")
    frames: dict[str, Any] = Field(default_factory=dict, description="wins over the top level's frames, key by key")

    @field_validator("topics", mode="before")
    @classmethod
    def _one_topic_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("topics")
    @classmethod
    def _are_topics(cls, topics: tuple[str, ...]) -> tuple[str, ...]:
        for topic in topics:
            if not _TOPIC.fullmatch(topic):
                raise ValueError(f"{topic!r} can't be the name of a topic")
        return topics

    @field_validator("topic_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return pattern

    @field_validator("consumer")
    @classmethod
    def _keeps_promises(cls, given: dict[str, Any]) -> dict[str, Any]:
        return _refuse("consumer", given, REFUSED_CONSUMER_SETTINGS)

    @model_validator(mode="after")
    def _names_topics_once(self) -> Self:
        if bool(self.topics) == (self.topic_pattern is not None):
            raise ValueError("write either topics or topic_pattern")
        return self

    @property
    def topic_prompts(self) -> dict[str, str]:
        """The questions that belong to topics."""
        return {topic: text for topic, text in self.prompts.items() if isinstance(text, str)}

    def reads(self, topic: str) -> bool:
        """Whether the source reads this topic."""
        return topic in self.topics or (
            self.topic_pattern is not None and bool(re.fullmatch(self.topic_pattern, topic))
        )

    def group(self, source: str) -> str:
        """Return the consumer group of the source of this name."""
        return self.group_id or f"captiond-{source}"


class KafkaSinkSettings(KafkaConnectionSettings, TakesAnswers):
    """Captions to topics, rejected clips to a dead-letter topic."""

    kind: Literal["kafka"] = "kafka"
    topic: str = Field(
        "captions.{source}",
        description="where captions go; {source} is the name of the clip's source, {prompt} that of the question",
    )
    dead_letter_topic: str = Field("captions.rejected", description="where rejected clips go; {source} as in topic")
    compression: Literal["gzip", "snappy", "lz4", "zstd"] | None = Field(
        "gzip", description="of messages; snappy, lz4 and zstd need their Python packages; null turns it off"
    )
    producer: dict[str, Any] = Field(default_factory=dict, description="any other setting of kafka-python's producer")

    @field_validator("topic")
    @classmethod
    def _is_template(cls, template: str) -> str:
        if not _TOPIC.fullmatch(template.replace(_SOURCE_PLACE, "x").replace(_PROMPT_PLACE, "x")):
            places = f"{_SOURCE_PLACE} and {_PROMPT_PLACE}"
            raise ValueError(f"{template!r} can't be the name of a topic; the only places in it are {places}")
        return template

    @field_validator("dead_letter_topic")
    @classmethod
    def _is_letters_template(cls, template: str) -> str:
        if not _TOPIC.fullmatch(template.replace(_SOURCE_PLACE, "x")):
            raise ValueError(f"{template!r} can't be the name of a topic; the only place in it is {_SOURCE_PLACE}")
        return template

    @field_validator("producer")
    @classmethod
    def _keeps_promises(cls, given: dict[str, Any]) -> dict[str, Any]:
        return _refuse("producer", given, REFUSED_PRODUCER_SETTINGS)

    @model_validator(mode="after")
    def _keeps_topics_apart(self) -> Self:
        if self.topic == self.dead_letter_topic:
            raise ValueError("topic and dead_letter_topic are the same: readers could not tell the two apart")
        return self

    def know(self, questions: Questions) -> None:
        """Take note of the questions; each has a name where topics go by it."""
        super().know(questions)
        unnamed = next((source for source, asked in questions.of.items() if "" in asked), None)
        if self.tells_questions_apart and unnamed is not None:
            raise ValueError(f"sink.topic has {_PROMPT_PLACE}, and source {unnamed} asks a question without a name")

    @classmethod
    def of_cluster(cls, connection: KafkaConnectionSettings, **more: Any) -> Self:
        """Return the cluster of a source as one to write to."""
        return cls(**{name: getattr(connection, name) for name in KafkaConnectionSettings.model_fields}, **more)

    @property
    def tells_questions_apart(self) -> bool:
        """Whether each question has a topic of its own."""
        return _PROMPT_PLACE in self.topic

    def topic_for(self, source: str, prompt: str | None = None) -> str:
        """Return the topic of the captions of this source, and of the question where that has its own."""
        return self.topic.replace(_SOURCE_PLACE, source).replace(_PROMPT_PLACE, prompt or "")

    def topics_for(self, source: str) -> set[str]:
        """Return the topics of all captions of this source."""
        return {self.topic_for(source, name) for name in self.questions.names(source) or (None,)}

    def dead_letter_topic_for(self, source: str) -> str:
        """Return the topic of the rejections of this source."""
        return self.dead_letter_topic.replace(_SOURCE_PLACE, source)
