"""The settings of adapters that are trained in the place of the language model, under NeVA's own names: LoRA alone."""

from typing import Any, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, field_validator, model_validator

from connectors.section import Section

InitMethod = Literal["xavier", "normal", "kaiming", "zero"]

# NeMo's names for parts of a layer, and the modules that Hugging Face's Llama, Mistral and Nemotron have in their place
MODULES = {
    "attention_qkv": ("q_proj", "k_proj", "v_proj"),
    "attention_dense": ("o_proj",),
    "mlp_fc1": ("gate_proj", "up_proj"),
    "mlp_fc2": ("down_proj",),
}
_GROUPS = {
    "attention": ("attention_qkv", "attention_dense"),
    "mlp": ("mlp_fc1", "mlp_fc2"),
    "all": tuple(MODULES),
}
PROJECTOR_SHARE = 0.1  # of the learning rate, as NeMo's recipe has it
_OFF = (None, "none")
OTHER_SCHEMES = {
    "adapter": "NeMo's bottleneck adapters are layers of their own, which no server of Llama has",
    "ia3": "IA3's scales are parameters that no server of Llama has",
    "ptuning": "virtual tokens are embeddings that no server of Llama has",
    "mlp_head": "a head of another width generates no text",
    "qlora": "the language model is not quantised while it is trained",
    "selective": "parts are trained or frozen whole (`freeze` under mm_cfg)",
    "sdlora": "it is for Stable Diffusion",
}

# What the third of NeVA's recipes has where its file says nothing: the language model frozen under its adapter.
LORA_DEFAULTS: dict[str, Any] = {
    "model": {
        "mm_cfg": {"llm": {"freeze": True}},
        "optim": {"lr": 2e-4, "sched": {"warmup_steps": 200, "min_lr": 2e-7}},
    }
}


class LoraSettings(Section):
    """A LoRA adapter: which modules of the language model have one, and how it begins."""

    adapter_dim: PositiveInt = Field(default=32, description="the rank")
    alpha: PositiveInt | None = Field(default=None, description="it counts alpha/adapter_dim; null: adapter_dim")
    adapter_dropout: NonNegativeFloat = Field(default=0.0, lt=1, description="the share of its input that is dropped")
    dropout_position: Literal["pre", "post"] = Field(default="post", description="pre is the one that is trained")
    target_modules: tuple[str, ...] = Field(
        default=("attention_qkv",), description=f"of {', '.join((*MODULES, *_GROUPS))}"
    )
    variant: Literal["nemo", "canonical"] = Field(
        default="nemo", description="nemo: q, k and v share one matrix on the input's side, gate and up another"
    )
    column_init_method: InitMethod = Field(default="xavier", description="how the input's side begins")
    row_init_method: InitMethod = Field(default="zero", description="how the output's side begins")
    layer_selection: tuple[PositiveInt, ...] | None = Field(
        default=None, description="the layers that have one, counted from 1; null: all"
    )
    weight_tying: Literal[False] = Field(default=False, description="an adapter that all layers share is not trained")
    position_embedding_strategy: None = Field(default=None, description="it is for weight_tying")

    @field_validator("target_modules")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = (*MODULES, *_GROUPS)
        if unknown := [name for name in value if name not in known]:
            raise ValueError(f"{unknown[0]!r} is no part of a layer; there are {', '.join(known)}")
        if not value:
            raise ValueError("an adapter of no modules learns nothing")
        return value

    @model_validator(mode="after")
    def _trainable(self) -> Self:
        if self.adapter_dropout and self.dropout_position == "post":
            raise ValueError("dropout falls on the adapter's input here: write dropout_position: pre, or no dropout")
        if self.column_init_method == self.row_init_method == "zero":
            raise ValueError("an adapter that begins with zeros on both sides learns nothing")
        return self

    @property
    def scale(self) -> float:
        """What the product of both sides is multiplied by."""
        return (self.adapter_dim if self.alpha is None else self.alpha) / self.adapter_dim

    @property
    def modules(self) -> tuple[str, ...]:
        """The names of the modules that have an adapter, in Hugging Face's layout."""
        parts = {part for name in self.target_modules for part in _GROUPS.get(name, (name,))}
        return tuple(module for part, modules in MODULES.items() if part in parts for module in modules)


class PeftSettings(Section):
    """Training of an adapter in the place of the language model."""

    peft_scheme: Literal["lora"] | None = Field(default=None, description="lora, or null: parts are trained whole")
    restore_from_path: str | None = Field(
        default=None, description="an adapter to go on with: the folder of an earlier run's"
    )
    lora_tuning: LoraSettings = LoraSettings()

    @field_validator("peft_scheme", mode="before")
    @classmethod
    def _served(cls, value: Any) -> Any:
        if value in _OFF:
            return None
        if value in OTHER_SCHEMES:
            raise ValueError(f"{value} is not trained, for {OTHER_SCHEMES[value]}: write lora, or null")
        return value

    @property
    def lora(self) -> LoraSettings | None:
        """The adapter's settings; None where parts are trained whole."""
        return self.lora_tuning if self.peft_scheme == "lora" else None

    def check_with(self, llm_is_frozen: bool, tower_is_frozen: bool, lr: float, min_lr: float) -> None:
        """Refuse settings of the model that an adapter can't be trained with, with a :class:`ValueError`."""
        if self.lora is None:
            return
        if not llm_is_frozen:
            raise ValueError("mm_cfg.llm.freeze: write true, for the adapter learns in the language model's place")
        if not tower_is_frozen:
            raise ValueError("mm_cfg.vision_encoder.freeze: write true: the adapter and the projector learn alone")
        if min_lr > PROJECTOR_SHARE * lr:
            raise ValueError(
                f"optim.sched.min_lr: the projector begins at {PROJECTOR_SHARE:g} x lr, which is below {min_lr:g}"
            )


def stage_defaults(own: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return a stage's ``own`` defaults, or those of LoRA where a file's ``values`` ask for it."""
    peft = (values.get("model") or {}).get("peft") or {}
    return LORA_DEFAULTS if isinstance(peft, dict) and peft.get("peft_scheme") == "lora" else own
