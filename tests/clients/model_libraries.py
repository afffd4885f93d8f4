"""Stands in for the libraries that LLM Guard loads models with, which take gigabytes.

LLM Guard imports them whatever scanner is used, and asks torch for its device while it does. A
scanner that needs a model fails with these; one that needs none is the real one.
"""

import importlib.abc
import importlib.machinery
import sys
import types

ABSENT = ("torch", "transformers", "spacy")


class Registry(type):
    """A class whose attributes are registries of functions: they decorate, and keep nothing."""

    def __getattr__(cls, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_names: lambda function: function


class Module(types.ModuleType):
    """Has every class that is asked for, none of which does anything."""

    __path__: list = []

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return Registry(name, (), {})


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, _path, _target=None):
        if name.partition(".")[0] in ABSENT:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return Module(spec.name)

    def exec_module(self, module):
        if module.__name__ == "torch":
            no = types.SimpleNamespace(is_available=lambda: False)
            module.cuda, module.backends = no, types.SimpleNamespace(mps=no)
            module.device = str
            module.no_grad = lambda: lambda function: function


def stand_in() -> None:
    sys.meta_path.insert(0, Finder())
