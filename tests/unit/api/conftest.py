import pytest

from served import Served


@pytest.fixture
def served() -> Served:
    return Served()
