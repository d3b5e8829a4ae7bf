"""The server behind Ray Serve: run by `make test-ray`, in an environment of its own."""
