"""cluster.yaml, the image and the Kubernetes job, held to what Ray and KubeRay accept, without a cloud."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
import yaml
from packaging.version import Version

from dfd.cluster.pools import WRITER

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "requirements.lock").read_text()


def locked(package):
    return re.search(rf"^{package}==(\S+)", LOCK, flags=re.M)[1]


# --- cluster.yaml -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


@pytest.fixture(scope="module")
def prepared(cluster):
    """The configuration as `ray up` completes it."""
    from ray.autoscaler._private.util import prepare_config

    return prepare_config(cluster)


def test_ray_up_accepts_the_cluster(prepared):
    from ray.autoscaler._private.util import validate_config

    validate_config(prepared)


def test_ray_up_would_not_accept_a_misspelt_one(cluster):
    import jsonschema
    from ray.autoscaler._private.util import prepare_config, validate_config

    broken = json.loads(json.dumps(cluster))
    broken["available_node_types"]["cpu"]["max_worker"] = 3
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        validate_config(prepare_config(broken))


def test_both_worker_groups_start_at_zero_on_spot_and_go_when_idle(prepared):
    groups = {name: group for name, group in prepared["available_node_types"].items() if name != "head"}
    assert set(groups) == {"cpu", "gpu"}
    assert "GPU" not in groups["cpu"]["resources"]
    assert groups["gpu"]["resources"]["GPU"] == 1
    for group in groups.values():
        assert group["min_workers"] == 0 < group["max_workers"]
        assert group["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert sum(group["max_workers"] for group in groups.values()) <= prepared["max_workers"]
    assert 0 < prepared["idle_timeout_minutes"] <= 15
    assert prepared["available_node_types"]["head"]["resources"] == {"CPU": 0, WRITER: 4}


def test_every_node_installs_the_lock_over_the_same_ray_and_python(prepared):
    name, tag = prepared["docker"]["image"].split(":")
    assert (name, tag) == ("rayproject/ray", f"{locked('ray')}-py311")
    assert prepared["file_mounts"] == {
        "/home/ray/dfd": ".",
        "/home/ray/.ray/auth_token": "~/.ray/auth_token",
    }
    install = "pip install --quiet --requirement /home/ray/dfd/requirements.lock"
    for commands in (
        prepared["head_setup_commands"],
        prepared["worker_setup_commands"],
        prepared["available_node_types"]["gpu"]["worker_setup_commands"],
    ):
        assert commands[0] == install
    assert all(line.startswith(" ") or "--hash" in LOCK for line in LOCK.splitlines() if "==" in line)


def test_nothing_is_installed_without_a_hash(prepared):
    commands = [
        *prepared["head_setup_commands"],
        *prepared["available_node_types"]["gpu"]["worker_setup_commands"],
    ]
    for command in commands:
        assert re.fullmatch(
            r"pip install --quiet --requirement /home/ray/dfd/requirements(-gpu)?\.lock", command
        )
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    for install in re.findall(r"pip install [^\n;&]*", dockerfile):
        assert (
            "--require-hashes --requirement requirements" in install
            or "--no-deps --no-build-isolation ." in install
        )


def test_the_cluster_asks_for_a_token(prepared):
    for commands in (prepared["head_start_ray_commands"], prepared["worker_start_ray_commands"]):
        (start,) = (command for command in commands if "ray start" in command)
        assert re.search(r"export RAY_AUTH_MODE=token .*; ray start", start)


def test_a_node_that_may_write_decodes_nothing(prepared):
    for group in prepared["available_node_types"].values():
        assert (WRITER in group["resources"]) == (group["resources"]["CPU"] == 0)


def test_the_dashboard_is_on_the_heads_loopback(prepared):
    (start,) = (command for command in prepared["head_start_ray_commands"] if "--head" in command)
    assert "--dashboard-host=127.0.0.1" in start


# --- deploy/ ------------------------------------------------------------------------------------------------------


def test_the_image_has_no_fault_that_a_linter_finds():
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, ROOT / "deploy" / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_copies_what_exists_and_builds_on_the_locked_ray():
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    assert f"FROM rayproject/ray:{locked('ray')}-py311" in lines
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    assert "requirements.lock" in copied
    assert all((ROOT / name).exists() for name in copied)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert {name.partition(".")[0] for name in packages["find"]["include"]} <= set(copied)


FIELDS = {
    # From the API reference of KubeRay 1.6, https://ray-project.github.io/kuberay/reference/api/
    "RayJobSpec": "activeDeadlineSeconds backoffLimit rayClusterSpec submitterPodTemplate metadata clusterSelector "
    "submitterConfig managedBy deletionStrategy entrypoint runtimeEnvYAML jobId submissionMode entrypointResources "
    "entrypointNumCpus entrypointNumGpus ttlSecondsAfterFinished shutdownAfterJobFinishes suspend",
    "RayClusterSpec": "suspend managedBy autoscalerOptions headServiceAnnotations enableInTreeAutoscaling "
    "gcsFaultToleranceOptions headGroupSpec rayVersion workerGroupSpecs authOptions",
    "AutoscalerOptions": "resources image imagePullPolicy securityContext idleTimeoutSeconds upscalingMode version env "
    "envFrom volumeMounts",
    "HeadGroupSpec": "template headService enableIngress rayStartParams serviceType",
    "WorkerGroupSpec": "suspend groupName replicas minReplicas maxReplicas idleTimeoutSeconds rayStartParams template "
    "scaleStrategy numOfHosts",
    "PodSpec": "serviceAccountName restartPolicy terminationGracePeriodSeconds containers volumes tolerations nodeSelector "
    "securityContext automountServiceAccountToken",
    "Container": "name image ports resources volumeMounts env envFrom command args securityContext",
}


@pytest.fixture(scope="module")
def rayjob():
    return yaml.safe_load((ROOT / "deploy" / "rayjob.yaml").read_text())


def refuse_unknown(values, kind):
    assert set(values) <= set(FIELDS[kind].split()), (kind, set(values) - set(FIELDS[kind].split()))


def groups_of(rayjob):
    spec = rayjob["spec"]["rayClusterSpec"]
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def test_the_kubernetes_job_has_only_fields_that_kuberay_knows(rayjob):
    assert (rayjob["apiVersion"], rayjob["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,45}[a-z0-9])?", rayjob["metadata"]["name"])
    spec = rayjob["spec"]
    refuse_unknown(spec, "RayJobSpec")
    refuse_unknown(spec["rayClusterSpec"], "RayClusterSpec")
    refuse_unknown(spec["rayClusterSpec"]["autoscalerOptions"], "AutoscalerOptions")
    refuse_unknown(spec["rayClusterSpec"]["headGroupSpec"], "HeadGroupSpec")
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
    assert isinstance(yaml.safe_load(spec["runtimeEnvYAML"]), dict)
    for group in spec["rayClusterSpec"]["workerGroupSpecs"]:
        refuse_unknown(group, "WorkerGroupSpec")


def test_its_pods_are_whole(rayjob):
    for group in groups_of(rayjob):
        pod = group["template"]["spec"]
        refuse_unknown(pod, "PodSpec")
        (container,) = pod["containers"]
        refuse_unknown(container, "Container")
        assert container["resources"]["requests"] == container["resources"]["limits"]
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert mounted == {volume["name"] for volume in pod.get("volumes", [])}
        # KubeRay hands these to `ray start` as they are: numbers would be refused
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_it_has_the_two_groups_that_scale_from_zero(rayjob):
    spec = rayjob["spec"]["rayClusterSpec"]
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["rayVersion"] == locked("ray")
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    assert set(groups) == {"cpu", "gpu"}
    for name, group in groups.items():
        assert group["minReplicas"] == group["replicas"] == 0 < group["maxReplicas"]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert ("nvidia.com/gpu" in limits) == (name == "gpu")
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {group["template"]["spec"]["containers"][0]["image"] for group in groups_of(rayjob)}
    assert images == {f"dfd:{version}", f"dfd:{version}-gpu"}


def pods_of(rayjob):
    """Return the pod specifications with their labels, the submitter's first."""
    templates = [rayjob["spec"]["submitterPodTemplate"], *(group["template"] for group in groups_of(rayjob))]
    return [(template["metadata"]["labels"], template["spec"]) for template in templates]


def test_no_pod_is_root_or_may_become_it_or_writes_to_its_image(rayjob):
    for _, pod in pods_of(rayjob):
        refuse_unknown(pod, "PodSpec")
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"name": "scratch", "mountPath": "/tmp"} in container["volumeMounts"]
        assert {"name": "HOME", "value": "/tmp"} in container["env"]
    options = rayjob["spec"]["rayClusterSpec"]["autoscalerOptions"]
    assert options["securityContext"]["allowPrivilegeEscalation"] is False


def test_the_job_server_asks_for_a_token(rayjob):
    assert rayjob["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}


def test_pods_that_decode_cannot_write_to_the_bucket_and_those_that_write_decode_nothing(rayjob):
    for group in groups_of(rayjob):
        parameters = group["rayStartParams"]
        may_write = group["template"]["spec"]["serviceAccountName"] == "dfd"
        assert may_write or group["template"]["spec"]["serviceAccountName"] == "dfd-read"
        assert may_write == (parameters.get("num-cpus") == "0")
        assert may_write == ("resources" in parameters)
        if may_write:  # JSON in the quotes of a shell
            (word,) = shlex.split(parameters["resources"])
            assert json.loads(word) == {WRITER: 4}


def test_a_policy_lets_in_only_the_pods_themselves_and_the_operator(rayjob):
    policy = yaml.safe_load((ROOT / "deploy" / "networkpolicy.yaml").read_text())
    assert (policy["apiVersion"], policy["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    spec = policy["spec"]
    labels = spec["podSelector"]["matchLabels"]
    assert all(labels.items() <= pod_labels.items() for pod_labels, _ in pods_of(rayjob))
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    themselves, operator = spec["ingress"]
    assert themselves == {"from": [{"podSelector": {"matchLabels": labels}}]}
    assert operator["ports"] == [{"protocol": "TCP", "port": 8265}]
    assert "169.254.0.0/16" in spec["egress"][-1]["to"][0]["ipBlock"]["except"]


def test_its_command_is_one_that_the_job_takes(rayjob):
    from dfd.commands.score import main

    words = rayjob["spec"]["entrypoint"].split()
    assert words[:2] == ["python", "jobs/score.py"]
    with click.Context(main) as context:
        main.parse_args(context, words[2:])
    assert context.params["gpus_per_actor"] == 1


# --- what a submitted job brings ----------------------------------------------------------------------------------


def test_a_submitted_working_directory_is_small_and_whole(tmp_path):
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    tree = tmp_path / "tree"
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.splitlines()  # fmt: skip
    if not files:
        pytest.skip("not a git checkout")
    for name in files:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tree / name)
    (tree / ".venv").mkdir()
    (tree / ".venv" / "large").write_bytes(b"x")
    sent = []
    _dir_travel(
        tree,
        [_get_excludes(tree, [".git", ".venv", "venv", "__pycache__"])],
        sent.append,
        include_gitignore=True,
    )
    names = {str(path.relative_to(tree)) for path in sent if path.is_file()}
    wanted = {
        str(path.relative_to(ROOT))
        for folder in ("dfd", "dfd_core", "jobs")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".jinja", ".typed")
    }
    assert wanted <= names
    assert not any(name.startswith((".venv", "tests/", "demo/", ".git/")) for name in names)
    weights = {name for name in names if name.endswith((".keras", ".onnx"))}
    assert sum((tree / name).stat().st_size for name in names - weights) < 3_000_000
    assert sum((tree / name).stat().st_size for name in weights) < 22_000_000


def test_the_versions_agree():
    assert Version(locked("ray")).release[:2] == (2, 60)
