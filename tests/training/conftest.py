import contextlib

import pytest

from dfd_core.training.trainer import Trainer


@pytest.fixture(autouse=True)
def closed(monkeypatch):
    """Ends every trainer that a test has begun, as a job does."""
    begun = []
    begin = Trainer.begin
    monkeypatch.setattr(Trainer, "begin", lambda self: (begun.append(self), begin(self))[1])
    yield
    for trainer in begun:
        with contextlib.suppress(ValueError):  # the test has ended it
            trainer.end()
