"""The fields of Kubernetes that ``deploy/`` uses, and a check of a manifest against them.

Written from the published definitions: JobSet's ``api/jobset/v1alpha2/jobset_types.go``, Kubeflow
Trainer's ``pkg/apis/trainer/v1alpha1/trainjob_types.go`` (2.2), and Kubernetes' reference of Job
(batch/v1) and Pod (core/v1). A schema is a type; a list of one schema; a set of the allowed values;
or a dictionary of fields, of which ``!`` marks those that must be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_QUANTITIES = {"cpu": str, "memory": str, "nvidia.com/gpu": str}
_RESOURCES = {"requests": _QUANTITIES, "limits": _QUANTITIES}
_ENV = [{"name!": str, "value": str, "valueFrom": {"fieldRef": {"fieldPath!": str}}}]
_MOUNTS = [{"name!": str, "mountPath!": str, "readOnly": bool}]
_SECURITY = {"runAsNonRoot": bool, "runAsUser": int, "fsGroup": int}
_VOLUMES = [
    {
        "name!": str,
        "persistentVolumeClaim": {"claimName!": str, "readOnly": bool},
        "emptyDir": {"medium": {"", "Memory"}, "sizeLimit": str},
    }
]
_CONTAINER = {
    "name!": str,
    "image!": str,
    "command": [str],
    "args": [str],
    "env": _ENV,
    "ports": [{"containerPort!": int}],
    "resources": _RESOURCES,
    "volumeMounts": _MOUNTS,
}
_POD = {
    "restartPolicy!": {"Never", "OnFailure"},  # of a Job's pods
    "terminationGracePeriodSeconds": int,
    "securityContext": _SECURITY,
    "containers!": [_CONTAINER],
    "volumes": _VOLUMES,
}
_JOB = {
    "completionMode": {"Indexed", "NonIndexed"},
    "completions": int,
    "parallelism": int,
    "backoffLimit": int,
    "template!": {"spec!": _POD},
}
JOBSET = {
    "apiVersion!": {"jobset.x-k8s.io/v1alpha2"},
    "kind!": {"JobSet"},
    "metadata!": {"name!": str},
    "spec!": {
        "network": {"enableDNSHostnames": bool, "publishNotReadyAddresses": bool},
        "failurePolicy": {"maxRestarts": int},
        "replicatedJobs!": [{"name!": str, "replicas": int, "template!": {"spec!": _JOB}}],
    },
}
_POD_PATCH = {
    "securityContext": _SECURITY,
    "containers": [{"name!": str, "volumeMounts": _MOUNTS}],
    "volumes": _VOLUMES,
}
_JOB_PATCH = {"name!": str, "template": {"spec": {"template": {"spec": _POD_PATCH}}}}
TRAINJOB = {
    "apiVersion!": {"trainer.kubeflow.org/v1alpha1"},
    "kind!": {"TrainJob"},
    "metadata!": {"name!": str},
    "spec!": {
        "runtimeRef!": {"name!": str},
        "trainer": {
            "image": str,
            "command": [str],
            "args": [str],
            "numNodes": int,
            "numProcPerNode": int,
            "env": _ENV,
            "resourcesPerNode": _RESOURCES,
        },
        "runtimePatches": [
            {
                "manager!": str,
                "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [_JOB_PATCH]}}},
            }
        ],
    },
}


def problems(value: Any, schema: Any, where: str = "") -> Iterator[str]:
    """Yield what is wrong with a parsed manifest, each with its place."""
    if isinstance(schema, type):
        if type(value) is not schema:
            yield f"{where}: {value!r}, expected {schema.__name__}"
    elif isinstance(schema, set):
        if value not in schema:
            yield f"{where}: {value!r}, expected one of {sorted(schema)}"
    elif isinstance(schema, list):
        if not isinstance(value, list):
            yield f"{where}: {value!r}, expected a list"
            return
        for i, item in enumerate(value):
            yield from problems(item, schema[0], f"{where}[{i}]")
    else:
        yield from _problems_of_fields(value, schema, where)


def _problems_of_fields(value: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: {value!r}, expected fields"
        return
    fields = {name.rstrip("!"): kind for name, kind in schema.items()}
    for name in schema:
        if name.endswith("!") and name[:-1] not in value:
            yield f"{where}.{name[:-1]}: is missing"
    for name, inner in value.items():
        if name in fields:
            yield from problems(inner, fields[name], f"{where}.{name}")
        else:
            yield f"{where}.{name}: is unknown"
