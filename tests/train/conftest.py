import pytest
import torch

from omni_ray.train import token_store
from tests.train import small


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> token_store.Ready:
    return small.make_store(tmp_path_factory.mktemp("store"))
