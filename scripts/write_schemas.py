"""Write the JSON Schemas of the messages to connectors/schemas/, from the classes that declare them."""

import json
from pathlib import Path

from connectors.messages.schema import schemas


def schema_texts() -> dict[str, str]:
    """Return each schema file's name and content."""
    return {f"{name}.v1.json": json.dumps(schema, indent=2) + "\n" for name, schema in schemas().items()}


if __name__ == "__main__":
    folder = Path(__file__).resolve().parents[1] / "connectors" / "schemas"
    for name, text in schema_texts().items():
        (folder / name).write_text(text)
