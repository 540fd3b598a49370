"""Many independent problems in one call."""

from .sweep import sweep as sweep
