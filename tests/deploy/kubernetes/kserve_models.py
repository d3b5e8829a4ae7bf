"""KServe's resources against the models of its Python package: unknown fields, wrong types and missing ones.

The package's own reader passes over fields that it does not know, so its models' tables are followed here. What a model
leaves to Kubernetes is put into a pod, for Kubernetes' schemas. Only the models are imported: the package itself brings
a model server along, which wants an older protobuf.
"""

import importlib
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest

KINDS = {
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): "V1alpha1ServingRuntime",
    ("serving.kserve.io/v1beta1", "InferenceService"): "V1beta1InferenceService",
}
_SIMPLE = {"str": str, "int": int, "bool": bool, "object": object}


def models() -> ModuleType:
    """The package's module of models."""
    if "kserve" not in sys.modules:
        found = find_spec("kserve")
        if found is None:
            pytest.fail("kserve is missing: pip install --no-deps kserve six")
        package = sys.modules["kserve"] = ModuleType("kserve")
        package.__path__ = list(found.submodule_search_locations or ())
    return importlib.import_module("kserve.models")


def mistakes(resource: dict[str, Any]) -> list[str]:
    """What is wrong with a resource, by the models of KServe."""
    return list(_mistakes(resource, KINDS[resource["apiVersion"], resource["kind"]], resource["kind"]))


def pod_of(resource: dict[str, Any]) -> dict[str, Any]:
    """A pod of all that a resource says in Kubernetes' words."""
    spec = resource["spec"]
    if resource["kind"] == "ServingRuntime":
        pod = _of_kubernetes(spec, "V1alpha1ServingRuntimeSpec")
    else:
        model = _of_kubernetes(spec["predictor"]["model"], "V1beta1ModelSpec")
        pod = _of_kubernetes(spec["predictor"], "V1beta1PredictorSpec")
        pod["containers"] = [{"name": "model", "image": "model", **model}]
    metadata = {key: value for key, value in resource["metadata"].items() if value}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}


def _of_kubernetes(value: dict[str, Any], model: str) -> dict[str, Any]:
    """The fields whose types are not KServe's own."""
    kind = getattr(models(), model)
    types = {kind.attribute_map[name]: _element(type_) for name, type_ in kind.openapi_types.items()}
    return {name: its for name, its in value.items() if name in types and _is_foreign(types[name])}


def _element(type_: str) -> str:
    return re.sub(r"^list\[(.*)\]$", r"\1", type_)


def _is_foreign(type_: str) -> bool:
    return type_ not in _SIMPLE and not type_.startswith("dict(") and not hasattr(models(), type_)


def _mistakes(value: Any, type_: str, path: str) -> Iterator[str]:
    if type_.startswith("list["):
        if not isinstance(value, list):
            yield f"{path}: got {value!r}, expected a list"
            return
        for index, each in enumerate(value):
            yield from _mistakes(each, _element(type_), f"{path}[{index}]")
    elif type_ == "dict(str, str)":
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            yield f"{path}: got {value!r}, expected texts by name"
    elif type_ in _SIMPLE:
        if not isinstance(value, _SIMPLE[type_]) or (type_ == "int" and isinstance(value, bool)):
            yield f"{path}: got {value!r}, expected {type_}"
    elif not _is_foreign(type_):
        yield from _mistakes_of_model(value, getattr(models(), type_), path)


def _mistakes_of_model(value: Any, model: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: got {value!r}, expected {model.__name__}"
        return
    attributes = {name: attribute for attribute, name in model.attribute_map.items()}
    yield from (f"{path}.{name} is unknown" for name in value if name not in attributes)
    known = {name: its for name, its in value.items() if name in attributes}
    for name, its in known.items():
        yield from _mistakes(its, model.openapi_types[attributes[name]], f"{path}.{name}")
    try:
        model(**{attributes[name]: its for name, its in known.items()})
    except ValueError as error:  # what must be there is not
        yield f"{path}: {error}"
