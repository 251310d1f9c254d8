"""The compose file and the servers' configuration fit each other. No container engine is needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from app.settings import load_settings
from chaos.observe import grafana, stores
from chaos.observe.dashboards import DASHBOARDS
from chaos.observe.panels import as_json
from chaos.observe.scale import LAB, PRODUCTION, SCALES

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCUMENT = yaml.safe_load(COMPOSE.read_text())
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
BY_SERVICE = pytest.mark.parametrize("name", SERVICES)
#: Images with a single program that cannot ask itself whether it is well.
WITHOUT_HEALTHCHECK = {"otel-collector"}
VARIABLE = re.compile(r"\$\{(\w+)(?::[-+][^}]*)?\}")
#: What may be set from outside, and why each has a value without that.
VARIABLES = {"OBSERVE_SCALE", "OBSERVE_SCRAPE_INTERVAL", "SYMPHONY_LAB_DIR"}


def generated(path: str) -> Any:
    """A generated configuration."""
    return yaml.safe_load((ROOT / "docker" / path).read_text())


@BY_SERVICE
def test_a_service_belongs_to_a_profile(name: str) -> None:
    """Nothing starts that nobody asked for."""
    assert SERVICES[name]["profiles"] == ["observability"]


@BY_SERVICE
def test_an_image_is_pinned_in_one_place(name: str) -> None:
    """Each image has an exact version and stands once, in x-images."""
    image = SERVICES[name]["image"]
    assert re.fullmatch(r"[a-z0-9./-]+:v?\d+\.\d+\.\d+", image)
    assert image in DOCUMENT["x-images"].values()
    assert COMPOSE.read_text().count(image) == 1


@BY_SERVICE
def test_a_service_tells_whether_it_is_well(name: str) -> None:
    """It has a health check, and those that need it wait for that."""
    check = SERVICES[name].get("healthcheck")
    assert (check is None) == (name in WITHOUT_HEALTHCHECK)
    if check is not None:
        assert check["test"][0] == "CMD"
        assert {"interval", "timeout", "retries", "start_period"} <= check.keys()
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        assert needed in SERVICES
        assert needed not in WITHOUT_HEALTHCHECK
        assert how == {"condition": "service_healthy"}


@BY_SERVICE
def test_a_service_is_kept_on_this_machine(name: str) -> None:
    """It shares the host's network, publishes nothing, and listens on 127.0.0.1 only."""
    service = SERVICES[name]
    assert service["network_mode"] == "host"
    assert "ports" not in service
    assert "0.0.0.0" not in str(service)
    listening = [word for word in service.get("command", []) if "listen-address" in word]
    for word in listening:
        address = word.partition("=")[2]
        assert address == "" or address.startswith("127.0.0.1:")


@BY_SERVICE
def test_a_service_may_little(name: str) -> None:
    """No rights, a file system that cannot be written, logs with an end."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["logging"]["options"]["max-size"]


@BY_SERVICE
def test_what_is_mounted_exists(name: str) -> None:
    """Files come from docker/, which is there; the lab's are never made by the engine; volumes are
    declared."""
    for volume in SERVICES[name]["volumes"]:
        if isinstance(volume, dict):
            assert volume["bind"] == {"create_host_path": False}
            assert volume["read_only"] is True
            assert volume["source"].startswith("${SYMPHONY_LAB_DIR:-./.lab}/")
            continue
        source, _, rest = volume.partition(":")
        if source.startswith("./"):
            assert (ROOT / source).is_dir()
            assert rest.endswith(":ro")
        else:
            assert source in DOCUMENT["volumes"]


def test_every_volume_is_used() -> None:
    """No volume is left over."""
    used = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service["volumes"]
        if isinstance(volume, str) and not volume.startswith(".")
    }
    assert used == DOCUMENT["volumes"].keys()


def test_variables_have_a_value_of_their_own() -> None:
    """Nobody has to set one, and none is made up."""
    text = "\n".join(
        line for line in COMPOSE.read_text().splitlines() if not line.lstrip().startswith("#")
    )
    assert {found[1] for found in VARIABLE.finditer(text)} == VARIABLES
    assert not re.search(r"\$\{\w+\}", text)


def test_without_settings_the_rules_are_those_of_a_lab() -> None:
    """The command as it stands is for a lab as it is started: its windows and its scrapes."""
    assert load_settings().lab_slo_time_scale == LAB.factor
    for scale in SCALES:
        assert (ROOT / f"docker/prometheus/prometheus-{scale.name}.yml").is_file()
    config = f"prometheus-${{OBSERVE_SCALE:-{LAB.name}}}.yml"
    assert any(word.endswith(f"/{config}") for word in SERVICES["prometheus"]["command"])
    interval = SERVICES["grafana"]["environment"]["OBSERVE_SCRAPE_INTERVAL"]
    assert interval == f"${{OBSERVE_SCRAPE_INTERVAL:-{LAB.scrape_s}s}}"
    production = f"OBSERVE_SCALE={PRODUCTION.name} OBSERVE_SCRAPE_INTERVAL={PRODUCTION.scrape_s}s"
    assert production in COMPOSE.read_text()
    assert production in (ROOT / "docs" / "observability.md").read_text()


def test_lines_spans_and_samples_are_kept_equally_long() -> None:
    """A line that leads to a trace which is gone leads nowhere."""
    loki, tempo = generated("loki/config.yml"), generated("tempo/config.yml")
    assert loki["compactor"]["retention_enabled"] is True
    assert {
        loki["limits_config"]["retention_period"],
        tempo["backend_worker"]["compaction"]["block_retention"],
    } == {stores.RETENTION}
    assert f"--storage.tsdb.retention.time={stores.RETENTION}" in SERVICES["prometheus"]["command"]
    days = {1: "one day", 2: "two days", 3: "three days"}[
        int(stores.RETENTION.removesuffix("h")) // 24
    ]
    assert f"for {days}" in (ROOT / "docs" / "observability.md").read_text()


def test_prometheus_reads_what_is_mounted() -> None:
    """Its targets, rules and Alertmanager are where its configuration looks for them."""
    mounts = {
        volume["target"]: volume["source"] for volume in SERVICES["prometheus"]["volumes"][1:2]
    }
    for scale in SCALES:
        config = generated(f"prometheus/prometheus-{scale.name}.yml")
        (targets,) = config["scrape_configs"][0]["file_sd_configs"][0]["files"]
        assert Path(targets).parent.as_posix() in mounts
        assert mounts[Path(targets).parent.as_posix()].endswith("/observe")
        assert Path(targets).name == "targets.json"
        (rules,) = config["rule_files"]
        assert list((ROOT / "docker" / rules.removeprefix("/etc/").rpartition("/")[0]).iterdir())
        (address,) = config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
        assert f"--web.listen-address={address}" in SERVICES["alertmanager"]["command"]
    assert "--enable-feature=exemplar-storage" in SERVICES["prometheus"]["command"]


def test_data_sources_lead_to_servers_and_to_each_other() -> None:
    """Each is where its server listens, and every link between them ends at one that exists."""
    sources = {
        one["uid"]: one
        for one in generated("grafana/provisioning/datasources/symphony.yml")["datasources"]
    }
    assert {urlsplit(one["url"]).port for one in sources.values()} == {
        grafana.PROMETHEUS_PORT,
        generated("loki/config.yml")["server"]["http_listen_port"],
        generated("tempo/config.yml")["server"]["http_listen_port"],
    }
    assert (
        f"--web.listen-address=127.0.0.1:{grafana.PROMETHEUS_PORT}"
        in (SERVICES["prometheus"]["command"])
    )
    (exemplar,) = sources["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    (derived,) = sources["loki"]["jsonData"]["derivedFields"]
    assert exemplar == {"name": "trace_id", "datasourceUid": "tempo"}
    assert derived["matcherRegex"] == "trace_id"
    assert derived["datasourceUid"] == "tempo"
    assert sources["tempo"]["jsonData"]["tracesToLogsV2"]["datasourceUid"] == "loki"


def test_grafana_finds_the_dashboards() -> None:
    """The provider's folder is mounted, holds the home dashboard, and its kinds have a source."""
    (provider,) = generated("grafana/provisioning/dashboards/symphony.yml")["providers"]
    place = provider["options"]["path"]
    assert f"./docker/grafana/dashboards:{place}:ro" in SERVICES["grafana"]["volumes"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "docker/grafana/dashboards" / Path(home).name).is_file()
    kinds = {one["type"] for one in grafana.datasources()["datasources"]}
    for dashboard in DASHBOARDS:
        assert set(re.findall(r'"query": "(prometheus|loki|tempo)"', as_json(dashboard))) <= kinds


def test_the_collector_sends_to_where_the_stores_listen() -> None:
    """Every component of a pipeline is configured, and what is configured is used."""
    config = generated("otel-collector/config.yml")
    used: dict[str, set[str]] = {}
    for pipeline in config["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            used.setdefault(kind, set()).update(names)
    assert {kind: set(config[kind]) for kind in used} == used
    assert set(config["service"]["extensions"]) == set(config["extensions"])
    loki = generated("loki/config.yml")["server"]
    tempo = generated("tempo/config.yml")["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]
    assert config["exporters"]["otlp_http/loki"]["endpoint"] == (
        f"http://127.0.0.1:{loki['http_listen_port']}/otlp"
    )
    assert config["exporters"]["otlp_grpc/tempo"]["endpoint"] == tempo["endpoint"]
    mounted = SERVICES["otel-collector"]["volumes"][1]
    assert Path(stores.LOG_FILES).parent.as_posix() == mounted["target"]


def test_health_checks_ask_where_servers_listen() -> None:
    """Loki and Tempo ask themselves at the port of their configuration."""
    for name in ("loki", "tempo"):
        port = generated(f"{name}/config.yml")["server"]["http_listen_port"]
        assert f"http://127.0.0.1:{port}/ready" in SERVICES[name]["healthcheck"]["test"][-1]


@pytest.mark.parametrize(
    "path", ["loki/config.yml", "tempo/config.yml", "otel-collector/config.yml"]
)
def test_servers_listen_on_this_machine_only(path: str) -> None:
    """Every address in their configuration is 127.0.0.1."""
    found = re.findall(
        r"(?:listen_address|endpoint|instance_addr): (?:https?://)?([^:/\s]+)",
        (ROOT / "docker" / path).read_text(),
    )
    assert found
    assert set(found) == {"127.0.0.1"}


def test_no_two_servers_want_one_port() -> None:
    """They share one network."""
    text = "\n".join(
        (ROOT / "docker" / path).read_text() for path in ("loki/config.yml", "tempo/config.yml")
    )
    ports = re.findall(r"listen_port: (\d+)", text)
    ports += [str(port) for port in (9090, 9093, 3000)]
    ports += [str(stores.TEMPO_OTLP_PORT), str(stores.OTLP_GRPC_PORT), str(stores.OTLP_HTTP_PORT)]
    ports.append(str(stores.COLLECTOR_HEALTH_PORT))
    assert len(set(ports)) == len(ports)


def test_labels_of_loki_are_few() -> None:
    """What identifies a line is no label: a label per order would be a stream per order."""
    limits = generated("loki/config.yml")["limits_config"]
    (labels,) = limits["otlp_config"]["resource_attributes"]["attributes_config"]
    assert limits["otlp_config"]["resource_attributes"]["ignore_defaults"] is True
    assert labels["attributes"] == ["service.name", "service.instance.id", "symphony.role"]
    assert not set(labels["attributes"]) & set(stores.KEPT_FIELDS)
