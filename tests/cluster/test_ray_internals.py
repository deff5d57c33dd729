"""Everything that is used of Ray beside its documented interface is there in the pinned version."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from pathlib import Path

import pytest
import ray
from ray.data import DataContext

ROOT = Path(__file__).resolve().parents[2]
INTERNAL = re.compile(r"\bray(\.\w+)*\._\w+|\._(logical_plan|resource_manager|internal|private)\b")


def test_one_module_reaches_into_ray() -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "dfd").rglob("*.py"))
        if INTERNAL.search(path.read_text())
    ]
    assert found == ["dfd/cluster/ray_internals.py"]


def test_a_dataset_has_a_plan_whose_last_operator_takes_remote_arguments() -> None:
    from ray.data._internal.logical.interfaces import LogicalPlan
    from ray.data._internal.logical.operators.all_to_all_operator import Repartition
    from ray.data.dataset import Dataset

    assert "_logical_plan" in inspect.getsource(Dataset.__init__)
    assert isinstance(inspect.getattr_static(LogicalPlan, "dag"), property)
    assert "ray_remote_args" in inspect.signature(Repartition.__init__).parameters


def test_the_autoscalers_configuration_has_groups_with_counts_and_resources() -> None:
    from ray._private.state import GlobalState
    from ray.core.generated.autoscaler_pb2 import ClusterConfig

    assert callable(GlobalState.get_cluster_config)
    groups = ClusterConfig.DESCRIPTOR.fields_by_name["node_group_configs"]
    assert {"max_count", "resources"} <= set(groups.message_type.fields_by_name)


def test_a_policy_sees_the_operators_and_the_resource_manager() -> None:
    from ray.data._internal.execution.backpressure_policy import (
        ENABLED_BACKPRESSURE_POLICIES,
        BackpressurePolicy,
    )
    from ray.data._internal.execution.interfaces import ExecutionResources, PhysicalOperator
    from ray.data._internal.execution.resource_manager import ResourceManager

    assert "_resource_manager" in inspect.getsource(BackpressurePolicy.__init__)
    assert callable(BackpressurePolicy.can_add_input)
    for name in ("get_global_limits", "get_mem_op_outputs", "get_op_usage"):
        assert callable(getattr(ResourceManager, name))
    for name in ("num_active_tasks", "incremental_resource_usage", "output_dependencies", "name"):
        assert hasattr(PhysicalOperator, name)
    assert {"cpu", "object_store_memory"} <= set(dir(ExecutionResources))
    assert ENABLED_BACKPRESSURE_POLICIES


def test_every_setting_of_ray_data_that_is_made_exists() -> None:
    tree = ast.parse((ROOT / "dfd" / "cluster" / "runtime.py").read_text())
    made = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and getattr(node.value, "id", "") == "context"
    }
    known = {field.name for field in dataclasses.fields(DataContext)} | set(dir(DataContext))
    assert made
    assert made <= known


def test_the_lock_holds_the_version_that_is_installed() -> None:
    if ray.__version__ not in (ROOT / "requirements.lock").read_text():
        pytest.fail(f"Ray {ray.__version__} is installed, and the lock pins another version")
