"""spikenas finds, trains and quantizes spiking neural networks that provably fit a small device.

>>> import spikenas
>>> data = spikenas.load("digits")
>>> budget = spikenas.Budget(flash="32KB", ram="16KB")

``spikenas.search(data, budget)`` finds a network, ``train``, ``quantize``, ``evaluate``, ``verify`` and ``export`` go
on from there. A name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spikenas.api import evaluate, export, quantize, search, train, verify
    from spikenas.cost.budget import Budget
    from spikenas.cost.cost import Cost, estimate
    from spikenas.cost.target import load_target
    from spikenas.data.datasets import Dataset
    from spikenas.data.datasets import load_dataset as load
    from spikenas.errors import InputError, NothingFits, SpikenasError
    from spikenas.graph import Graph
    from spikenas.model import IntegerModel, Model
    from spikenas.pipeline import RunSummary
    from spikenas.run.artifacts import load_integer_model, load_model
    from spikenas.run.search_study import SearchSummary
    from spikenas.search.trial import Trial
    from spikenas.snn.train_config import TrainConfig
    from spikenas.space.space import load_space

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "Cost",
    "Dataset",
    "Graph",
    "InputError",
    "IntegerModel",
    "Model",
    "NothingFits",
    "RunSummary",
    "SearchSummary",
    "SpikenasError",
    "TrainConfig",
    "Trial",
    "estimate",
    "evaluate",
    "export",
    "load",
    "load_integer_model",
    "load_model",
    "load_space",
    "load_target",
    "quantize",
    "search",
    "train",
    "verify",
]

HOMES = {
    "Budget": "cost.budget.Budget",
    "Cost": "cost.cost.Cost",
    "Dataset": "data.datasets.Dataset",
    "Graph": "graph.Graph",
    "InputError": "errors.InputError",
    "IntegerModel": "model.IntegerModel",
    "Model": "model.Model",
    "NothingFits": "errors.NothingFits",
    "RunSummary": "pipeline.RunSummary",
    "SearchSummary": "run.search_study.SearchSummary",
    "SpikenasError": "errors.SpikenasError",
    "TrainConfig": "snn.train_config.TrainConfig",
    "Trial": "search.trial.Trial",
    "estimate": "cost.cost.estimate",
    "evaluate": "api.evaluate",
    "export": "api.export",
    "load": "data.datasets.load_dataset",
    "load_integer_model": "run.artifacts.load_integer_model",
    "load_model": "run.artifacts.load_model",
    "load_space": "space.space.load_space",
    "load_target": "cost.target.load_target",
    "quantize": "api.quantize",
    "search": "api.search",
    "train": "api.train",
    "verify": "api.verify",
}

# Python gives a package the names of its rooms when these are first imported: `search` is to remain the verb.
import_module("spikenas.search")
del globals()["search"]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'spikenas' has no attribute '{name}'")
    home, _, attribute = HOMES[name].rpartition(".")
    value = globals()[name] = getattr(import_module(f"spikenas.{home}"), attribute)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
