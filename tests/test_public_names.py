"""The public names: what is listed can be imported, what can be imported from the top is listed."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import partnerml

PACKAGES = ("config", "ecosystem", "features", "models", "outreach", "report", "routing", "synthetic", "cli")


def test_public_names_are_sorted_and_unique() -> None:
    assert list(partnerml.__all__) == sorted(set(partnerml.__all__))


@pytest.mark.parametrize("name", partnerml.__all__)
def test_public_name_resolves(name: str) -> None:
    assert getattr(partnerml, name) is not None


def test_dir_lists_the_public_names() -> None:
    assert dir(partnerml) == sorted(partnerml.__all__)


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'scoer'.*score"):
        partnerml.__getattr__("scoer")


def test_public_classes_know_their_documentation() -> None:
    public = [getattr(partnerml, name) for name in partnerml.__all__]
    bare = [thing for thing in public if callable(thing) and not inspect.getdoc(thing)]
    assert not bare


@pytest.mark.parametrize("package", PACKAGES)
def test_package_lists_what_it_hands_out(package: str) -> None:
    module = importlib.import_module(f"partnerml.{package}")
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert not missing
    submodules = {found.name for found in pkgutil.iter_modules(module.__path__)}
    handed_out = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and name not in submodules
        and getattr(value, "__module__", "").startswith(module.__name__)
    }
    assert handed_out <= set(module.__all__)
