"""compose*.yaml and kubernetes.yaml against their schemas, and what every deployment of ours has to have."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from fronts import HOST, make_secrets
from run_steps import DOCKERFILE, instructions

DOCKER = Path(__file__).parents[2] / "docker"
TOOLS = Path(sys.executable).parent
COMPOSE = sorted(DOCKER.glob("compose*.yaml"))
KUBERNETES = DOCKER / "kubernetes.yaml"
GRACE_S = 60
USER = next(int(step.text.split(":")[0]) for step in instructions(DOCKERFILE.read_text()) if step.name == "USER")


def composed(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict)
    return content


def services() -> list[Any]:
    """Every service of the files that stand alone."""
    alone = [path for path in COMPOSE if path.name != "compose.cuda.yaml"]
    found = [(path.name, name, content) for path in alone for name, content in composed(path)["services"].items()]
    return [pytest.param(content, id=f"{path}-{name}") for path, name, content in found]


def engines() -> list[Any]:
    return [service for service in services() if service.values[0]["image"] == "overtile"]


def objects(kind: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(KUBERNETES.read_text()) if one["kind"] == kind]


def test_yamllint_finds_nothing() -> None:
    rules = "{extends: default, rules: {document-start: disable, line-length: {max: 128}, braces: {max-spaces-inside: 1}}}"
    subprocess.run([TOOLS / "yamllint", "--strict", "-d", rules, *DOCKER.glob("*.yaml")], check=True)


def test_compose_files_follow_the_specification() -> None:
    subprocess.run([TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *COMPOSE], check=True)


def test_kubernetes_objects_follow_their_schemas() -> None:
    subprocess.run([TOOLS / "kubernetes-validate", "--strict", "--quiet", KUBERNETES], check=True)


@pytest.mark.parametrize("service", services())
def test_every_service_is_hardened(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert any(mount.startswith("/tmp") for mount in service["tmpfs"])
    assert {"mem_limit", "pids_limit", "restart", "logging", "stop_grace_period"} <= set(service)
    assert ":" in service["image"] or service["image"] == "overtile"


@pytest.mark.parametrize("service", engines())
def test_engines_have_time_to_stop_and_a_place_for_their_state(service: dict[str, Any]) -> None:
    assert service["stop_grace_period"] == f"{GRACE_S}s"
    assert service["volumes"] == ["data:/data"]
    assert "--without-keys" not in service["command"]


@pytest.mark.parametrize("service", services())
def test_only_nginx_is_reached_from_other_machines(service: dict[str, Any]) -> None:
    if not service["image"].startswith("nginx:"):
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_engines_and_database_reach_nothing_outside() -> None:
    content = composed(DOCKER / "compose.postgres.yaml")
    inner = {name for name, network in content["networks"].items() if (network or {}).get("internal")}
    reached = {name: set(service["networks"]) for name, service in content["services"].items()}
    assert {name for name, networks in reached.items() if networks <= inner} == {"overtile", "overtile-2", "postgres"}


def test_nginx_knows_the_engines_of_its_compose_file() -> None:
    names = {service.id.split("compose.postgres.yaml-")[1] for service in engines() if "postgres" in service.id}
    text = (DOCKER / "nginx.conf").read_text()
    assert names == {"overtile", "overtile-2"}
    assert all(f"server {name}:3000 " in text for name in names)


def test_no_password_stands_in_a_file() -> None:
    for path in [*COMPOSE, KUBERNETES]:
        assert not [line for line in path.read_text().splitlines() if "PASSWORD:" in line or "//overtile:" in line]


def test_secrets_are_made_once_and_for_their_user_alone(tmp_path: Path) -> None:
    secrets = make_secrets(tmp_path)
    first = (secrets / "database_password").read_text()
    assert len(first) == 48
    assert secrets.stat().st_mode & 0o777 == 0o700
    make_secrets(tmp_path)
    assert (secrets / "database_password").read_text() == first
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", str(secrets / "tls_certificate.pem")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"DNS:{HOST}" in shown.stdout


def test_compose_reads_the_secrets_that_are_made(tmp_path: Path) -> None:
    made = {f"secrets/{path.name}" for path in make_secrets(tmp_path).iterdir()}
    assert {secret["file"] for secret in composed(DOCKER / "compose.postgres.yaml")["secrets"].values()} == made


def test_secrets_without_a_host_are_refused() -> None:
    done = subprocess.run([DOCKER / "secrets.sh"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "give the host's name: docker/secrets.sh overtile.example\n")


@pytest.mark.parametrize("deployment", objects("Deployment"), ids=lambda one: one["metadata"]["name"])
def test_pods_are_restricted(deployment: dict[str, Any]) -> None:
    pod = deployment["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False  # OVERTILE_PORT and others would be taken for settings
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == USER
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/data", "/tmp"}


def test_the_pod_is_asked_for_life_and_readiness_and_given_time() -> None:
    pod = objects("Deployment")[0]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["terminationGracePeriodSeconds"] == GRACE_S
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_pods_reach_names_and_the_database_only() -> None:
    (policy,) = objects("NetworkPolicy")
    ports = {(port["protocol"], port["port"]) for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert ports == {("UDP", 53), ("TCP", 53), ("TCP", 5432)}
    assert all("to" in rule for rule in policy["spec"]["egress"])
    assert policy["spec"]["podSelector"] == {}
