"""What this server calls itself: in ServerMetadata, and in `pareto_build_info`."""

from protos.support.machine import versions

NAME = "paretoserve"
VERSION = versions(NAME).get(NAME, "unknown")  # run from a checkout
