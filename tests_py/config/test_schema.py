"""The published JSON schema says what the loader accepts."""

from __future__ import annotations

import json

from llm_proxy.config.schema import schema
from llm_proxy.config.table import BACKEND_SETTINGS, SETTINGS
from repo import ROOT


def test_the_published_schema_is_the_one_of_the_code() -> None:
    published = json.loads((ROOT / "docs" / "config.schema.json").read_text())
    assert published == json.loads(json.dumps(schema())), "run ./dev docs"


def test_every_setting_has_its_place_in_the_schema() -> None:
    made = json.loads(json.dumps(schema()))
    for setting in SETTINGS:
        node = made
        for part in setting.path.split("."):
            assert part in node["properties"], setting.path
            node = node["properties"][part]
        assert node["description"] == setting.help
    backend = made["properties"]["backends"]["additionalProperties"]
    assert set(backend["properties"]) >= {setting.path for setting in BACKEND_SETTINGS}
