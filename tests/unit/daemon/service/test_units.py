"""The unit files of recorders: they go on without the daemon's, over its user, folders and secrets."""

import re

import pytest

from testing.repository import ROOT

ONE, MANY = "captiond-record.service", "captiond-record@.service"
SHARED = ("User", "Group", "StateDirectory", "StateDirectoryMode", "WorkingDirectory", "LoadCredential")
TIES = ("Requires", "Requisite", "BindsTo", "PartOf", "Conflicts", "PropagatesStopTo", "StopPropagatedFrom")
LOOSER = {"RestrictAddressFamilies", "MemoryDenyWriteExecute"}
"""Settings of the daemon's hardening that a recorder's service has otherwise, or needs no word about."""


def settings(unit: str) -> dict[str, list[str]]:
    """Return the values of each key, in order."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^([A-Z]\w+)=(.*)$", (ROOT / "systemd" / unit).read_text(), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize(("recorders", "daemon"), [(ONE, "captiond.service"), (MANY, "captiond@.service")])
def test_recorders_share_the_daemons_user_folders_and_secrets(recorders: str, daemon: str) -> None:
    of_recorders, of_daemon = settings(recorders), settings(daemon)

    for key in SHARED:
        assert of_recorders[key] == of_daemon[key], key
    assert of_recorders["Before"] == [daemon.replace("@", "@%i")]
    (run,), (record,) = of_daemon["ExecStart"], of_recorders["ExecStart"]
    assert record == run.replace(" run ", " record ")


@pytest.mark.parametrize(("recorders", "daemon"), [(ONE, "captiond.service"), (MANY, "captiond@.service")])
def test_recorders_outlive_the_daemons_service(recorders: str, daemon: str) -> None:
    """Nothing ties the one to the other: a stop of the daemon's stops no recorder, and none of them needs the other."""
    for unit, other in ((recorders, daemon), (daemon, recorders)):
        ties = settings(unit)
        named = [name for key in TIES for value in ties.get(key, []) for name in value.split()]
        assert other not in named


@pytest.mark.parametrize(("recorders", "daemon"), [(ONE, "captiond.service"), (MANY, "captiond@.service")])
def test_recorders_are_hardened_as_the_daemon_is(recorders: str, daemon: str) -> None:
    text = (ROOT / "systemd" / daemon).read_text()
    hardening = re.findall(r"^([A-Z]\w+)=", text[text.index("# Hardening.") :].partition("[Install]")[0], re.MULTILINE)

    for key in set(hardening) - LOOSER - {"UMask"}:
        assert settings(recorders)[key] == settings(daemon)[key], key
    assert settings(recorders)["UMask"] == ["0077"]
    (families,) = settings(recorders)["RestrictAddressFamilies"]
    assert set(families.split()) < set(settings(daemon)["RestrictAddressFamilies"][0].split())


def test_the_template_is_the_unit_with_an_instance() -> None:
    def lines(unit: str) -> list[str]:
        text = (ROOT / "systemd" / unit).read_text()
        return [line for line in text.splitlines() if line and not line.startswith(("#", "Description="))]

    instance = [line.replace("@%i.service", ".service").replace("-%i", "") for line in lines(MANY)]
    assert [line.replace("/%i.yaml", "/captiond.yaml") for line in instance] == lines(ONE)


@pytest.mark.parametrize("unit", [ONE, MANY])
def test_they_are_installed_and_removed_with_the_daemons(unit: str) -> None:
    script = (ROOT / "scripts" / "install").read_text()
    install, _, uninstall = script.partition("uninstall() {")

    assert f" {unit}" in install
    assert "captiond{,-record}{,@}.service" in uninstall
