"""What a supervisor and its worker tell each other, over the socket that is between them as long as both live.

A line each. The worker reports, in JSON, `[kind, what]`:

    listening  null             its port answers
    loaded     [ready, failed]  start-up loading has finished
    refused    "why"            the settings cannot be carried out; it ends
    reading    families | null  its metrics (`server.workers.aggregate.dump`), once for each READ

The supervisor asks, in one word: READ, or DRAIN. The end of the socket tells either that the other is gone.
"""

READ, DRAIN = b"read\n", b"drain\n"

LONGEST = 2**28
"""Bytes of one line; a reading has about 100 for each series."""
