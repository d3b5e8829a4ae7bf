"""Which variants a study asks for: those to build, and those that their runtime cannot take."""

from dataclasses import dataclass

from compressors.export.exporters import refusal
from compressors.networks import zoo
from compressors.recipes.recipes import Recipe
from compressors.study import Study
from protos.manifest import RuntimeName


@dataclass(frozen=True)
class Task:
    """One variant to be built."""

    recipe: Recipe
    runtime: RuntimeName
    title: str
    """Its number and name, for the person who watches."""

    @property
    def name(self) -> str:
        """The variant's name."""
        return f"{self.recipe.name}-{self.runtime}"


def plan(study: Study) -> tuple[list[Task], dict[str, str]]:
    """Returns the tasks of a study, and the reasons of the variants that are refused."""
    pairs, refused = list[tuple[Recipe, RuntimeName]](), dict[str, str]()
    for recipe in study.recipes:
        for runtime in recipe.runtimes:
            if reason := refusal(recipe.lowering, runtime) or zoo.refusal(study.network_name, runtime):
                refused[f"{recipe.name}-{runtime}"] = reason
            else:
                pairs.append((recipe, runtime))
    return [Task(r, rt, f"[{i}/{len(pairs)}] {r.name}-{rt}") for i, (r, rt) in enumerate(pairs, 1)], refused
