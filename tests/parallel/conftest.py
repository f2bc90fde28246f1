"""How gradients may be reduced."""

import pytest


@pytest.fixture(params=["after", "during", "during, small buckets"])
def mode(request, monkeypatch):
    """Every fact holds whether gradients are reduced after backward() or during it."""
    monkeypatch.setenv("DISTDL_OVERLAP", str(int("during" in request.param)))
    monkeypatch.setenv("DISTDL_BUCKET_BYTES", "256" if "small" in request.param else "1000")
