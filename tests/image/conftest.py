"""The images under test, built once; from layers that are there already in seconds."""

from __future__ import annotations

import pytest

from images.build import ImageError, find_tool
from tests.image.shop import Shop


@pytest.fixture(scope="session")
def shop() -> Shop:
    try:
        return Shop(find_tool())
    except ImageError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def operator(shop: Shop) -> str:
    return shop.build("operator")


@pytest.fixture(scope="session")
def torch(shop: Shop) -> str:
    return shop.build("torch")


@pytest.fixture(scope="session")
def trainer(shop: Shop, torch: str) -> str:
    return shop.build("trainer")
