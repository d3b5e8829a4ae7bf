"""The fields of others' resources that we use, since their schemas are in no package: a name that is not here is wrong.

Sources: https://keda.sh/docs/latest/reference/scaledobject-spec/ and .../scalers/prometheus/,
https://prometheus-operator.dev/docs/api-reference/api/,
https://docs.locust.io/en/stable/kubernetes-operator.html
"""

from typing import Any

ANY = object()
"""Whatever stands there: text, numbers, or what another tool checks."""

_META: dict[str, Any] = {"name": ANY, "labels": ANY}
_POLICY = [{"type": ANY, "value": ANY, "periodSeconds": ANY}]
_POD = {"labels": ANY, "annotations": ANY, "resources": {"requests": ANY, "limits": ANY}}
_BEHAVIOR = {"policies": _POLICY, "stabilizationWindowSeconds": ANY}

FIELDS: dict[tuple[str, str], dict[str, Any]] = {
    ("keda.sh/v1alpha1", "ScaledObject"): {
        "scaleTargetRef": {"name": ANY},
        "minReplicaCount": ANY,
        "maxReplicaCount": ANY,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": _BEHAVIOR, "scaleDown": _BEHAVIOR}}},
        "triggers": [
            {"type": ANY, "metricType": ANY, "metadata": {"serverAddress": ANY, "query": ANY, "threshold": ANY}}
        ],
    },
    ("locust.io/v1", "LocustTest"): {
        "image": ANY,
        "workers": ANY,
        "args": ANY,
        "env": [{"name": ANY, "value": ANY}],
        "master": _POD,
        "worker": _POD,
    },
    ("monitoring.coreos.com/v1", "ServiceMonitor"): {
        "selector": {"matchLabels": ANY},
        "jobLabel": ANY,
        "endpoints": [{"port": ANY, "interval": ANY}],
    },
    ("monitoring.coreos.com/v1", "PrometheusRule"): {
        "groups": [
            {
                "name": ANY,
                "rules": [
                    {"alert": ANY, "record": ANY, "expr": ANY, "for": ANY, "labels": ANY, "annotations": ANY},
                ],
            }
        ]
    },
}


def kind_of(resource: dict[str, Any]) -> tuple[str, str]:
    """The version and the kind of a resource."""
    return resource["apiVersion"], resource["kind"]


def unknown_fields(resource: dict[str, Any]) -> list[str]:
    """The paths of what `resource`, of a kind in `FIELDS`, has and its kind has not."""
    fields = {
        "apiVersion": ANY,
        "kind": ANY,
        "metadata": _META,
        "spec": FIELDS[resource["apiVersion"], resource["kind"]],
    }
    return list(_unknown(resource, fields, ""))


def _unknown(value: Any, fields: Any, path: str) -> list[str]:
    if fields is ANY:
        return []
    if isinstance(fields, list):
        return [path] if not isinstance(value, list) else [p for each in value for p in _unknown(each, fields[0], path)]
    if not isinstance(value, dict):
        return [path]
    return [
        found
        for name, its in value.items()
        for found in (_unknown(its, fields[name], f"{path}.{name}") if name in fields else [f"{path}.{name}"])
    ]
