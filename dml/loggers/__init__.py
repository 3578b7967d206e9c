"""What follows a run beside history.csv and steps.csv, which every run has; one file for each.

A logger is made with ``run``, a `FollowedRun`, and what its YAML in configs/logger/ says. None of them takes a place to
write to from its YAML, which may be a stranger's: it is the run folder, or what the variables of the service say.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
