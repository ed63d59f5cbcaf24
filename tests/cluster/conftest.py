"""UMAP compiles itself for seconds when it is first used; only the tests that are about it go without this."""

import pytest

from foveal.cluster import methods


@pytest.fixture(autouse=True, scope="session")
def without_umap():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "umap_is_installed", lambda: False)
        yield patch
