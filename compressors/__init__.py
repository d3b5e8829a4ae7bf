"""The offline stage: turns one model into variants and measures each with the adapter that will serve it."""

from protos.support.makers import tell_nothing

tell_nothing()
