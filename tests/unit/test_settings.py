"""Settings: precedence, origins, unknown keys, masked secrets and the relations that must hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app import settings as settings_module
from app.errors import InvalidSettings
from app.settings import Settings, config_template, load, load_settings
from app.settings_model import PRODUCTION_DEFAULTS
from app.topics import RETRY_TIERS_S

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without settings files and an environment without our keys."""
    for key in [key for key in os.environ if key.startswith("SYMPHONY_")]:
        monkeypatch.delenv(key)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _keys(text: str) -> list[str]:
    lines = (line.lstrip("#") for line in text.splitlines() if not line.startswith("# "))
    return [line.split("=")[0].strip() for line in lines if "=" in line]


def test_faust_ini_names_every_setting_once() -> None:
    """The keys of faust.ini, commented or not, are exactly the fields of Settings."""
    assert _keys((ROOT / "faust.ini").read_text()) == list(Settings.model_fields)


def test_faust_ini_shows_meaning_unit_and_default() -> None:
    """The committed faust.ini is the one generated from the declarations."""
    assert (ROOT / "faust.ini").read_text() == config_template()


def test_every_setting_has_description_and_unit() -> None:
    """`config show` can explain every setting."""
    rows = load().rows()
    assert [row.name for row in rows] == list(Settings.model_fields)
    assert all(row.description and row.unit for row in rows)


def test_stronger_sources_win_and_are_named(
    empty_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Command line beats environment beats .env beats faust.ini beats default."""
    keys = ("redrives_max", "db_retries_max", "relay_batch_max", "api_writers")
    (empty_place / "faust.ini").write_text("[a]\n" + "".join(f"{key} = 11\n" for key in keys))
    (empty_place / ".env").write_text("".join(f"SYMPHONY_{key.upper()}=12\n" for key in keys[1:]))
    monkeypatch.setenv("SYMPHONY_RELAY_BATCH_MAX", "13")
    monkeypatch.setenv("SYMPHONY_API_WRITERS", "13")
    loaded = load(api_writers=14, topic_partitions=None)
    assert [getattr(loaded.settings, key) for key in keys] == [11, 12, 13, 14]
    assert [loaded.origins[key] for key in keys] == [
        "faust.ini",
        ".env",
        "environment",
        "command line",
    ]
    origins = {row.name: row.origin for row in loaded.rows()}
    assert origins["topic_partitions"] == "default"


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("environment", "SYMPHONY_SESION_TIMEOUT_S (environment)"),
        (".env", "SYMPHONY_SESION_TIMEOUT_S (.env)"),
        ("faust.ini", "sesion_timeout_s (faust.ini)"),
        ("command line", "sesion_timeout_s (command line)"),
    ],
)
def test_unknown_keys_are_errors_everywhere(
    empty_place: Path, monkeypatch: pytest.MonkeyPatch, source: str, shown: str
) -> None:
    """A misspelt key in any source is refused, with its source and the nearest key."""
    overrides: dict[str, int] = {}
    match source:
        case "environment":
            monkeypatch.setenv("SYMPHONY_SESION_TIMEOUT_S", "9")
        case ".env":
            (empty_place / ".env").write_text("SYMPHONY_SESION_TIMEOUT_S=9\nOTHER=1\n")
        case "faust.ini":
            (empty_place / "faust.ini").write_text("[delivery]\nsesion_timeout_s = 9\n")
        case _:
            overrides = {"sesion_timeout_s": 9}
    with pytest.raises(InvalidSettings) as caught:
        load_settings(**overrides)
    assert f"unknown setting {shown}: did you mean session_timeout_s?" in str(caught.value)


def test_a_wrong_value_is_explained_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for a wrong value names key, value, source, unit and reason."""
    monkeypatch.setenv("SYMPHONY_WEB_PORT", "eighty")
    with pytest.raises(InvalidSettings) as caught:
        load_settings()
    message = str(caught.value)
    assert "web_port = 'eighty' (environment; unit: port)" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("web_port = 1\n", "no section headers"),
        ("[a]\nweb_port = 1\nweb_port = 2\n", "web_port twice"),
        ("[a]\nweb_port = 1\n[b]\nweb_port = 2\n", "two sections"),
    ],
)
def test_a_malformed_faust_ini_is_refused(empty_place: Path, text: str, complaint: str) -> None:
    """A settings file that could be read in two ways is an error."""
    (empty_place / "faust.ini").write_text(text)
    with pytest.raises(InvalidSettings, match=complaint):
        load_settings()


def test_a_named_settings_file_must_exist() -> None:
    """A settings file that was asked for and is not there is an error."""
    with pytest.raises(InvalidSettings, match=r"there is no settings file nowhere\.ini"):
        load_settings(config_file=Path("nowhere.ini"))


def test_passwords_are_never_shown() -> None:
    """Neither `config show` nor an error nor repr prints the database password."""
    dsn = "postgresql://symphony:hunter2@db:5432/symphony"
    loaded = load(postgres_dsn=dsn)
    assert loaded.settings.postgres_dsn.get_secret_value() == dsn
    rows = {row.name: row.value for row in loaded.rows()}
    assert rows["postgres_dsn"] == "postgresql://symphony:****@db:5432/symphony"
    assert "hunter2" not in repr(loaded.settings)
    with pytest.raises(InvalidSettings) as caught:
        load(postgres_dsn=dsn, web_port=0)
    assert "hunter2" not in str(caught.value)


def test_production_changes_defaults_only() -> None:
    """`profile = production` gives other defaults, and a value that was set stays."""
    settings = load_settings(profile="production", drain_grace_s=11)
    assert settings.outage_budget_s == 600
    assert settings.step_deadline_s == 600
    assert settings.drain_grace_s == 11
    origins = {row.name: row.origin for row in load(profile="production").rows()}
    assert {name for name, origin in origins.items() if origin == "default (production)"} == set(
        PRODUCTION_DEFAULTS
    )


def test_worker_id_defaults_to_the_role() -> None:
    """A worker without a given name is the first of its role."""
    assert load_settings(role="payment").worker_id == "payment-1"
    assert load_settings(role="payment", worker_id="payment-7").worker_id == "payment-7"


@pytest.mark.parametrize(
    "wrong",
    [
        {"heartbeat_interval_s": 10},
        {"drain_grace_s": 12},
        {"gateway_deadline_s": 8},
        {"outage_budget_s": 200},
        {"watchdog_no_progress_s": 19},
        {"relay_lease_renew_s": 9},
        {"stop_grace_s": 7},
        {"plugins": "chaos.injector"},
        {"failpoints": "payment.after_call=crash"},
        {"retry_tiers_s": "1,7"},
        {"retry_tiers_s": "5,5"},
        {"dlq_retention_days": 30},
    ],
)
def test_contradictions_are_refused(wrong: dict[str, float | str]) -> None:
    """Settings that contradict each other start nothing."""
    with pytest.raises(InvalidSettings):
        load_settings(**wrong)


def test_lists_are_parsed() -> None:
    """Comma lists become tuples, retry tiers ascending."""
    settings = load_settings(lab=True, plugins="a.b, c", retry_tiers_s="30,5")
    assert settings.plugin_modules == ("a.b", "c")
    assert settings.retry_tiers == (5, 30)
    assert load_settings().retry_tiers == RETRY_TIERS_S, "every tier is in use"


def test_settings_are_frozen() -> None:
    """Nobody changes settings after start."""
    with pytest.raises(ValueError, match="frozen"):
        load_settings().role = "web"  # type: ignore[misc]


def test_settings_made_directly_read_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the loader looks at the environment."""
    monkeypatch.setenv("SYMPHONY_REDRIVES_MAX", "9")
    assert Settings().redrives_max == 3
    assert load_settings().redrives_max == 9


def test_the_projects_file_serves_other_directories() -> None:
    """Outside a directory with faust.ini the project's own file is read."""
    assert settings_module._find_config() == ROOT / "faust.ini"
