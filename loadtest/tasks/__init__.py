"""What the load test alone needs of a task: how accuracy is asked for over the wire, and how flips are shown."""
