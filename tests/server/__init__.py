"""Tests of the server: units, and a real process over real sockets."""
