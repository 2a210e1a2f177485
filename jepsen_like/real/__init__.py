"""Real processes under load while their cluster changes: grown, led by turns, replaced, caught up."""

from .load import Load, Report
from .processes import Fleet, FleetFailed
from .scenes import catch_up, grow, move_leaders, replace

__all__ = ["Fleet", "FleetFailed", "Load", "Report", "catch_up", "grow", "move_leaders", "replace"]
