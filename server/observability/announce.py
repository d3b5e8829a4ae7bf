"""What the log says at the start, in words that people and programs wait for; once, however many workers there are."""

import logging

from server.execution.threads import Plan

logger = logging.getLogger(__name__)


def serving(plan: Plan, grpc: str, metrics: str) -> None:
    """The ports answer, and loading begins."""
    logger.info("plan: %s", plan)
    logger.info("serving grpc=%s metrics=%s", grpc, metrics)


def loaded(ready: int, failed: int) -> None:
    """Start-up loading has finished."""
    logger.info("%d variants are READY, %d FAILED", ready, failed)
