"""What is shipped to run members by names only flags, variables and keys that exist."""

from __future__ import annotations

import configparser
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tercet.net.flag_table import FLAGS
from tercet.net.flags import parse

PACKAGING = Path(__file__).parent.parent / "packaging"
VARIABLES = {"ETCD_" + name.upper().replace("-", "_") for name in FLAGS}


def unit() -> list[tuple[str, str]]:
    """Every setting of the unit, in order; some come twice."""
    found: list[tuple[str, str]] = []
    for line in (PACKAGING / "tercet.service").read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith(("#", "[")):
            found.append((name, value))
    return found


def image() -> dict[str, list[str]]:
    """The instructions of the last stage by name."""
    text = re.sub(r"\\\n\s*", " ", (PACKAGING / "Containerfile").read_text())
    found: dict[str, list[str]] = {}
    for line in text.rpartition("FROM ")[2].splitlines()[1:]:
        name, _, rest = line.partition(" ")
        found.setdefault(name, []).append(rest)
    return found


def variables_of_the_image() -> dict[str, str]:
    pairs = (word.partition("=") for line in image()["ENV"] for word in shlex.split(line))
    return {name: value for name, _, value in pairs}


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((PACKAGING / "compose.yaml").read_text()))


def test_the_unit_is_well_formed_and_starts_a_member() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read(PACKAGING / "tercet.service")
    assert parser.sections() == ["Unit", "Service", "Install"]
    settings = unit()
    assert ("ExecStart", "/usr/bin/tercet") in settings
    assert ("Type", "notify") in settings
    names = [value.partition("=")[0] for name, value in settings if name == "Environment"]
    assert [name for name in names if name.startswith("ETCD_") and name not in VARIABLES] == []
    assert "ETCD_DATA_DIR" in names


def test_the_image_starts_a_member_with_variables_that_exist() -> None:
    found = image()
    assert json.loads(found["ENTRYPOINT"][0]) == ["tercet"]
    assert found["USER"] == ["tercet"]
    variables = variables_of_the_image()
    assert [name for name in variables if name.startswith("ETCD_") and name not in VARIABLES] == []
    config = parse([], variables).config
    assert config.listen_client_urls == ("http://0.0.0.0:2379",)
    assert config.data_dir.startswith(found["VOLUME"][0])
    assert config.listen_metrics_urls[0] in found["HEALTHCHECK"][0]


def test_the_composed_members_are_one_cluster() -> None:
    services = compose()["services"]
    ids = []
    for name, service in services.items():
        environment = variables_of_the_image() | service["environment"]
        config = parse(service["command"], environment).config
        assert config.name == name
        assert config.peer_tls.auto
        assert sorted(config.initial_cluster) == sorted(services)
        assert service["volumes"] == [f"{name}:/var/lib/tercet"]
        ids.append([row[0] for row in config.members()])
    assert len(services) == 3
    assert ids[0] == ids[1] == ids[2]
    assert len({service["ports"][0] for service in services.values()}) == 3


def test_the_configuration_file_holds_known_keys_and_works() -> None:
    path = PACKAGING / "tercet.conf.yml"
    sections = ("client-transport-security", "peer-transport-security")
    keys = yaml.safe_load(path.read_text())
    assert [key for key in keys if key not in FLAGS and key not in sections] == []
    startup = parse(["--config-file", str(path)], {})
    assert startup.warnings == ()
    assert startup.config.auto_compaction_retention == 3600.0


@pytest.mark.parametrize("name", ["tercet.service", "tercet.conf.yml", "Containerfile", "compose.yaml"])
def test_every_file_is_explained(name: str) -> None:
    assert f"[`{name}`]({name})" in (PACKAGING / "README.md").read_text()
