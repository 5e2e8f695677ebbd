"""The answer's settings on the command lines of NeVA's guide, the same for a projector and for a whole model."""

ANSWER = [
    "inference.temperature=0.2",
    "inference.top_k=0",
    "inference.top_p=0.9",
    "inference.greedy=False",
    "inference.add_BOS=False",
    "inference.all_probs=False",
    "inference.repetition_penalty=1.2",
    "inference.insert_media_token=right",
]
