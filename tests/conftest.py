"""What holds for the whole suite.

A suite that is started in the background (`make test &`, nohup) inherits SIGINT as ignored, and so would every program
that it starts. With a handler of its own, its children begin with the default: https://docs.python.org/3/library/signal.html
"""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
